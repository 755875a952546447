#include "engine/text_index.h"

namespace attendant::engine {

TextIndex::TextIndex(absl::string_view text) : code_points_(text.size() + 1) {
  int32_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    code_points_[i] = count;
    // The last byte of a character is followed by none that continues it.
    const bool ends =
        i + 1 == text.size() || (static_cast<unsigned char>(text[i + 1]) & 0xc0) != 0x80;
    if (ends) ++count;
  }
  code_points_[text.size()] = count;
}

TextSpan TextIndex::Span(TextRange range) const {
  return {.byte_begin = range.begin,
          .byte_end = range.end,
          .char_begin = code_points_[range.begin],
          .char_end = code_points_[range.end]};
}

}  // namespace attendant::engine
