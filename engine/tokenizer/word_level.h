#ifndef ATTENDANT_ENGINE_TOKENIZER_WORD_LEVEL_H_
#define ATTENDANT_ENGINE_TOKENIZER_WORD_LEVEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/model.h"

namespace attendant::engine {

// Each piece is a token, or unknown.
absl::StatusOr<std::unique_ptr<Model>> CreateWordLevel(const JsonValue& json);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_WORD_LEVEL_H_
