#ifndef ATTENDANT_ENGINE_KERNELS_TEAM_H_
#define ATTENDANT_ENGINE_KERNELS_TEAM_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

using TeamBody = absl::FunctionRef<void(int64_t task, int thread)>;

// body(task, thread) once for each task of [0, num_tasks), on the context's threads, numbered from
// 0: for what is computed between kernels. By the thread that owns the context; the body must not
// throw, nor use the context.
void RunOnTeam(KernelContext& context, int64_t num_tasks, TeamBody body);

// As ThreadTeam::RunInOneRegion: for many kernels, and what is between them, that take little time
// each and do not use oneDNN. By the thread that owns the context; what body throws comes through.
void RunInOneRegion(KernelContext& context, absl::FunctionRef<void()> body);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_TEAM_H_
