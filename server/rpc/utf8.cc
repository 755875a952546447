#include "server/rpc/utf8.h"

#include <cstdint>
#include <cstring>

namespace attendant::server {
namespace {

// Bytes of the character at the start of `text`; 0 if it is not one.
size_t CharacterLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xed && byte(1) >= 0xa0;
  const bool too_large = lead == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

size_t ValidUtf8Prefix(absl::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    uint64_t eight;
    if (position + sizeof(eight) <= text.size()) {
      std::memcpy(&eight, text.data() + position, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {
        position += sizeof(eight);
        continue;
      }
    }
    const size_t length = CharacterLength(text.substr(position));
    if (length == 0) return position;
    position += length;
  }
  return position;
}

std::string ToValidUtf8(std::string text) {
  size_t valid = ValidUtf8Prefix(text);
  if (valid == text.size()) return text;
  std::string repaired;
  absl::string_view rest = text;
  while (valid < rest.size()) {
    repaired.append(rest.data(), valid);
    repaired += "\xef\xbf\xbd";
    rest.remove_prefix(valid + 1);
    valid = ValidUtf8Prefix(rest);
  }
  repaired.append(rest.data(), rest.size());
  return repaired;
}

}  // namespace attendant::server
