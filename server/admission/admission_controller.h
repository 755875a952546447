#ifndef ATTENDANT_SERVER_ADMISSION_ADMISSION_CONTROLLER_H_
#define ATTENDANT_SERVER_ADMISSION_ADMISSION_CONTROLLER_H_

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace attendant::server {

// How much work one request is, or all of them are.
struct Load {
  int64_t requests = 0;
  int64_t tokens = 0;  // of input
  int64_t bytes = 0;   // of request messages
};

// Accepts a request or refuses it, before any work is done for it. What is accepted is never
// dropped for want of room.
//
// A request holds its part of the limits through a Ticket, from its arrival to its end. All methods
// may be called from any thread.
class AdmissionController {
 public:
  enum class State { kLoading, kServing, kDraining };

  // Gives back, when it goes, what was reserved.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(controller_, other.controller_);
      std::swap(load_, other.load_);
      return *this;
    }
    ~Ticket() {
      if (controller_ != nullptr) controller_->Release(load_, absl::Now());
    }

   private:
    friend class AdmissionController;
    Ticket(AdmissionController* controller, Load load) : controller_(controller), load_(load) {}
    AdmissionController* controller_ = nullptr;
    Load load_;
  };

  // The flags that set the limits are named in the errors. Outlives its tickets.
  explicit AdmissionController(const Load& limits) : limits_(limits) {}

  // Starts as kLoading.
  void SetState(State state);
  State state() const;

  // UNAVAILABLE unless serving; DEADLINE_EXCEEDED if `deadline` is past. Every RPC asks this, also
  // one that needs no ticket.
  absl::Status CheckServing(absl::Time deadline, absl::Time now) const;

  // Reserves room for one request of so many tokens and bytes.
  //   INVALID_ARGUMENT    it would not fit even alone
  //   RESOURCE_EXHAUSTED  it does not fit now; RetryInfo is when it should, at the speed of late
  // and the errors of CheckServing.
  absl::StatusOr<Ticket> Admit(int64_t tokens, int64_t bytes, absl::Time deadline, absl::Time now);

  Load in_flight() const;

 private:
  // How fast a quantity is given back: an exponential mean over about ten seconds.
  class DrainRate {
   public:
    void Add(int64_t amount, absl::Time now);
    // How long until `amount` is given back; a second where nothing was measured. Within [50 ms, 30
    // s].
    absl::Duration TimeFor(int64_t amount, absl::Time now) const;

   private:
    double decayed_amount_ = 0;
    absl::Time first_, last_;
  };

  void Release(const Load& load, absl::Time now);

  const Load limits_;
  mutable absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kLoading;
  Load in_flight_ ABSL_GUARDED_BY(mutex_);
  DrainRate request_rate_ ABSL_GUARDED_BY(mutex_);
  DrainRate token_rate_ ABSL_GUARDED_BY(mutex_);
  DrainRate byte_rate_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_ADMISSION_ADMISSION_CONTROLLER_H_
