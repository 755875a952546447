#include "engine/kernels/kernel_context.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "engine/kernels/parallel.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

int NumProcessors(const cpu_set_t& mask) { return CPU_COUNT(&mask); }

cpu_set_t Affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof mask, &mask);
  return mask;
}

// In threads of their own, so that each has a new OpenMP team.
template <typename Body>
void InNewThread(const Body& body) {
  std::thread(body).join();
}

TEST(KernelContextTest, PinsItsTeamToDifferentProcessorsAndLetsGo) {
  if (NumProcessors(Affinity()) < 2) GTEST_SKIP() << "one processor";
  InNewThread([] {
    {
      KernelContext context(2);
      if (context.num_threads() < 2) GTEST_SKIP() << "built for one thread";
      if (NumProcessors(Affinity()) > 1) GTEST_SKIP() << "another process has pinned its threads";
      std::vector<int> processors(2, -1);
      ParallelTasks(context, 2, [&](int64_t, int) {});
#pragma omp parallel num_threads(2)
      {
        if (NumProcessors(Affinity()) == 1) processors[omp_get_thread_num()] = sched_getcpu();
      }
      EXPECT_NE(processors[0], -1);
      EXPECT_NE(processors[1], -1);
      EXPECT_NE(processors[0], processors[1]);
    }
    EXPECT_GE(NumProcessors(Affinity()), 2);
  });
}

TEST(KernelContextTest, ContextsDoNotShareProcessors) {
  const int processors = NumProcessors(Affinity());
  std::vector<std::unique_ptr<std::thread>> threads;
  std::vector<int> first(processors, -1);
  absl::Barrier* pinned = new absl::Barrier(processors + 1);
  absl::Barrier* seen = new absl::Barrier(processors + 1);
  for (int i = 0; i < processors; ++i) {
    threads.push_back(std::make_unique<std::thread>([&, i] {
      KernelContext context(1);
      if (NumProcessors(Affinity()) == 1) first[i] = sched_getcpu();
      if (pinned->Block()) delete pinned;
      if (seen->Block()) delete seen;
    }));
  }
  if (pinned->Block()) delete pinned;
  InNewThread([&] {
    KernelContext context(1);
    // Where another process held a processor it may have given it back by now.
    if (std::count(first.begin(), first.end(), -1) == 0) {
      EXPECT_EQ(NumProcessors(Affinity()), processors) << "pinned where another context is";
    }
  });
  if (seen->Block()) delete seen;
  for (const auto& thread : threads) thread->join();
  std::erase(first, -1);  // another process may have pinned its threads
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), first.size());
}

TEST(KernelContextTest, RunsUnpinnedWithMoreThreadsThanProcessors) {
  const int processors = NumProcessors(Affinity());
  InNewThread([&] {
    KernelContext context(processors + 1);
    EXPECT_EQ(NumProcessors(Affinity()), processors);
    std::vector<int> seen(100, 0);
    ParallelTasks(context, 100, [&](int64_t task, int) { ++seen[task]; });
    EXPECT_EQ(seen, std::vector<int>(100, 1));
  });
}

TEST(KernelContextTest, ScratchIsAlignedGrowsAndStays) {
  InNewThread([] {
    KernelContext context(1, /*pin_threads=*/false);
    std::byte* large = context.Scratch(100000);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(large) % 64, 0);
    EXPECT_EQ(context.Scratch(10), large);
    EXPECT_EQ(context.Scratch(100000), large);
    std::byte* larger = context.Scratch(200000);
    larger[199999] = std::byte{1};
  });
}

TEST(ParallelTest, RangesCoverEachIndexOnce) {
  InNewThread([] {
    KernelContext context(3, /*pin_threads=*/false);
    for (const int64_t count : {0, 1, 2, 3, 7, 100}) {
      for (const int64_t grain : {1, 10, 1000}) {
        std::vector<int> seen(count, 0);
        ParallelRanges(context, count, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++seen[i];
        });
        EXPECT_EQ(seen, std::vector<int>(count, 1)) << count << " by " << grain;
      }
    }
  });
}

}  // namespace
}  // namespace attendant::engine
