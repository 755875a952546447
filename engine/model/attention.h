#ifndef ATTENDANT_ENGINE_MODEL_ATTENTION_H_
#define ATTENDANT_ENGINE_MODEL_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/batch.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/model/architecture.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/model/workspace.h"

namespace attendant::engine {

// The angles of rotary positions, for each pair of values in a head: [head_dim / 2]. Stretched as
// config.rope_scaling says.
std::vector<float> InverseFrequencies(const ModelConfig& config);

// The attention sublayer of every layer of a model: what they share.
class SelfAttention {
 public:
  // `dtype` is what products are computed in. `relative_bias`, as ModelWeights has it, must outlive
  // the sublayer; it keeps no reference to its other arguments.
  SelfAttention(const ArchitectureSpec& spec, const ModelConfig& config, DataType dtype,
                int32_t max_tokens, absl::Span<const float> relative_bias);

  // Takes in the sequences of the step to come; `batch` and `cache` must stay until it is done.
  void Begin(const Batch& batch, KvCache* cache);

  // Instead: the step is the last `num_tokens` of the one sequence of `batch`, whose queries, keys
  // and values, those of its earlier tokens too, are the rows of `query_key_value`.
  void BeginWalk(const Batch& batch, Matrix query_key_value, int32_t num_tokens);

  // residual += attention(input), for layer number `layer`, whose keys and values go into the
  // cache.
  //   input, residual  [num_tokens, hidden_size]; input may be residual
  void Apply(KernelContext& context, const LayerWeights& weights, int32_t layer,
             const InputRows& input, Workspace& workspace, Matrix residual);

  const AttentionOptions& options() const { return options_; }

 private:
  AttentionOptions options_;
  std::vector<float> inverse_frequencies_;  // empty without rotary positions

  // Of the step.
  absl::Span<const int32_t> positions_;
  std::vector<AttentionSequence> sequences_;
  KvCache* cache_ = nullptr;  // null for encoders, and on a walk
  Matrix walked_;             // on a walk: where queries, keys and values stay
};

// The cross-attention sublayer of every layer of a decoder: queries from its own tokens, keys and
// values from the source, which Store puts into the cache once.
class CrossAttention {
 public:
  // As SelfAttention, but without a relative bias.
  CrossAttention(const ArchitectureSpec& spec, const ModelConfig& config, DataType dtype,
                 int32_t max_tokens);

  // Stores the keys and values that layer number `layer` makes of the encoder's hidden states
  // [num_tokens, hidden_size] of `sources`, in their source_blocks.
  void Store(KernelContext& context, const LayerWeights& weights, int32_t layer,
             ConstMatrix encoded, const Batch& sources, KvCache& cache, Workspace& workspace);

  // Takes in the sequences of the step to come; `batch` and `cache` must stay until it is done.
  void Begin(const Batch& batch, KvCache& cache);

  // Of the step's aligned_sequences, in their order: the mean over the heads of what their last
  // tokens gave to their sources in the layer that was applied last.
  ConstMatrix aligned_weights() const { return aligned_weights_; }

  // Instead: the step is some tokens of one sequence, whose queries go to the rows of `query`;
  // `key_value` are the keys and values that the layer makes of its source.
  void BeginWalk(ConstMatrix key_value, Matrix query);

  // residual += attention(input), each sequence over its source.
  //   input, residual  [num_tokens, hidden_size]; input may be residual
  void Apply(KernelContext& context, const LayerWeights& weights, int32_t layer,
             const InputRows& input, Workspace& workspace, Matrix residual);

 private:
  AttentionOptions options_;

  // Of the step.
  std::vector<AttentionSequence> sequences_;
  std::vector<AttentionSequence> aligned_;  // the last tokens of some
  std::vector<float> aligned_values_;
  Matrix aligned_weights_;
  KvCache* cache_ = nullptr;  // null on a walk
  ConstMatrix walked_key_value_;
  Matrix walked_query_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_ATTENTION_H_
