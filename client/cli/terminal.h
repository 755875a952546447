#ifndef ATTENDANT_CLIENT_CLI_TERMINAL_H_
#define ATTENDANT_CLIENT_CLI_TERMINAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/pictures/text.h"
#include "google/protobuf/duration.pb.h"

namespace attendant::client {

// Text in colour if --color and the terminal say so, else as it is.
std::string Bold(absl::string_view text);
std::string Dim(absl::string_view text);

// Text on a background that is the brighter the nearer `level` is to 1, in 24 bits where $COLORTERM
// says that the terminal has them. Without colour: the text alone.
std::string Shaded(absl::string_view text, double level);

// Whether standard output takes colours.
bool HasColor();

// Columns of the terminal on standard output; 100 if it is none.
int TerminalWidth();

// A bar of `fraction` of `width` columns, in eighths of a column.
std::string Bar(double fraction, int width);

// 12.3 %
std::string InPercent(double fraction);

// 22,713,216
std::string WithSeparators(int64_t number);
// 45.4 MB
std::string InBytes(int64_t bytes);
// 22.7 M
std::string InMillions(int64_t number);
// 12.3 ms
std::string InTime(absl::Duration duration);
absl::Duration ToDuration(const google::protobuf::Duration& duration);

// Columns as wide as they need to be. Cells hold plain text of one line.
class Table {
 public:
  // How a column stands: "l" or "r" for each of them.
  Table(absl::string_view alignment, std::vector<std::string> header);

  void AddRow(std::vector<std::string> cells);

  // Prints header and rows to standard output.
  void Print() const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;  // The first one is the header.
};

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_TERMINAL_H_
