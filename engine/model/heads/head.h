#ifndef ATTENDANT_ENGINE_MODEL_HEADS_HEAD_H_
#define ATTENDANT_ENGINE_MODEL_HEADS_HEAD_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/architecture.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace attendant::engine {

// What a checkpoint says of hidden states: words for a mask, labels, the ends of an answer. Devlin
// et al., "BERT", 2018, has them all. Logits are computed for the rows that somebody wants and a
// bounded number of values at a time, in memory of its own, so that a vocabulary times a batch is
// never there.
//
// For the thread that owns the KernelContext.
class Head {
 public:
  Head(HeadWeights weights, const ModelConfig& config);

  HeadKind kind() const { return weights_.kind; }
  int64_t num_outputs() const { return weights_.output.out_features(); }
  int64_t workspace_bytes() const { return static_cast<int64_t>(buffer_.size_bytes()); }

  // Sees the logits [n, num_outputs] of rows[first], ..., rows[first + n - 1]; valid during the
  // call.
  using LogitsVisitor = absl::FunctionRef<void(int64_t first, ConstMatrix logits)>;

  // Calls `visit` for all of `rows`, in order and some at a time. hidden [num_tokens, hidden_size];
  // each row is within it. Of a head whose output reads two tokens so is the next row, which lies
  // right behind.
  void Apply(KernelContext& context, ConstMatrix hidden, absl::Span<const int32_t> rows,
             LogitsVisitor visit) const;

 private:
  HeadWeights weights_;
  float norm_eps_ = 0;
  int64_t in_features_ = 0;
  int64_t max_rows_ = 0;  // of one call of `visit`
  mutable AlignedBuffer buffer_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_HEADS_HEAD_H_
