#ifndef ATTENDANT_SERVER_RPC_STREAM_REACTOR_H_
#define ATTENDANT_SERVER_RPC_STREAM_REACTOR_H_

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/alarm.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/message_parsing.h"
#include "server/rpc/status_conversion.h"
#include "server/status/status_details.h"

namespace attendant::server {

// One message in, a stream of them out. An RPC implements Start, then calls Send any number of
// times and End once.
//
// One write is outstanding at a time. What is sent meanwhile waits, joined to its predecessor where
// the RPC knows how to. A client that leaves more than max_stream_backlog_bytes waiting is cut off.
template <typename Request, typename Response>
class StreamReactor : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                      public std::enable_shared_from_this<StreamReactor<Request, Response>> {
 public:
  StreamReactor(const RpcEnvironment& environment, absl::string_view rpc,
                grpc::CallbackServerContext& context)
      : call_(environment, rpc, context), context_(context) {}

  template <typename Reactor>
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Serve(const RpcEnvironment& environment,
                                                           grpc::CallbackServerContext& context,
                                                           const grpc::ByteBuffer& request) {
    auto reactor = std::make_shared<Reactor>(environment, context);
    reactor->self_ = reactor;
    reactor->Begin(request);
    return reactor.get();
  }

  void OnCancel() override { call_.Cancel(); }
  void OnDone() override {
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;  // and the context is gone
    }
    alarm_.Cancel();
    auto self = std::move(self_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) {
      call_.Cancel();
      absl::MutexLock lock(&mutex_);
      Break();
    }
    Continue();
  }

 protected:
  // Checks `request`, admits it and passes it on; an error ends the call.
  virtual absl::Status Start(Request request, int64_t num_bytes) = 0;

  // Adds `next` to what waits in `pending`, if it can: then it is not sent by itself. The mutex is
  // held.
  virtual bool Join(std::deque<Response>& /*pending*/, Response& /*next*/) { return false; }

  // A message has left the queue, and `num_pending` are in it. From any thread.
  virtual void OnTaken(size_t /*num_pending*/) {}

  // Any thread; returns at once.
  void Send(Response message) {
    bool too_slow = false;
    {
      absl::MutexLock lock(&mutex_);
      if (broken_ || end_.has_value()) return;
      pending_bytes_ += message.ByteSizeLong();
      if (limits_backlog_ && pending_bytes_ > call_.environment().limits.max_stream_backlog_bytes) {
        Break();
        too_slow = true;
      } else {
        if (!Join(pending_, message)) pending_.push_back(std::move(message));
        if (std::exchange(busy_, true)) return;
      }
    }
    call_.environment().replies.Run([self = this->shared_from_this(), too_slow] {
      too_slow ? self->CutOff() : self->Continue();
    });
  }

  // Any thread; returns at once. What was sent goes first.
  void End(absl::Status status) {
    {
      absl::MutexLock lock(&mutex_);
      end_ = std::move(status);
      if (std::exchange(busy_, true)) return;
    }
    call_.environment().replies.Run([self = this->shared_from_this()] { self->Continue(); });
  }

  size_t num_pending() {
    absl::MutexLock lock(&mutex_);
    return pending_.size();
  }

  // For an RPC that holds its producer back by itself.
  void DoNotLimitBacklog() { limits_backlog_ = false; }

  Call& call() { return call_; }

 private:
  // How long a client that was cut off may take to read what is on its way, before it is
  // disconnected.
  static constexpr absl::Duration kCutOffGrace = absl::Seconds(10);

  void Begin(const grpc::ByteBuffer& bytes) {
    absl::Status status = call_.CheckServing();
    Request request;
    if (status.ok()) status = ParseMessage(bytes, request);
    if (status.ok()) status = Start(std::move(request), bytes.Length());
    if (!status.ok()) End(std::move(status));
  }

  // The next write, or the end. Only whoever made `busy_` true, or a write that is done, comes
  // here.
  void Continue() {
    std::optional<absl::Status> end;
    Response message;
    size_t num_pending = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (!pending_.empty()) {
        message = std::move(pending_.front());
        pending_.pop_front();
        num_pending = pending_.size();
        pending_bytes_ =
            num_pending == 0 ? 0 : pending_bytes_ - static_cast<int64_t>(message.ByteSizeLong());
      } else if (end_.has_value()) {
        end = end_;
      } else {
        busy_ = false;
        return;
      }
    }
    if (end.has_value()) {
      Finish(ToGrpcStatus(call_.Finish(*std::move(end))));
      return;
    }
    buffer_ = SerializeMessage(message);
    StartWrite(&buffer_);
    OnTaken(num_pending);
  }

  void Break() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    broken_ = true;
    pending_.clear();
    pending_bytes_ = 0;
  }

  // The engine ends the work, and the call with this status. The write that is on its way comes
  // before the end: a client that never takes it is disconnected.
  void CutOff() {
    const int64_t limit = call_.environment().limits.max_stream_backlog_bytes;
    call_.Abort(
        ErrorWithReason(absl::StatusCode::kResourceExhausted, reason::kSlowReader,
                        absl::StrCat("the client reads too slowly: more than ", limit,
                                     " bytes are waiting for it (--max_stream_backlog_bytes)"),
                        absl::ZeroDuration()));
    absl::MutexLock lock(&mutex_);
    if (done_) return;
    // Weak: an alarm keeps its function after it rang, and the reactor keeps the alarm.
    alarm_.Set(absl::ToChronoTime(absl::Now() + kCutOffGrace),
               [weak = this->weak_from_this()](bool expired) {
                 const std::shared_ptr<StreamReactor> self = weak.lock();
                 if (self == nullptr || !expired) return;
                 absl::MutexLock lock(&self->mutex_);
                 if (!self->done_) self->context_.TryCancel();
               });
  }

  Call call_;
  grpc::CallbackServerContext& context_;
  bool limits_backlog_ = true;
  absl::Mutex mutex_;
  std::deque<Response> pending_ ABSL_GUARDED_BY(mutex_);
  int64_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool busy_ ABSL_GUARDED_BY(mutex_) =
      false;  // a write is outstanding, or somebody is about to start one
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more can be sent but the status
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer buffer_;  // of the outstanding write
  grpc::Alarm alarm_;
  std::shared_ptr<StreamReactor> self_;  // held for gRPC
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_STREAM_REACTOR_H_
