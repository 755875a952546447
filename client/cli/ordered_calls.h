#ifndef ATTENDANT_CLIENT_CLI_ORDERED_CALLS_H_
#define ATTENDANT_CLIENT_CLI_ORDERED_CALLS_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace attendant::client {

// Makes calls on several threads, in any order, and gives their results in the order in which they
// were asked for. Add and Take belong to one thread.
class OrderedCalls {
 public:
  using Call = std::function<absl::StatusOr<std::string>(const std::string& input)>;

  // `call` is made on any of `num_threads` threads, at least 1.
  OrderedCalls(int num_threads, Call call);

  // Waits for the calls that have begun; the others are never made.
  ~OrderedCalls();

  // How many inputs were added and not taken.
  size_t size() const;

  void Add(std::string input);

  // Whether Take returns at once.
  bool IsReady() const;

  // The result for the oldest input, which leaves; waits for it. size() is at least 1.
  absl::StatusOr<std::string> Take();

 private:
  struct Slot {
    std::string input;
    bool is_done = false;
    absl::StatusOr<std::string> result = std::string();
  };

  void Work();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Call call_;
  mutable absl::Mutex mutex_;
  bool is_ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mutex_);  // Elements stay where they are.
  size_t num_begun_ ABSL_GUARDED_BY(mutex_) = 0;    // of slots_, from its front
  std::vector<std::thread> threads_;
};

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_ORDERED_CALLS_H_
