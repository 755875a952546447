#ifndef ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
#define ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_

#include "absl/status/status.h"
#include "engine/base/data_type.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Compares the kernels that a model with weights in `dtype` (kFloat32, kBFloat16, kInt8 or kInt4)
// uses with plain loops, on small random data, in some tens of milliseconds: a library or a machine
// that multiplies wrongly is found before it answers anybody. For integers, the linear layers
// alone: the rest of such a model is in ActivationType. INTERNAL, naming kernel, shape and
// difference.
absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
