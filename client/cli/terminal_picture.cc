#include "client/cli/terminal_picture.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/terminal.h"
#include "client/pictures/color_ramp.h"
#include "client/pictures/text.h"

namespace attendant::client {
namespace {

constexpr size_t kMaxMaps = 4;
constexpr size_t kMaxRows = 64;
constexpr int kMaxLabelWidth = 18;
constexpr int kMaxHeaderHeight = 10;

// How a map is laid out: columns of the screen for each key.
struct Layout {
  int label_width = 0;
  int cell_width = 0;
  size_t num_keys = 0;  // that there is room for
  bool has_numbers() const { return cell_width >= 3; }
};

Layout FitTo(const AttentionPicture& picture, int width) {
  Layout layout;
  for (size_t i = 0; i < std::min(picture.queries.size(), kMaxRows); ++i)
    layout.label_width = std::max(layout.label_width, WidthOf(picture.queries[i]));
  layout.label_width = std::min(layout.label_width, kMaxLabelWidth);
  const int room = std::max(8, width - layout.label_width - 3);
  const int num_keys = static_cast<int>(std::min<size_t>(picture.keys.size(), 1 << 16));
  for (const int cell_width : {4, 3, 2, 1}) {
    layout.cell_width = cell_width;
    if (num_keys * cell_width <= room) break;
  }
  layout.num_keys = std::min(num_keys, room / layout.cell_width);
  return layout;
}

// The keys above their columns, written downwards; the last characters stand on the map.
void PrintHeader(const AttentionPicture& picture, const Layout& layout) {
  if (layout.cell_width < 2) return;
  std::vector<std::vector<std::string>> columns;
  size_t height = 0;
  for (size_t key = 0; key < layout.num_keys; ++key) {
    columns.push_back(SplitCharacters(Shortened(picture.keys[key], kMaxHeaderHeight)));
    height = std::max(height, columns.back().size());
  }
  for (size_t line = 0; line < height; ++line) {
    std::string text(layout.label_width + 1, ' ');
    for (const auto& column : columns) {
      const size_t first = height - column.size();
      const std::string character = line < first ? " " : column[line - first];
      text += Padded(Padded(character, layout.cell_width - (layout.has_numbers() ? 1 : 0), true),
                     layout.cell_width);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    std::cout << Dim(text) << "\n";
  }
}

std::string Cell(float weight, float largest, const Layout& layout) {
  const double level = LevelOf(weight, largest);
  if (layout.has_numbers()) {
    const std::string text =
        weight < 0.005f ? Padded("·", layout.cell_width - 1, true) + " "
                        : absl::StrFormat("%*d ", layout.cell_width - 1, std::lround(100 * weight));
    return weight == 0 ? Dim(text) : Shaded(text, level);
  }
  if (HasColor()) return Shaded(std::string(layout.cell_width, ' '), level);
  static constexpr const char* kShades[] = {"·", "░", "▒", "▓", "█"};
  const int shade = std::clamp(static_cast<int>(level * std::size(kShades)), 0,
                               static_cast<int>(std::size(kShades)) - 1);
  std::string text;
  for (int i = 0; i < layout.cell_width; ++i) text += kShades[shade];
  return text;
}

}  // namespace

void DrawInTerminal(const AttentionPicture& picture) {
  const float largest = picture.Largest();
  const Layout layout = FitTo(picture, TerminalWidth());
  const size_t num_maps = picture.layers.size() * picture.heads.size();
  std::cout << Bold(picture.title)
            << Dim(absl::StrCat("  ", picture.subtitle, layout.has_numbers() ? "; in percent" : ""))
            << "\n";
  for (size_t i = 0; i < std::min(num_maps, kMaxMaps); ++i) {
    const size_t layer = i / picture.heads.size();
    const size_t head = i % picture.heads.size();
    if (const std::string name = picture.NameOf(layer, head); !name.empty())
      std::cout << Bold(name) << "\n";
    PrintHeader(picture, layout);
    const absl::Span<const float> map = picture.Map(layer, head);
    for (size_t query = 0; query < std::min(picture.queries.size(), kMaxRows); ++query) {
      std::cout << Padded(Shortened(picture.queries[query], kMaxLabelWidth), layout.label_width,
                          true)
                << " ";
      for (size_t key = 0; key < layout.num_keys; ++key)
        std::cout << Cell(map[query * picture.keys.size() + key], largest, layout);
      std::cout << (layout.num_keys < picture.keys.size() ? "…" : "") << "\n";
    }
    if (picture.queries.size() > kMaxRows) {
      std::cout << Dim(absl::StrCat("… ", picture.queries.size() - kMaxRows, " more queries"))
                << "\n";
    }
  }
  if (num_maps > kMaxMaps)
    std::cout << Dim(absl::StrCat("… ", num_maps - kMaxMaps, " more maps")) << "\n";
}

}  // namespace attendant::client
