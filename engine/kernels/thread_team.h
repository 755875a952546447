#ifndef ATTENDANT_ENGINE_KERNELS_THREAD_TEAM_H_
#define ATTENDANT_ENGINE_KERNELS_THREAD_TEAM_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace attendant::engine {

// The OpenMP threads that compute, pinned. Made once, by the thread that computes, and used and
// destroyed by that thread alone (a second caller would make a second OpenMP team, and the two
// would fight over the cores).
//
// Between what they are given the threads spin for some milliseconds, then sleep: they spin through
// a step, and sleep when there is none. OMP_WAIT_POLICY=passive lets them sleep at once. (Between
// parallel regions it is libgomp that waits, so there GOMP_SPINCOUNT counts as well.)
class ThreadTeam {
 public:
  // As KernelContext's; fewer threads where OpenMP gives fewer, with a warning.
  ThreadTeam(int num_threads, bool pin_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int num_threads() const { return num_threads_; }

  // work(thread) by every thread of the team, numbered from 0, which is the caller; returns when
  // all have. It must not throw, nor call Run. It is always the whole team: libgomp ends the
  // threads that a smaller one leaves out.
  using Work = absl::FunctionRef<void(int thread)>;
  void Run(Work work);

  // Calls body() inside one parallel region, where the other threads wait for what it gives to Run:
  // that then takes 0.4 us rather than 1.4, which counts where loops take some 10 us. Whoever opens
  // regions of his own in it, as oneDNN's primitives do, has one thread. What body throws comes
  // through.
  void RunInOneRegion(absl::FunctionRef<void()> body);

 private:
  class Affinity;

  // A thread's part in RunInOneRegion, which begins after `round`.
  void Serve(int thread, int round);
  // Pins a thread that is not yet.
  void Enter(int thread);

  const int num_threads_;
  const std::unique_ptr<Affinity> affinity_;  // null: not pinned
  const int max_spins_;

  bool in_region_ = false;
  const Work* work_ = nullptr;  // of the round; null: the region ends
  // Apart, so that who waits for the one does not slow the other.
  alignas(64) std::atomic<int> round_{0};
  alignas(64) std::atomic<int> num_working_{0};  // of the threads but the caller's
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_THREAD_TEAM_H_
