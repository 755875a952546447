#ifndef ATTENDANT_ENGINE_TOKENIZER_UNIGRAM_H_
#define ATTENDANT_ENGINE_TOKENIZER_UNIGRAM_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/model.h"

namespace attendant::engine {

// The cut of a piece into tokens whose scores have the largest sum (Kudo, 2018), found by Viterbi's
// algorithm. A character that no token starts with is unknown, at a penalty; neighbours that are
// unknown become one token, or, with byte_fallback, one token for each of their bytes.
absl::StatusOr<std::unique_ptr<Model>> CreateUnigram(const JsonValue& json);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_UNIGRAM_H_
