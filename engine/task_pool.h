#ifndef ATTENDANT_ENGINE_TASK_POOL_H_
#define ATTENDANT_ENGINE_TASK_POOL_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace attendant::engine {

// Threads that run what they are given, in order of arrival.
class TaskPool {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  explicit TaskPool(int num_threads);
  ~TaskPool() { Stop(); }

  // Any thread; not after Stop.
  void Post(Task task);

  // Runs what was posted, then ends the threads.
  void Stop();

 private:
  void Run();
  bool HasTaskOrStops() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !tasks_.empty();
  }

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TASK_POOL_H_
