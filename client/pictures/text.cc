#include "client/pictures/text.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "utf8proc.h"

namespace attendant::client {
namespace {

// A code point and the bytes that spell it; -1 for a byte that is not UTF-8.
struct Character {
  int32_t code;
  absl::string_view bytes;
};

Character DecodeFirst(absl::string_view text) {
  int32_t code;
  const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const uint8_t*>(text.data()),
                                                   static_cast<ssize_t>(text.size()), &code);
  if (length <= 0) return {-1, text.substr(0, 1)};
  return {code, text.substr(0, length)};
}

std::vector<Character> Characters(absl::string_view text) {
  std::vector<Character> characters;
  while (!text.empty()) {
    characters.push_back(DecodeFirst(text));
    text.remove_prefix(characters.back().bytes.size());
  }
  return characters;
}

// Controls, ends of lines, and marks that turn the direction of what follows: U+200E, U+200F,
// U+202A to U+202E and U+2066 to U+2069.
bool IsControl(int32_t code) {
  const utf8proc_category_t category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP || code == 0x200e || code == 0x200f ||
         (0x202a <= code && code <= 0x202e) || (0x2066 <= code && code <= 0x2069);
}

}  // namespace

std::string Printable(absl::string_view text) {
  std::string result;
  for (const Character& character : Characters(text)) {
    if (character.code == '\n') {
      result += "\\n";
    } else if (character.code == '\t') {
      result += "\\t";
    } else if (character.code < 0) {
      absl::StrAppendFormat(&result, "\\x%02x", static_cast<uint8_t>(character.bytes[0]));
    } else if (IsControl(character.code) && character.code < 0x80) {
      absl::StrAppendFormat(&result, "\\x%02x", character.code);
    } else if (IsControl(character.code)) {
      absl::StrAppendFormat(&result, "\\u%04x", character.code);
    } else {
      absl::StrAppend(&result, character.bytes);
    }
  }
  return result;
}

std::string Shortened(absl::string_view text, int width) {
  if (WidthOf(text) <= width) return std::string(text);
  std::string result;
  int column = 0;
  for (const Character& character : Characters(text)) {
    column += WidthOf(character.bytes);
    if (column >= width) break;
    absl::StrAppend(&result, character.bytes);
  }
  return result + "…";
}

std::string Padded(absl::string_view text, int width, bool to_right) {
  const std::string padding(std::max(0, width - WidthOf(text)), ' ');
  return to_right ? absl::StrCat(padding, text) : absl::StrCat(text, padding);
}

int WidthOf(absl::string_view text) {
  int width = 0;
  for (const Character& character : Characters(text)) {
    width += character.code < 0 ? 1 : utf8proc_charwidth(character.code);
  }
  return width;
}

std::vector<std::string> SplitCharacters(absl::string_view text) {
  std::vector<std::string> characters;
  for (const Character& character : Characters(text)) {
    if (characters.empty() || WidthOf(character.bytes) > 0) {
      characters.emplace_back(character.bytes);
    } else {
      absl::StrAppend(&characters.back(), character.bytes);
    }
  }
  return characters;
}

absl::string_view FirstCharacter(absl::string_view text) { return DecodeFirst(text).bytes; }

bool IsLetter(absl::string_view text) {
  switch (utf8proc_category(DecodeFirst(text).code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool IsLowerCase(absl::string_view text) {
  return utf8proc_category(DecodeFirst(text).code) == UTF8PROC_CATEGORY_LL;
}

std::string JsonString(absl::string_view text) {
  std::string json = "\"";
  for (const Character& character : Characters(text)) {
    const int32_t code = character.code;
    if (code < 0) {
      json += "\\ufffd";
    } else if (code == '"' || code == '\\') {
      absl::StrAppend(&json, "\\", character.bytes);
    } else if (code < 0x20 || code == 0x7f || code == '<' || code == '>' || code == '&' ||
               code == 0x2028 || code == 0x2029) {
      absl::StrAppendFormat(&json, "\\u%04x", code);
    } else {
      absl::StrAppend(&json, character.bytes);
    }
  }
  return json + "\"";
}

}  // namespace attendant::client
