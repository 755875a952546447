#include "engine/task_pool.h"

#include <utility>

#include "absl/log/check.h"

namespace attendant::engine {

TaskPool::TaskPool(int num_threads) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

void TaskPool::Post(Task task) {
  absl::MutexLock lock(&mutex_);
  CHECK(!stopping_) << "a task was posted to a pool that ends";
  tasks_.push_back(std::move(task));
}

void TaskPool::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskPool::Run() {
  while (true) {
    Task task;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &TaskPool::HasTaskOrStops));
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    std::move(task)();
  }
}

}  // namespace attendant::engine
