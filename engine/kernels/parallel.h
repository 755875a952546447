#ifndef ATTENDANT_ENGINE_KERNELS_PARALLEL_H_
#define ATTENDANT_ENGINE_KERNELS_PARALLEL_H_

// Loops over the context's team of threads; private to this folder. A region has the whole team or
// one thread, never a part of it: libgomp ends the threads that a smaller team leaves out.

#include <omp.h>

#include <cstdint>

#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// body(begin, end) over equal shares of [0, count), one for each thread; in the caller's thread
// alone if there are fewer than `grain` for each of two.
template <typename Body>
void ParallelRanges(KernelContext& context, int64_t count, int64_t grain, const Body& body) {
  const int threads = context.num_threads();
  if (threads == 1 || count < 2 * grain) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    context.EnterRegion(thread);
    const int64_t begin = count * thread / threads;
    const int64_t end = count * (thread + 1) / threads;
    if (begin < end) body(begin, end);
  }
}

// body(task, thread) for each task of [0, num_tasks), begun in order, each by the next thread that
// is free.
template <typename Body>
void ParallelTasks(KernelContext& context, int64_t num_tasks, const Body& body) {
  const int threads = context.num_threads();
  if (threads == 1 || num_tasks < 2) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    context.EnterRegion(thread);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t task = 0; task < num_tasks; ++task) body(task, thread);
  }
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_PARALLEL_H_
