// Tells ThreadSanitizer what Abseil's locks order. The packaged Abseil is not instrumented, so its
// mutexes would seem to protect nothing. These definitions take the place of the library's (a
// program's symbols come before those of its shared libraries), call the library's own, and say
// what happened, with the calls that an instrumented Abseil makes. Compiled into test programs
// under -fsanitize=thread alone.

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace {

// The library's definition of a symbol that this file defines too.
template <typename Function>
Function* Next(const char* symbol) {
  void* address = dlsym(RTLD_NEXT, symbol);
  if (address == nullptr)
    __builtin_trap();  // another version of Abseil: the names below are to be changed
  return reinterpret_cast<Function*>(address);
}

#define ABSL_SYMBOL(rest) "_ZN4absl7debian7" rest
#define ABSL_CONST_SYMBOL(rest) "_ZNK4absl7debian7" rest

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static auto* const next = Next<void(Mutex*)>(ABSL_SYMBOL("5Mutex4LockEv"));
  __tsan_mutex_pre_lock(this, 0);
  next(this);
  __tsan_mutex_post_lock(this, 0, 0);
}

void Mutex::Unlock() {
  static auto* const next = Next<void(Mutex*)>(ABSL_SYMBOL("5Mutex6UnlockEv"));
  __tsan_mutex_pre_unlock(this, 0);
  next(this);
  __tsan_mutex_post_unlock(this, 0);
}

void Mutex::ReaderLock() {
  static auto* const next = Next<void(Mutex*)>(ABSL_SYMBOL("5Mutex10ReaderLockEv"));
  __tsan_mutex_pre_lock(this, __tsan_mutex_read_lock);
  next(this);
  __tsan_mutex_post_lock(this, __tsan_mutex_read_lock, 0);
}

void Mutex::ReaderUnlock() {
  static auto* const next = Next<void(Mutex*)>(ABSL_SYMBOL("5Mutex12ReaderUnlockEv"));
  __tsan_mutex_pre_unlock(this, __tsan_mutex_read_lock);
  next(this);
  __tsan_mutex_post_unlock(this, __tsan_mutex_read_lock);
}

bool Mutex::LockWhenCommon(const Condition& condition,
                           synchronization_internal::KernelTimeout timeout, bool write) {
  static auto* const next = Next<
      bool(Mutex*, const Condition&, synchronization_internal::KernelTimeout, bool)>(ABSL_SYMBOL(
      "5Mutex14LockWhenCommonERKNS0_9ConditionENS0_24synchronization_internal13KernelTimeoutEb"));
  const unsigned flags = write ? 0 : __tsan_mutex_read_lock;
  __tsan_mutex_pre_lock(this, flags);
  const bool holds = next(this, condition, timeout, write);
  __tsan_mutex_post_lock(this, flags, 0);
  return holds;
}

// Gives the mutex up and takes it again. That of a writer: we wait with no other.
bool Mutex::AwaitCommon(const Condition& condition,
                        synchronization_internal::KernelTimeout timeout) {
  static auto* const next =
      Next<bool(Mutex*, const Condition&, synchronization_internal::KernelTimeout)>(ABSL_SYMBOL(
          "5Mutex11AwaitCommonERKNS0_9ConditionENS0_24synchronization_internal13KernelTimeoutE"));
  __tsan_mutex_pre_unlock(this, 0);
  __tsan_mutex_post_unlock(this, 0);
  __tsan_mutex_pre_lock(this, 0);
  const bool holds = next(this, condition, timeout);
  __tsan_mutex_post_lock(this, 0, 0);
  return holds;
}

void Notification::Notify() {
  static auto* const next = Next<void(Notification*)>(ABSL_SYMBOL("12Notification6NotifyEv"));
  __tsan_release(this);
  // HasBeenNotified is inline, and instrumented: it reads this flag.
  __tsan_release(&notified_yet_);
  next(this);
}

void Notification::WaitForNotification() const {
  static auto* const next =
      Next<void(const Notification*)>(ABSL_CONST_SYMBOL("12Notification19WaitForNotificationEv"));
  next(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(absl::Duration timeout) const {
  static auto* const next = Next<bool(const Notification*, absl::Duration)>(
      ABSL_CONST_SYMBOL("12Notification30WaitForNotificationWithTimeoutENS0_8DurationE"));
  const bool notified = next(this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

bool BlockingCounter::DecrementCount() {
  static auto* const next =
      Next<bool(BlockingCounter*)>(ABSL_SYMBOL("15BlockingCounter14DecrementCountEv"));
  __tsan_release(this);
  return next(this);
}

void BlockingCounter::Wait() {
  static auto* const next = Next<void(BlockingCounter*)>(ABSL_SYMBOL("15BlockingCounter4WaitEv"));
  next(this);
  __tsan_acquire(this);
}

ABSL_NAMESPACE_END
}  // namespace absl
