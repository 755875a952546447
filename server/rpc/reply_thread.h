#ifndef ATTENDANT_SERVER_RPC_REPLY_THREAD_H_
#define ATTENDANT_SERVER_RPC_REPLY_THREAD_H_

#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace attendant::server {

// Where answers become messages and go to the network, so that the engine's thread does neither.
// Runs one task at a time, in order.
class ReplyThread {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  ReplyThread();
  // Runs what is still waiting.
  ~ReplyThread();

  // From any thread; returns at once.
  void Run(Task task);

 private:
  void Loop();

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_REPLY_THREAD_H_
