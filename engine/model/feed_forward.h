#ifndef ATTENDANT_ENGINE_MODEL_FEED_FORWARD_H_
#define ATTENDANT_ENGINE_MODEL_FEED_FORWARD_H_

#include "engine/base/tensor.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/model/workspace.h"

namespace attendant::engine {

// The feed-forward sublayer: residual += down(activation(up(input))), or, gated,
// residual += down(activation(gate(input)) * up(input)).
//   input, residual  [num_tokens, hidden_size]; input may be residual
void ApplyFeedForward(KernelContext& context, const ModelConfig& config,
                      const LayerWeights& weights, const InputRows& input, Workspace& workspace,
                      Matrix residual);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_FEED_FORWARD_H_
