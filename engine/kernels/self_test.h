#ifndef ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
#define ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Compares the kernels that a model with weights in `dtype` (kFloat32, kBFloat16, kInt8 or kInt4)
// uses with plain loops, on small random data, in some tens of milliseconds: a library or a machine
// that multiplies wrongly is found before it answers anybody. For integers, the linear layers and
// the embeddings alone: the rest of such a model is in ActivationType. What does not depend on the
// type is tested with kFloat32. Logs what was tested and how long it took. INTERNAL, naming kernel,
// shape and difference.
absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype);

// The same, of a machine that computes otherwise: `alter` may change what a kernel gave.
using AlterResult = absl::FunctionRef<void(const std::string& kernel, absl::Span<float> result)>;
absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype, AlterResult alter);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_SELF_TEST_H_
