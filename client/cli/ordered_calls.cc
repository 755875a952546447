#include "client/cli/ordered_calls.h"

#include <utility>

#include "absl/log/check.h"

namespace attendant::client {

OrderedCalls::OrderedCalls(int num_threads, Call call) : call_(std::move(call)) {
  CHECK_GE(num_threads, 1);
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
}

OrderedCalls::~OrderedCalls() {
  {
    const absl::MutexLock lock(&mutex_);
    is_ending_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

size_t OrderedCalls::size() const {
  const absl::MutexLock lock(&mutex_);
  return slots_.size();
}

void OrderedCalls::Add(std::string input) {
  const absl::MutexLock lock(&mutex_);
  slots_.push_back({.input = std::move(input)});
}

bool OrderedCalls::IsReady() const {
  const absl::MutexLock lock(&mutex_);
  return !slots_.empty() && slots_.front().is_done;
}

absl::StatusOr<std::string> OrderedCalls::Take() {
  const absl::MutexLock lock(&mutex_);
  CHECK(!slots_.empty());
  mutex_.Await(absl::Condition(&slots_.front().is_done));
  absl::StatusOr<std::string> result = std::move(slots_.front().result);
  slots_.pop_front();
  --num_begun_;
  return result;
}

bool OrderedCalls::HasWork() const { return is_ending_ || num_begun_ < slots_.size(); }

void OrderedCalls::Work() {
  const absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &OrderedCalls::HasWork));
    if (is_ending_) return;
    Slot& slot = slots_[num_begun_++];
    mutex_.Unlock();
    absl::StatusOr<std::string> result = call_(slot.input);
    mutex_.Lock();
    slot.result = std::move(result);
    slot.is_done = true;
  }
}

}  // namespace attendant::client
