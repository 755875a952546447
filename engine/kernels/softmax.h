#ifndef ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_
#define ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_

#include <cstdint>

#include "absl/types/span.h"

namespace attendant::engine {

// log(sum(exp(x))), by the largest value; -infinity for an empty row or one of -infinity. One
// thread.
float LogSumExp(absl::Span<const float> x);

// The index of the largest value, the first of equals; NaN is never larger. x is not empty. One
// thread.
int32_t ArgMax(absl::Span<const float> x);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_
