#include "server/rpc/attend_reactor.h"

#include <memory>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/request_conversion.h"
#include "server/status/status_details.h"

namespace attendant::server {

absl::Status AttendReactor::Start(v1::AttendRequest message, int64_t num_bytes) {
  const RpcEnvironment& environment = call().environment();
  engine::ModelDescription model;
  if (message.has_model()) {
    source_ = "model";
    auto resolved = ResolveModel(environment, message.model().model(), Capability::kAny);
    if (!resolved.ok()) return WithFieldPrefix(resolved.status(), "model.");
    model = *std::move(resolved);
    call().record().model = model.name;
  } else if (message.has_layer()) {
    source_ = "layer";
  }
  ASSIGN_OR_RETURN(AttendConversion conversion, AttendFromMessage(message, model));
  RETURN_IF_ERROR(call().Admit(conversion.num_tokens, num_bytes));
  if (auto* maps = std::get_if<engine::AttendModel>(&conversion.request.source)) {
    maps->model = model.name;
  }
  conversion.request.control = call().control();
  environment.engine.Attend(std::move(conversion.request),
                            std::static_pointer_cast<AttendReactor>(shared_from_this()));
  return absl::OkStatus();
}

void AttendReactor::OnStarted(engine::AttendStarted started) {
  call().record().usage = started.usage;
  Send(AttendToMessage(std::move(started), call().request_id(), call().record().model));
}

void AttendReactor::OnBlock(engine::AttendBlock block) { Send(AttendToMessage(std::move(block))); }

void AttendReactor::OnDone(absl::Status status, engine::RequestTimings timings) {
  RequestRecord& record = call().record();
  record.timings = timings;
  if (status.ok()) {
    v1::AttendResponse last;
    TimingToMessage(timings, call().elapsed(), last.mutable_finished()->mutable_timing());
    if (source_ == "model") UsageToMessage(record.usage, last.mutable_finished()->mutable_usage());
    Send(std::move(last));
  }
  End(WithField(std::move(status), source_));
}

void AttendReactor::OnTaken(size_t num_pending) {
  if (num_pending == kMaxPendingBlocks - 1) call().environment().engine.Wake();
}

}  // namespace attendant::server
