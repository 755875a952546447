#ifndef ATTENDANT_ENGINE_TOKENIZER_NORMALIZERS_H_
#define ATTENDANT_ENGINE_TOKENIZER_NORMALIZERS_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/normalized_string.h"

namespace attendant::engine {

// The first stage: rewrites the text, one part of the text between added tokens at a time.
// Immutable; any thread.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  // INVALID_ARGUMENT if the text grows beyond its limit, or a regular expression fails on it.
  virtual absl::Status Normalize(NormalizedString& string) const = 0;
};

// The normalizer that `json` describes. UNIMPLEMENTED names a type that is not known.
absl::StatusOr<std::unique_ptr<Normalizer>> CreateNormalizer(const JsonValue& json);

// The settings of BERT's normalizer.
struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};
std::unique_ptr<Normalizer> CreateBertNormalizer(const BertNormalizerOptions& options);

// `parts`, one after the other.
std::unique_ptr<Normalizer> CreateNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> parts);

// SentencePiece's: `prefix` before the text unless it is empty, and U+2581 for each space.
std::unique_ptr<Normalizer> CreateSpaceEscapingNormalizer(bool add_prefix);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_NORMALIZERS_H_
