#include "server/rpc/encode_stream_reactor.h"

#include <utility>

#include "server/rpc/encode_reactor.h"
#include "server/rpc/message_parsing.h"
#include "server/rpc/status_conversion.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

v1::EncodeStreamResponse AnswerTo(uint64_t id, absl::StatusOr<v1::EncodeResponse> result) {
  v1::EncodeStreamResponse answer;
  answer.set_id(id);
  if (result.ok()) {
    *answer.mutable_response() = *std::move(result);
  } else {
    *answer.mutable_error() = ToRpcStatus(result.status());
  }
  return answer;
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* EncodeStreamReactor::Serve(
    const RpcEnvironment& environment, grpc::CallbackServerContext& context) {
  auto reactor = std::make_shared<EncodeStreamReactor>(environment, context);
  reactor->self_ = reactor;
  reactor->Begin();
  return reactor.get();
}

void EncodeStreamReactor::Begin() {
  if (absl::Status status = stream_.CheckServing(); !status.ok()) {
    Finish(ToGrpcStatus(stream_.Finish(std::move(status))));
    return;
  }
  // A drain must not wait for a client that has nothing more to ask but keeps its stream open.
  stream_.OnDrain([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->environment_.replies.Run([self] { self->Drain(); });
  });
  Continue();
}

void EncodeStreamReactor::OnReadDone(bool ok) {
  if (!ok) {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    no_more_requests_ = true;
  } else {
    Handle(read_buffer_);
    absl::MutexLock lock(&mutex_);
    reading_ = false;
  }
  Continue();
}

void EncodeStreamReactor::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    --in_flight_;
  }
  if (!ok) OnCancel();
  Continue();
}

void EncodeStreamReactor::OnCancel() {
  {
    absl::MutexLock lock(&mutex_);
    no_more_requests_ = cancelled_ = true;
    for (Call* request : requests_)
      request->control()->cancelled.store(true, std::memory_order_relaxed);
  }
  stream_.Cancel();
  Continue();
}

void EncodeStreamReactor::OnDone() { auto self = std::move(self_); }

void EncodeStreamReactor::Handle(const grpc::ByteBuffer& bytes) {
  v1::EncodeStreamRequest message;
  absl::Status status = ParseMessage(bytes, message);
  int64_t number;
  {
    absl::MutexLock lock(&mutex_);
    number = ++num_requests_;
    ++in_flight_;
  }
  auto call = std::make_shared<Call>(stream_, number);
  {
    absl::MutexLock lock(&mutex_);
    requests_.insert(call.get());
  }
  // Ids come first on the wire, so that also a message that does not parse can be answered.
  auto done = [self = shared_from_this(), call,
               id = message.id()](absl::StatusOr<v1::EncodeResponse> response) {
    {
      absl::MutexLock lock(&self->mutex_);
      self->requests_.erase(call.get());
    }
    const absl::Status status = call->Finish(WithFieldPrefix(response.status(), "request."));
    self->Answer(status.ok() ? AnswerTo(id, std::move(response)) : AnswerTo(id, status));
  };
  if (status.ok()) status = call->CheckServing();
  if (status.ok()) {
    status = StartEncode(*call, std::move(*message.mutable_request()), bytes.Length(), done);
  }
  if (!status.ok()) done(std::move(status));
}

void EncodeStreamReactor::Answer(v1::EncodeStreamResponse answer) {
  {
    absl::MutexLock lock(&mutex_);
    answers_.push_back(std::move(answer));
  }
  Continue();
}

void EncodeStreamReactor::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  Continue();
}

void EncodeStreamReactor::Continue() {
  {
    absl::MutexLock lock(&mutex_);
    look_again_ = true;
    if (std::exchange(continuing_, true)) return;
  }
  while (true) {
    Next next;
    {
      absl::MutexLock lock(&mutex_);
      if (!std::exchange(look_again_, false)) {
        continuing_ = false;
        return;
      }
      next = TakeNext();
    }
    if (next.write.has_value()) {
      write_buffer_ = SerializeMessage(*next.write);
      StartWrite(&write_buffer_);
    }
    if (next.read) StartRead(&read_buffer_);
    if (next.end.has_value()) {
      Finish(ToGrpcStatus(*next.end));
      return;
    }
  }
}

EncodeStreamReactor::Next EncodeStreamReactor::TakeNext() {
  Next next;
  if (cancelled_) {
    in_flight_ -= static_cast<int>(answers_.size());
    answers_.clear();
  }
  if (!answers_.empty() && !writing_) {
    writing_ = true;
    next.write = std::move(answers_.front());
    answers_.pop_front();
  }
  const bool no_more = no_more_requests_ || draining_;
  if (!reading_ && !no_more && in_flight_ < kMaxInFlight) reading_ = next.read = true;
  if (no_more && in_flight_ == 0) {
    if (cancelled_) {
      next.end = absl::CancelledError("cancelled by the caller");
    } else if (no_more_requests_) {
      next.end = absl::OkStatus();
    } else {
      next.end = ErrorWithReason(absl::StatusCode::kUnavailable, reason::kDraining,
                                 "the server is shutting down", absl::ZeroDuration());
    }
  }
  return next;
}

}  // namespace attendant::server
