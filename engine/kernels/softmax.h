#ifndef ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_
#define ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_

#include <cstdint>

#include "absl/types/span.h"

namespace attendant::engine {

// log(sum(exp(x))), by the largest value; -infinity for an empty row or one of -infinity. One
// thread.
float LogSumExp(absl::Span<const float> x);

// The index of the largest value, the first of equals; of the first NaN, if there is one. x is not
// empty. One thread.
int32_t ArgMax(absl::Span<const float> x);

// x - value, in place. One thread.
void Subtract(absl::Span<float> x, float value);

// The index of the first value for which added + value, rounded to float, is greater than `bound`;
// x.size() if there is none. One thread.
int64_t FindSumAbove(absl::Span<const float> x, float added, float bound);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_SOFTMAX_H_
