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
// SentencePiece replaces the longest prefix that has a rule, again and again. The tokenizers
// library takes one grapheme cluster at a time, and so does Normalize: a cluster below six bytes is
// replaced as a whole by what its shortest prefix with a rule stands for; of others each character
// by itself.
class PrecompiledCharsmap {
 public:
  // No rules.
  PrecompiledCharsmap() = default;

  // INVALID_ARGUMENT for what is too short, or not UTF-8; and for what is not base64.
  static absl::StatusOr<PrecompiledCharsmap> Create(absl::string_view bytes);
  static absl::StatusOr<PrecompiledCharsmap> FromBase64(absl::string_view base64);

  absl::Status Normalize(NormalizedString& string) const;

  struct Match {
    size_t length = 0;  // of the prefix, in bytes
    absl::string_view replacement;
  };
  // The longest prefix of `text` that has a rule; nothing if there is none.
  std::optional<Match> LongestPrefix(absl::string_view text) const;

 private:
  // Calls `visit(length, replacement)` for each prefix of `text` that has a rule, the shortest
  // first, until it returns false.
  template <typename Visit>
  void VisitPrefixes(absl::string_view text, Visit visit) const;

  // What the shortest prefix of `text` that has a rule is replaced by; nothing if there is none.
  std::optional<absl::string_view> Find(absl::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_PRECOMPILED_CHARSMAP_H_
