#ifndef ATTENDANT_SERVER_RPC_UNARY_REACTOR_H_
#define ATTENDANT_SERVER_RPC_UNARY_REACTOR_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/message_parsing.h"
#include "server/rpc/status_conversion.h"

namespace attendant::server {

// One message in, one out. An RPC implements Start, and calls Reply once.
//
// A reactor lives until gRPC is done with it and nobody else holds it: an answer that is under way
// holds it by shared_from_this.
template <typename Request, typename Response>
class UnaryReactor : public grpc::ServerUnaryReactor,
                     public std::enable_shared_from_this<UnaryReactor<Request, Response>> {
 public:
  UnaryReactor(const RpcEnvironment& environment, absl::string_view rpc,
               grpc::CallbackServerContext& context, grpc::ByteBuffer* response)
      : call_(environment, rpc, context), response_(response) {}

  // Takes the call from its first byte to its end.
  template <typename Reactor>
  static grpc::ServerUnaryReactor* Serve(const RpcEnvironment& environment,
                                         grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer* response) {
    auto reactor = std::make_shared<Reactor>(environment, context, response);
    reactor->self_ = reactor;
    reactor->Begin(request);
    return reactor.get();
  }

  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { auto self = std::move(self_); }

 protected:
  // Checks `request`, admits it and passes it on; an error is the reply. `num_bytes`: of the
  // message.
  virtual absl::Status Start(Request request, int64_t num_bytes) = 0;

  // Any thread but the engine's.
  void Reply(const absl::StatusOr<Response>& response) {
    if (response.ok()) *response_ = SerializeMessage(*response);
    Finish(ToGrpcStatus(call_.Finish(response.status())));
  }

  // From the engine's threads: `reply` calls Reply.
  void RunReply(ReplyThread::Task reply) { call_.environment().replies.Run(std::move(reply)); }

  Call& call() { return call_; }

 private:
  void Begin(const grpc::ByteBuffer& bytes) {
    absl::Status status = call_.CheckServing();
    Request request;
    if (status.ok()) status = ParseMessage(bytes, request);
    if (status.ok()) status = Start(std::move(request), bytes.Length());
    if (!status.ok()) Reply(status);
  }

  Call call_;
  grpc::ByteBuffer* const response_;
  std::shared_ptr<UnaryReactor> self_;  // held for gRPC
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_UNARY_REACTOR_H_
