#include "engine/tokenizer/byte_level.h"

#include <array>

#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

struct Alphabet {
  std::array<uint16_t, 256> chars{};
  std::array<int16_t, 0x144> bytes{};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.bytes) byte = -1;
  uint16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    alphabet.chars[byte] = printable ? static_cast<uint16_t>(byte) : next++;
    alphabet.bytes[alphabet.chars[byte]] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

char32_t ByteToChar(uint8_t byte) { return kAlphabet.chars[byte]; }

int CharToByte(char32_t c) { return c < kAlphabet.bytes.size() ? kAlphabet.bytes[c] : -1; }

absl::Status WriteBytesAsChars(NormalizedString& string) {
  Rewriter rewriter(string);
  const std::string text = string.text;
  for (size_t i = 0; i < text.size(); ++i) {
    rewriter.Emit(ByteToChar(static_cast<uint8_t>(text[i])),
                  unicode::IsContinuation(text[i]) ? 1 : 0);
  }
  return rewriter.Finish();
}

}  // namespace attendant::engine
