#include "server/rpc/attend_reactor.h"

#include <memory>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/request_conversion.h"
#include "server/status/status_details.h"

namespace attendant::server {

absl::Status AttendReactor::Start(v1::AttendRequest message, int64_t num_bytes) {
  of_layer_ = message.has_layer();
  ASSIGN_OR_RETURN(engine::AttendRequest request, AttendFromMessage(message));
  RETURN_IF_ERROR(call().Admit(/*tokens=*/0, num_bytes));
  request.control = call().control();
  call().environment().engine.Attend(std::move(request),
                                     std::static_pointer_cast<AttendReactor>(shared_from_this()));
  return absl::OkStatus();
}

void AttendReactor::OnStarted(engine::AttendStarted started) {
  Send(AttendToMessage(started, call().request_id()));
}

void AttendReactor::OnBlock(engine::AttendBlock block) {
  Send(AttendToMessage(std::move(block), of_layer_));
}

void AttendReactor::OnDone(absl::Status status, engine::RequestTimings timings) {
  call().record().timings = timings;
  if (status.ok()) {
    v1::AttendResponse last;
    TimingToMessage(timings, call().elapsed(), last.mutable_finished()->mutable_timing());
    Send(std::move(last));
  }
  End(WithField(std::move(status), of_layer_ ? "layer" : "tensors"));
}

void AttendReactor::OnTaken(size_t num_pending) {
  if (num_pending == kMaxPendingBlocks - 1) call().environment().engine.Wake();
}

}  // namespace attendant::server
