#ifndef ATTENDANT_ENGINE_KERNELS_NORM_H_
#define ATTENDANT_ENGINE_KERNELS_NORM_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

enum class NormKind : uint8_t {
  // Ba et al., "Layer Normalization", 2016: y = (x - mean) / sqrt(variance + epsilon) * weight +
  // bias.
  kLayerNorm,
  // Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019: y = x / sqrt(mean(x²) +
  // epsilon) * weight.
  kRmsNorm,
};

// Which, with its learned parameters, to which it refers.
struct Norm {
  NormKind kind = NormKind::kLayerNorm;
  absl::Span<const float> weight;  // [size]
  absl::Span<const float> bias;    // [size], or empty: 0; of kRmsNorm it is
  float epsilon = 0;
};

// y = x normed, row by row; both [num_rows, size], and y may be x.
void ApplyNorm(KernelContext& context, const Norm& norm, ConstMatrix x, Matrix y);

// Of one row, x and y [size], in the caller's thread; y may be x.
void NormRow(const Norm& norm, const float* x, float* y);

// Divides each row by its Euclidean length, in place; a row of zeros stays.
void L2Normalize(KernelContext& context, Matrix x);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_NORM_H_
