#include "client/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/flags.h"
#include "client/pictures/color_ramp.h"

namespace attendant::client {
namespace {

std::string Styled(absl::string_view style, absl::string_view text) {
  if (!HasColor()) return std::string(text);
  return absl::StrCat("\x1b[", style, "m", text, "\x1b[0m");
}

}  // namespace

bool HasColor() {
  const std::string color = absl::GetFlag(FLAGS_color);
  if (color != "auto") return color == "always";
  static const bool is_wanted = [] {
    const char* no_color = std::getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0');
  }();
  return is_wanted;
}

std::string Bold(absl::string_view text) { return Styled("1", text); }
std::string Dim(absl::string_view text) { return Styled("2", text); }

std::string Shaded(absl::string_view text, double level) {
  static const bool has_true_color = [] {
    const char* depth = std::getenv("COLORTERM");
    return depth != nullptr &&
           (absl::string_view(depth) == "truecolor" || absl::string_view(depth) == "24bit");
  }();
  if (has_true_color) {
    const Rgb color = ColorOf(kDarkRamp, level);
    return Styled(absl::StrFormat("48;2;%d;%d;%d;38;5;%d", color.red, color.green, color.blue,
                                  IsBright(color) ? 16 : 255),
                  text);
  }
  // The same from the palette of 256.
  static constexpr int kColors[] = {234, 17, 18, 24, 25, 31, 38, 74, 117, 153, 230};
  static constexpr int kLast = std::size(kColors) - 1;
  const int index = static_cast<int>(std::lround(std::clamp(level, 0.0, 1.0) * kLast));
  return Styled(absl::StrCat("48;5;", kColors[index], ";38;5;", 2 * index > kLast ? 16 : 255),
                text);
}

int TerminalWidth() {
  static constexpr int kDefault = 100;
  winsize size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefault;
  return size.ws_col;
}

std::string Bar(double fraction, int width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * 8 * width));
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  return bar + kEighths[eighths % 8];
}

std::string InPercent(double fraction) { return absl::StrFormat("%.1f %%", 100 * fraction); }

std::string WithSeparators(int64_t number) {
  std::string digits = absl::StrCat(number);
  const int first = number < 0 ? 1 : 0;
  for (int i = static_cast<int>(digits.size()) - 3; i > first; i -= 3) digits.insert(i, ",");
  return digits;
}

std::string InBytes(int64_t bytes) {
  if (bytes >= 1'000'000'000) return absl::StrFormat("%.2f GB", bytes / 1e9);
  return absl::StrFormat("%.1f MB", bytes / 1e6);
}

std::string InMillions(int64_t number) {
  if (number >= 1'000'000'000) return absl::StrFormat("%.2f B", number / 1e9);
  if (number >= 100'000) return absl::StrFormat("%.1f M", number / 1e6);
  return WithSeparators(number);
}

std::string InTime(absl::Duration duration) {
  if (duration >= absl::Seconds(1))
    return absl::StrFormat("%.2f s", absl::ToDoubleSeconds(duration));
  return absl::StrFormat("%.1f ms", absl::ToDoubleMilliseconds(duration));
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

Table::Table(absl::string_view alignment, std::vector<std::string> header)
    : alignment_(alignment), rows_{std::move(header)} {}

void Table::AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

void Table::Print() const {
  std::vector<int> widths(alignment_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], WidthOf(row[i]));
  }
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      const bool is_last = i + 1 == row.size() && alignment_[i] == 'l';
      line += is_last ? row[i] : Padded(row[i], widths[i], alignment_[i] == 'r');
    }
    std::cout << (&row == &rows_.front() ? Dim(line) : line) << "\n";
  }
}

}  // namespace attendant::client
