#ifndef ATTENDANT_ENGINE_KERNELS_ROTARY_H_
#define ATTENDANT_ENGINE_KERNELS_ROTARY_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Rotates every head of `x`, in place, by the angles of its token's position (Su et al.,
// "RoFormer", 2021), in the layout of Hugging Face's checkpoints: value i of a head pairs with
// value i + rotary_dim/2.
//
//   x                    [num_tokens, num_heads * head_dim]
//   positions            [num_tokens], counted from 0 within each sequence
//   inverse_frequencies  [rotary_dim / 2]: the angle of pair i at position p is p *
//   inverse_frequencies[i];
//                        rotary_dim <= head_dim, and values beyond it are left alone
//   scale                multiplies cosine and sine (YaRN's attention factor; 1 for most)
void ApplyRotary(KernelContext& context, Matrix x, int32_t num_heads,
                 absl::Span<const int32_t> positions, absl::Span<const float> inverse_frequencies,
                 float scale = 1.0f);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ROTARY_H_
