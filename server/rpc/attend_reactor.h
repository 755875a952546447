#ifndef ATTENDANT_SERVER_RPC_ATTEND_REACTOR_H_
#define ATTENDANT_SERVER_RPC_ATTEND_REACTOR_H_

#include "attendant/v1/attend.pb.h"
#include "engine/request.h"
#include "server/rpc/stream_reactor.h"

namespace attendant::server {

// Passes the blocks of an Attend on to its client. A slow client holds back its own work: the
// engine computes a step only while fewer than kMaxPendingBlocks wait.
class AttendReactor : public StreamReactor<v1::AttendRequest, v1::AttendResponse>,
                      public engine::AttendSink {
 public:
  static constexpr size_t kMaxPendingBlocks = 4;

  AttendReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context)
      : StreamReactor(environment, "Attend", context) {
    DoNotLimitBacklog();
  }

  bool Ready() override { return num_pending() < kMaxPendingBlocks; }
  void OnStarted(engine::AttendStarted started) override;
  void OnBlock(engine::AttendBlock block) override;
  void OnDone(absl::Status status, engine::RequestTimings timings) override;
  using StreamReactor::OnDone;

 private:
  absl::Status Start(v1::AttendRequest request, int64_t num_bytes) override;
  void OnTaken(size_t num_pending) override;

  absl::string_view source_ = "tensors";  // the request's field
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_ATTEND_REACTOR_H_
