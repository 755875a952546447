#ifndef ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_
#define ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_

#include <cstdint>

#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Rounds x [rows, cols] to bfloat16, to nearest, ties to even, into `out` [rows, cols], contiguous.
// Private to this folder.
void RoundToBFloat16(KernelContext& context, ConstMatrix x, uint16_t* out);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_
