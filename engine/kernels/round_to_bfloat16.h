#ifndef ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_
#define ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_

#include <cstddef>
#include <cstdint>

#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Rounds x [rows, cols] to bfloat16, to nearest, ties to even, into `out` [rows, cols], contiguous.
// `buffers` has x.buffer_bytes. Private to this folder.
void RoundToBFloat16(KernelContext& context, const InputRows& x, std::byte* buffers, uint16_t* out);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ROUND_TO_BFLOAT16_H_
