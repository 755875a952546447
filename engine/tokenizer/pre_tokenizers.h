#ifndef ATTENDANT_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_
#define ATTENDANT_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/normalized_string.h"

namespace attendant::engine {

// The second stage: cuts the text into pieces, which the model encodes each by itself. Immutable;
// any thread.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  // INVALID_ARGUMENT if the text grows beyond its limit, or a regular expression fails on it.
  virtual absl::Status PreTokenize(PreTokenizedString& string) const = 0;
};

// The pre-tokenizer that `json` describes. UNIMPLEMENTED names a type that is not known.
absl::StatusOr<std::unique_ptr<PreTokenizer>> CreatePreTokenizer(const JsonValue& json);

// BERT's: words without the spaces between them, and each punctuation character.
std::unique_ptr<PreTokenizer> CreateBertPreTokenizer();

// GPT-2's: with `use_regex`, words with the space before them; then each byte as one character.
std::unique_ptr<PreTokenizer> CreateByteLevelPreTokenizer(bool add_prefix_space, bool use_regex);

// What `pattern`, a regular expression, matches, and what lies between, are pieces of their own.
absl::StatusOr<std::unique_ptr<PreTokenizer>> CreateSplitPreTokenizer(absl::string_view pattern);

// Digits; each by itself.
std::unique_ptr<PreTokenizer> CreateDigitsPreTokenizer();

// `parts`, one after the other.
std::unique_ptr<PreTokenizer> CreatePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> parts);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_PRE_TOKENIZERS_H_
