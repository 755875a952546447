#include "engine/model/feed_forward.h"

#include "engine/kernels/activation.h"

namespace attendant::engine {

void ApplyFeedForward(KernelContext& context, const ModelConfig& config,
                      const LayerWeights& weights, ConstMatrix input, Workspace& workspace,
                      Matrix residual) {
  Matrix intermediate = workspace.intermediate(static_cast<int32_t>(input.rows));
  weights.up.Apply(context, input, intermediate);
  if (config.gated_feed_forward) {
    const Matrix gated = intermediate.Cols(0, config.intermediate_size);
    GatedActivation(context, intermediate, config.activation, gated);
    intermediate = gated;
  }
  weights.down.ApplyAdd(context, intermediate, residual);
}

}  // namespace attendant::engine
