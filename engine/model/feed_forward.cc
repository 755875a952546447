#include "engine/model/feed_forward.h"

#include <algorithm>
#include <cstdint>

namespace attendant::engine {

namespace {

// Of a thread's part of the intermediate values, so that they are still in its second cache when
// they are read.
constexpr int64_t kCachedBytes = int64_t{3} << 19;
// Fewer rows at a time would not be worth reading the weights again.
constexpr int64_t kMinRows = 256;

void ApplyToRows(KernelContext& context, const ModelConfig& config, const LayerWeights& weights,
                 const InputRows& input, Workspace& workspace, Matrix residual) {
  const auto num_rows = static_cast<int32_t>(input.rows());
  if (!config.gated_feed_forward && weights.up.HandsOverBFloat16(weights.down, num_rows)) {
    const BFloat16Matrix intermediate = workspace.bfloat16_intermediate(num_rows);
    weights.up.ApplyToBFloat16(context, input, intermediate);
    weights.down.ApplyAdd(context, InputRows::BFloat16(intermediate), residual);
    return;
  }
  const Matrix intermediate = workspace.intermediate(num_rows);
  weights.up.Apply(context, input, intermediate);
  weights.down.ApplyAdd(context,
                        config.gated_feed_forward
                            ? InputRows::Gated(config.activation, intermediate)
                            : InputRows(intermediate),
                        residual);
}

}  // namespace

void ApplyFeedForward(KernelContext& context, const ModelConfig& config,
                      const LayerWeights& weights, const InputRows& input, Workspace& workspace,
                      Matrix residual) {
  const int64_t row_bytes = weights.up.out_features() * static_cast<int64_t>(sizeof(float));
  const int64_t rows_at_once =
      std::max(kMinRows, context.num_threads() * kCachedBytes / row_bytes / kMinRows * kMinRows);
  for (int64_t row = 0; row < input.rows(); row += rows_at_once) {
    const int64_t rows = std::min(input.rows() - row, rows_at_once);
    ApplyToRows(context, config, weights, input.Rows(row, rows), workspace,
                residual.Rows(row, rows));
  }
}

}  // namespace attendant::engine
