#ifndef ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
#define ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_

#include "absl/status/status.h"
#include "engine/base/data_type.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Compares the kernels that a model in `dtype` (kFloat32 or kBFloat16) uses with plain loops, on
// small random data, in some tens of milliseconds: a library or a machine that multiplies wrongly
// is found before it answers anybody. INTERNAL, naming kernel, shape and difference.
absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
