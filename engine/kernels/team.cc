#include "engine/kernels/team.h"

#include "engine/kernels/parallel.h"

namespace attendant::engine {

void RunOnTeam(KernelContext& context, int64_t num_tasks, TeamBody body) {
  ParallelTasks(context, num_tasks, body);
}

void RunInOneRegion(KernelContext& context, absl::FunctionRef<void()> body) {
  context.team().RunInOneRegion(body);
}

}  // namespace attendant::engine
