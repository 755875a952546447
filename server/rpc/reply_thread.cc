#include "server/rpc/reply_thread.h"

#include <utility>

namespace attendant::server {

ReplyThread::ReplyThread() : thread_([this] { Loop(); }) {}

ReplyThread::~ReplyThread() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  thread_.join();
}

void ReplyThread::Run(Task task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

void ReplyThread::Loop() {
  while (true) {
    std::deque<Task> tasks;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](ReplyThread* thread) { return thread->closing_ || !thread->tasks_.empty(); }, this));
      tasks.swap(tasks_);
    }
    if (tasks.empty()) return;
    for (Task& task : tasks) std::move(task)();
  }
}

}  // namespace attendant::server
