#ifndef ATTENDANT_ENGINE_KERNELS_PRODUCT_H_
#define ATTENDANT_ENGINE_KERNELS_PRODUCT_H_

#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// c = a b, for operands that are used once; weights, which are worth packing, are Linear's.
//   a [m, k], b [k, n], c [m, n], which overlaps neither; k >= 1
void Multiply(KernelContext& context, ConstMatrix a, ConstMatrix b, Matrix c);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_PRODUCT_H_
