#include "engine/kernels/thread_team.h"

#include <omp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

// In threads of their own, so that each has a new OpenMP team.
template <typename Body>
void WithTeam(int num_threads, const Body& body) {
  std::thread([&] {
    ThreadTeam team(num_threads, /*pin_threads=*/false);
    body(team);
  }).join();
}

// How often each thread worked, over `rounds`.
std::vector<int> Rounds(ThreadTeam& team, int rounds) {
  std::vector<int> counts(team.num_threads(), 0);
  for (int round = 0; round < rounds; ++round) {
    team.Run([&](int thread) { ++counts[thread]; });
  }
  return counts;
}

TEST(ThreadTeamTest, EveryThreadWorksOnceInEachRun) {
  for (const int threads : {1, 2, 5}) {
    WithTeam(threads, [](ThreadTeam& team) {
      EXPECT_EQ(Rounds(team, 100), std::vector<int>(team.num_threads(), 100));
    });
  }
}

TEST(ThreadTeamTest, EveryThreadWorksOnceInEachRunOfOneRegion) {
  for (const int threads : {1, 2, 5}) {
    WithTeam(threads, [](ThreadTeam& team) {
      for (const int rounds : {0, 1, 300}) {
        team.RunInOneRegion(
            [&] { EXPECT_EQ(Rounds(team, rounds), std::vector<int>(team.num_threads(), rounds)); });
      }
      EXPECT_EQ(Rounds(team, 3), std::vector<int>(team.num_threads(), 3)) << "after regions";
    });
  }
}

TEST(ThreadTeamTest, ARunSeesWhatWasWrittenBeforeIt) {
  WithTeam(4, [](ThreadTeam& team) {
    team.RunInOneRegion([&] {
      int64_t value = 0, sum = 0;
      for (int round = 0; round < 200; ++round) {
        value = round;
        std::vector<int64_t> seen(team.num_threads(), -1);
        team.Run([&](int thread) { seen[thread] = value; });
        for (const int64_t s : seen) sum += s == round;
      }
      EXPECT_EQ(sum, 200 * team.num_threads());
    });
  });
}

// Longer than threads spin: those that wait have gone to sleep.
TEST(ThreadTeamTest, WakesThreadsThatSleep) {
  WithTeam(3, [](ThreadTeam& team) {
    team.RunInOneRegion([&] {
      const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
      std::atomic<int> count{0};
      for (int round = 0; round < 3; ++round) {
        sleep();
        team.Run([&](int thread) {
          if (thread > 0) sleep();  // so that the caller waits long as well
          ++count;
        });
      }
      EXPECT_EQ(count, 3 * team.num_threads());
    });
  });
}

TEST(ThreadTeamTest, ARegionInARegionIsTheSame) {
  WithTeam(2, [](ThreadTeam& team) {
    team.RunInOneRegion([&] {
      team.RunInOneRegion([&] { Rounds(team, 2); });
      EXPECT_EQ(Rounds(team, 5), std::vector<int>(team.num_threads(), 5));
    });
  });
}

TEST(ThreadTeamTest, WhatIsThrownInARegionComesThrough) {
  for (const int threads : {1, 3}) {
    WithTeam(threads, [](ThreadTeam& team) {
      EXPECT_THROW(team.RunInOneRegion([&] {
        Rounds(team, 2);
        throw std::runtime_error("no memory");
      }),
                   std::runtime_error);
      team.RunInOneRegion(
          [&] { EXPECT_EQ(Rounds(team, 4), std::vector<int>(team.num_threads(), 4)); });
    });
  }
}

// As with OMP_THREAD_LIMIT, which can only be set before the program starts.
TEST(ThreadTeamTest, HasNoMoreThreadsThanOpenMpGives) {
  std::thread([] {
    omp_set_max_active_levels(0);
    ThreadTeam team(4, /*pin_threads=*/false);
    EXPECT_EQ(team.num_threads(), 1);
    team.RunInOneRegion([&] { EXPECT_EQ(Rounds(team, 3), std::vector<int>(1, 3)); });
    omp_set_max_active_levels(1);
  }).join();
}

}  // namespace
}  // namespace attendant::engine
