#ifndef ATTENDANT_ENGINE_KERNELS_PREFETCH_H_
#define ATTENDANT_ENGINE_KERNELS_PREFETCH_H_

#include <cstdint>

#include "engine/base/tensor.h"

namespace attendant::engine {

// Asks for a block that will soon be written. Its rows are too short for the machine to foresee
// the next, and a store that waits for its line holds up those behind it.
inline void PrefetchToWrite(Matrix block) {
  constexpr int64_t kLine = 16;  // values
  for (int64_t row = 0; row < block.rows; ++row) {
    const float* values = block.row(row);
    for (int64_t i = 0; i < block.cols; i += kLine) __builtin_prefetch(values + i, 1);
  }
}

// Whether the machine by itself fetches a stream of weights longer than a few pages so well that
// asking for it ahead only holds it up, by a tenth to a fifth, as does a second stream beside it:
// AMD's (seen on Zen 4). Intel's foresees nothing beyond a page of 4 KiB.
inline bool ForeseesStreams() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_PREFETCH_H_
