#include "server/admission/admission_controller.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

constexpr absl::Duration kRateWindow = absl::Seconds(10);
constexpr absl::Duration kRetryWhileLoading = absl::Seconds(1);

absl::Status Full(absl::string_view reason, absl::string_view what, int64_t in_flight,
                  int64_t limit, absl::string_view flag, absl::Duration retry_after) {
  return ErrorWithReason(
      absl::StatusCode::kResourceExhausted, reason,
      absl::StrCat(in_flight, " ", what, " are in flight and the limit is ", limit, " (--", flag,
                   "); try again in ", absl::FormatDuration(retry_after)),
      retry_after);
}

}  // namespace

void AdmissionController::DrainRate::Add(int64_t amount, absl::Time now) {
  if (first_ == absl::Time()) first_ = last_ = now;
  now = std::max(now, last_);
  decayed_amount_ =
      decayed_amount_ * std::exp(-absl::FDivDuration(now - last_, kRateWindow)) + amount;
  last_ = now;
}

absl::Duration AdmissionController::DrainRate::TimeFor(int64_t amount, absl::Time now) const {
  if (decayed_amount_ <= 0) return absl::Seconds(1);
  now = std::max(now, last_);
  // The weight that the window has gathered so far; less than its whole while it is filling.
  const absl::Duration observed =
      std::max(kRateWindow * -std::expm1(-absl::FDivDuration(now - first_, kRateWindow)),
               absl::Milliseconds(100));
  const double left = decayed_amount_ * std::exp(-absl::FDivDuration(now - last_, kRateWindow));
  const double rate = left / absl::ToDoubleSeconds(observed);
  const double seconds = std::clamp(static_cast<double>(amount) / std::max(rate, 1e-9), 0.05, 30.0);
  return absl::Milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
}

void AdmissionController::SetState(State state) {
  absl::MutexLock lock(&mutex_);
  state_ = state;
}

AdmissionController::State AdmissionController::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

absl::Status AdmissionController::CheckServing(absl::Time deadline, absl::Time now) const {
  switch (state()) {
    case State::kLoading:
      return ErrorWithReason(absl::StatusCode::kUnavailable, reason::kLoading,
                             "the server is loading its models", kRetryWhileLoading);
    case State::kDraining:
      // Another replica can take it at once; this one never will.
      return ErrorWithReason(absl::StatusCode::kUnavailable, reason::kDraining,
                             "the server is shutting down", absl::ZeroDuration());
    case State::kServing:
      break;
  }
  if (now >= deadline) {
    return ErrorWithReason(absl::StatusCode::kDeadlineExceeded, reason::kDeadlinePassed,
                           "the deadline had passed when the request arrived");
  }
  return absl::OkStatus();
}

absl::StatusOr<AdmissionController::Ticket> AdmissionController::Admit(int64_t tokens,
                                                                       int64_t bytes,
                                                                       absl::Time deadline,
                                                                       absl::Time now) {
  if (absl::Status status = CheckServing(deadline, now); !status.ok()) return status;
  if (tokens > limits_.tokens) {
    return TooLarge(
        "request",
        absl::StrCat("has about ", tokens, " tokens; this server allows ", limits_.tokens),
        "max_queued_tokens");
  }
  if (bytes > limits_.bytes) {
    return TooLarge("request",
                    absl::StrCat("has ", bytes, " bytes; this server allows ", limits_.bytes),
                    "memory_quota_bytes");
  }
  absl::MutexLock lock(&mutex_);
  if (in_flight_.requests >= limits_.requests) {
    return Full(reason::kRequestsFull, "requests", in_flight_.requests, limits_.requests,
                "max_requests", request_rate_.TimeFor(1, now));
  }
  if (const int64_t excess = in_flight_.tokens + tokens - limits_.tokens; excess > 0) {
    return Full(reason::kTokensFull, "tokens", in_flight_.tokens, limits_.tokens,
                "max_queued_tokens", token_rate_.TimeFor(excess, now));
  }
  if (const int64_t excess = in_flight_.bytes + bytes - limits_.bytes; excess > 0) {
    return Full(reason::kBytesFull, "bytes of requests", in_flight_.bytes, limits_.bytes,
                "memory_quota_bytes", byte_rate_.TimeFor(excess, now));
  }
  const Load load = {.requests = 1, .tokens = tokens, .bytes = bytes};
  in_flight_.requests += load.requests;
  in_flight_.tokens += load.tokens;
  in_flight_.bytes += load.bytes;
  return Ticket(this, load);
}

Load AdmissionController::in_flight() const {
  absl::MutexLock lock(&mutex_);
  return in_flight_;
}

void AdmissionController::Release(const Load& load, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  in_flight_.requests -= load.requests;
  in_flight_.tokens -= load.tokens;
  in_flight_.bytes -= load.bytes;
  request_rate_.Add(load.requests, now);
  token_rate_.Add(load.tokens, now);
  byte_rate_.Add(load.bytes, now);
}

}  // namespace attendant::server
