#ifndef ATTENDANT_ENGINE_TOKENIZER_BYTE_LEVEL_H_
#define ATTENDANT_ENGINE_TOKENIZER_BYTE_LEVEL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/tokenizer/normalized_string.h"

namespace attendant::engine {

// GPT-2's alphabet: a printable character for each byte. Printable ASCII and Latin-1 stand for
// themselves, the others are U+0100 and up; a space is U+0120.
char32_t ByteToChar(uint8_t byte);

// The byte that `c` stands for, or -1.
int CharToByte(char32_t c);

// Rewrites each byte of `string` as its character.
absl::Status WriteBytesAsChars(NormalizedString& string);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_BYTE_LEVEL_H_
