#include "client/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/flags.h"

namespace attendant::client {
namespace {

std::string Styled(absl::string_view style, absl::string_view text) {
  if (!HasColor()) return std::string(text);
  return absl::StrCat("\x1b[", style, "m", text, "\x1b[0m");
}

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

}  // namespace

bool HasColor() {
  const std::string color = absl::GetFlag(FLAGS_color);
  if (color != "auto") return color == "always";
  static const bool is_terminal = isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  return is_terminal;
}

std::string Bold(absl::string_view text) { return Styled("1", text); }
std::string Dim(absl::string_view text) { return Styled("2", text); }

std::string Shaded(absl::string_view text, double level) {
  // From the dark end of the palette's blues to white; black text on the light half.
  static constexpr int kColors[] = {234, 17, 18, 24, 25, 31, 38, 74, 117, 153, 231};
  static constexpr int kLast = std::size(kColors) - 1;
  const int index = static_cast<int>(std::clamp(level, 0.0, 1.0) * kLast + 0.5);
  return Styled(absl::StrCat("48;5;", kColors[index], ";38;5;", 2 * index > kLast ? 16 : 250),
                text);
}

std::string Printable(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&result, "\\x%02x", static_cast<uint8_t>(c));
    } else {
      result += c;
    }
  }
  return result;
}

std::string Shortened(absl::string_view text, int width) {
  if (WidthOf(text) <= width) return std::string(text);
  size_t end = 0;
  for (int column = 0; column < width; ++column) {
    ++end;
    while (end < text.size() && IsContinuation(text[end])) ++end;
    if (column + 2 == width) break;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

int WidthOf(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); });
}

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
      const std::string padding(widths[i] - WidthOf(row[i]), ' ');
      if (i > 0) line += "  ";
      if (alignment_[i] == 'r') line += padding;
      line += row[i];
      if (alignment_[i] == 'l' && i + 1 < row.size()) line += padding;
    }
    std::cout << (&row == &rows_.front() ? Dim(line) : line) << "\n";
  }
}

}  // namespace attendant::client
