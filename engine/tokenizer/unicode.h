#ifndef ATTENDANT_ENGINE_TOKENIZER_UNICODE_H_
#define ATTENDANT_ENGINE_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

// UTF-8, and the character properties that tokenizers ask for.
//
// The properties are those of the reference library (tokenizers 0.22), which takes them from tables
// of several Unicode versions: 8 and 9 for categories and normalization, 16 and 17 elsewhere. They
// come from utf8proc, and where the versions differ from the lists in unicode.cc.
namespace attendant::engine::unicode {

bool IsValidUtf8(absl::string_view text);

// Bytes of the character that starts with `lead`, in valid UTF-8.
inline size_t CharLength(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character at `position` of valid UTF-8; moves `position` behind it.
inline char32_t Next(absl::string_view text, size_t& position) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + position;
  const size_t length = CharLength(text[position]);
  position += length;
  switch (length) {
    case 1:
      return bytes[0];
    case 2:
      return (bytes[0] & 0x1Fu) << 6 | (bytes[1] & 0x3Fu);
    case 3:
      return (bytes[0] & 0x0Fu) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
    default:
      return (bytes[0] & 0x07u) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 |
             (bytes[3] & 0x3Fu);
  }
}

inline bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

// Where the last character of `text` starts, which is not empty.
inline size_t LastBegin(absl::string_view text) {
  size_t position = text.size() - 1;
  while (IsContinuation(text[position])) --position;
  return position;
}

int64_t CountChars(absl::string_view text);

void Append(char32_t c, std::string& text);

// Takes all the bytes of `bytes` that are certain: whole characters, and U+FFFD for each maximal
// part of an ill-formed one. What may yet become a character stays in `bytes`, unless `at_end`.
void TakeLossy(std::string& bytes, bool at_end, std::string& text);

// Property sets, by code point.
bool IsWhitespace(char32_t c);      // White_Space
bool IsNumeric(char32_t c);         // category N
bool IsPunctuation(char32_t c);     // category P, or ASCII punctuation
bool IsControl(char32_t c);         // category Cc, Cf or Co
bool IsNonspacingMark(char32_t c);  // category Mn
bool IsMark(char32_t c);            // category M
bool IsWord(char32_t c);            // what \w matches: Alphabetic, M, Nd, Pc, Join_Control

// Writes the one or two lowercase characters of `c`, and returns how many.
int ToLower(char32_t c, char32_t out[2]);

// The full decomposition of `c`, at most 18 characters; returns how many. `c` itself if it has
// none.
int Decompose(char32_t c, bool compatibility, char32_t out[18]);
uint8_t CombiningClass(char32_t c);
// The character that is canonically equivalent to `a` `b`, if there is one.
std::optional<char32_t> Compose(char32_t a, char32_t b);

// Where the extended grapheme cluster that starts at `position` ends.
size_t GraphemeEnd(absl::string_view text, size_t position);

}  // namespace attendant::engine::unicode

#endif  // ATTENDANT_ENGINE_TOKENIZER_UNICODE_H_
