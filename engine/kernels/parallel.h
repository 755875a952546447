#ifndef ATTENDANT_ENGINE_KERNELS_PARALLEL_H_
#define ATTENDANT_ENGINE_KERNELS_PARALLEL_H_

// Loops over the context's team of threads; private to this folder.

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "absl/types/span.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// body(begin, end, thread), or without the thread's number, over equal shares of [0, count), one
// for each thread; in the caller's thread alone if there are fewer than `grain` for each of two.
template <typename Body>
void ParallelRanges(KernelContext& context, int64_t count, int64_t grain, const Body& body) {
  const auto run = [&body](int64_t begin, int64_t end, int thread) {
    if (begin >= end) return;
    if constexpr (std::is_invocable_v<const Body&, int64_t, int64_t, int>) {
      body(begin, end, thread);
    } else {
      body(begin, end);
    }
  };
  const int threads = context.num_threads();
  if (threads == 1 || count < 2 * grain) return run(0, count, 0);
  context.team().Run(
      [&](int thread) { run(count * thread / threads, count * (thread + 1) / threads, thread); });
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
  std::atomic<int64_t> next{0};
  context.team().Run([&](int thread) {
    while (true) {
      const int64_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= num_tasks) break;
      body(task, thread);
    }
  });
}

// The same, but each thread begins with a share of its own, [count * thread / threads, count *
// (thread + 1) / threads), as in ParallelRanges, and then helps with what others have not begun:
// what a thread wrote in one loop it finds in its cache in the next.
template <typename Body>
void ParallelShares(KernelContext& context, int64_t num_tasks, const Body& body) {
  const int threads = context.num_threads();
  if (threads == 1 || num_tasks < 2) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task, 0);
    return;
  }
  const absl::Span<KernelContext::Share> shares = context.shares();
  for (int thread = 0; thread < threads; ++thread) {
    shares[thread].next.store(num_tasks * thread / threads, std::memory_order_relaxed);
  }
  context.team().Run([&](int thread) {
    for (int i = 0; i < threads; ++i) {
      const int owner = (thread + i) % threads;
      const int64_t end = num_tasks * (owner + 1) / threads;
      while (true) {
        const int64_t task = shares[owner].next.fetch_add(1, std::memory_order_relaxed);
        if (task >= end) break;
        body(task, thread);
      }
    }
  });
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_PARALLEL_H_
