#ifndef ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_H_
#define ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Weights in panels of `panel_width` outputs (16, 32, 48 or 64), `panel_stride` values apart, each
// [in_features][panel_width]; in bfloat16, where in_features is even,
// [in_features / 2][panel_width][2]. Outputs behind the last are there, whatever they are.
struct WeightPanels {
  DataType dtype = DataType::kFloat32;  // or kBFloat16
  const std::byte* data = nullptr;
  int64_t in_features = 0, out_features = 0;
  int64_t panel_width = 0;
  int64_t panel_stride = 0;
};

inline constexpr int64_t kMaxProductRows = 4;

// y = activation(x Wᵀ + bias), or added to y, for at most kMaxProductRows rows, which read every
// weight once: the time is that of reading them. A row's result does not depend on the others.
//
//   x     [rows, in_features], x_stride values from one row to the next, of the weights' type
//   bias  [out_features] or null
//
// Private to this folder.
void MultiplyRows(KernelContext& context, const WeightPanels& weights, const void* x,
                  int64_t x_stride, const float* bias, Activation activation, bool add, Matrix y);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_H_
