#ifndef ATTENDANT_ENGINE_TOKENIZER_PRECOMPILED_CHARSMAP_H_
#define ATTENDANT_ENGINE_TOKENIZER_PRECOMPILED_CHARSMAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/normalized_string.h"

namespace attendant::engine {

// SentencePiece's normalization rules, as a model carries them: a Darts double array over the bytes
// of what is to be replaced, whose values are offsets into a pool of zero-terminated replacements.
//
// The reference library applies them to one grapheme cluster at a time, and so does this: a cluster
// below six bytes is replaced as a whole by what its shortest prefix with a rule stands for; of
// others each character by itself.
class PrecompiledCharsmap {
 public:
  // INVALID_ARGUMENT for what is not base64, too short, or not UTF-8.
  static absl::StatusOr<PrecompiledCharsmap> FromBase64(absl::string_view base64);

  absl::Status Normalize(NormalizedString& string) const;

 private:
  // What the shortest prefix of `text` that has a rule is replaced by; nothing if there is none.
  std::optional<absl::string_view> Find(absl::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_PRECOMPILED_CHARSMAP_H_
