#ifndef ATTENDANT_ENGINE_KERNELS_NORM_H_
#define ATTENDANT_ENGINE_KERNELS_NORM_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Ba et al., "Layer Normalization", 2016: y = (x - mean) / sqrt(variance + epsilon) * weight +
// bias, row by row.
//
//   x, y          [num_rows, size]; y may be x
//   weight, bias  [size]; an empty bias is 0
void LayerNorm(KernelContext& context, ConstMatrix x, absl::Span<const float> weight,
               absl::Span<const float> bias, float epsilon, Matrix y);

// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019: y = x / sqrt(mean(x²) +
// epsilon) * weight.
void RmsNorm(KernelContext& context, ConstMatrix x, absl::Span<const float> weight, float epsilon,
             Matrix y);

// Either of them with its learned parameters, which it refers to.
enum class NormKind : uint8_t { kLayerNorm, kRmsNorm };
struct Norm {
  NormKind kind = NormKind::kLayerNorm;
  absl::Span<const float> weight, bias;  // [size]; the bias may be empty, and of kRmsNorm is
  float epsilon = 0;
};
void ApplyNorm(KernelContext& context, const Norm& norm, ConstMatrix x, Matrix y);

// Of one row, x and y [size], in the caller's thread; y may be x.
void NormRow(const Norm& norm, const float* x, float* y);

// Divides each row by its Euclidean length, in place; a row of zeros stays.
void L2Normalize(KernelContext& context, Matrix x);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_NORM_H_
