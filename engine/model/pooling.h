#ifndef ATTENDANT_ENGINE_MODEL_POOLING_H_
#define ATTENDANT_ENGINE_MODEL_POOLING_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/checkpoint.h"

namespace attendant::engine {

enum class PoolingKind : uint8_t { kMean, kCls, kMax, kLastToken, kNone };

// How a model folder turns token vectors into one: sentence-transformers' modules.json,
// 1_Pooling/config.json, config_sentence_transformers.json (named prompts),
// sentence_bert_config.json (max_seq_length).
struct SentenceConfig {
  PoolingKind pooling = PoolingKind::kMean;
  bool normalize = false;
  std::optional<int32_t> max_tokens;
  std::map<std::string, std::string> prompts;
  std::string default_prompt_name;
};

// Mean pooling, not normalized, for a folder that says nothing. INVALID_ARGUMENT for malformed
// files; UNIMPLEMENTED names modules or pooling modes that are not read.
absl::StatusOr<SentenceConfig> ReadSentenceConfig(const Checkpoint& checkpoint);

// tokens [num_tokens, hidden_size] of one sequence, num_tokens >= 1 -> out [1, hidden_size] (kNone:
// [num_tokens, ..]).
void Pool(PoolingKind kind, ConstMatrix tokens, Matrix out);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_POOLING_H_
