#ifndef ATTENDANT_CLIENT_CLI_ATTENTION_PROBLEM_H_
#define ATTENDANT_CLIENT_CLI_ATTENTION_PROBLEM_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "attendant/v1/attend.pb.h"
#include "client/tensor.h"

namespace attendant::client {

// Projections of a multi-head attention layer, as in LayerAttention: y = x·Wᵀ + b.
struct LayerWeights {
  int num_heads = 1;
  FloatTensor w_q, w_k, w_v, w_o;
  FloatTensor b_q, b_k, b_v, b_o;
};

// Something to ask Attend for, that can also be computed here.
struct AttentionProblem {
  // Without a layer: [heads, q_len, d], [kv_heads, kv_len, d] and [kv_heads, kv_len, value_d].
  // With one: [q_len, d_model], and key and value are empty: self-attention.
  FloatTensor query, key, value;
  std::optional<LayerWeights> layer;
  // Added to the scores; broadcast to [heads, q_len, kv_len] from its right.
  std::optional<FloatTensor> mask;
  bool causal = false;
  std::optional<float> scale;
  std::optional<int32_t> sliding_window;
};

// A problem with values from a normal distribution; of a layer, if `has_layer`, with weights that
// keep the variance.
AttentionProblem RandomAttention(int heads, int kv_heads, int length, int dim, bool has_layer,
                                 uint64_t seed);

v1::AttendRequest ToRequest(const AttentionProblem& problem, bool return_weights);

struct AttentionAnswer {
  FloatTensor output;
  FloatTensor weights;
};

// The meaning of the problem: the formula as plain loops in double precision. INVALID_ARGUMENT if
// the shapes do not go together, or have a batch axis.
absl::StatusOr<AttentionAnswer> Solve(const AttentionProblem& problem);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_ATTENTION_PROBLEM_H_
