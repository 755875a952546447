#ifndef ATTENDANT_SERVER_RPC_ENCODE_REACTOR_H_
#define ATTENDANT_SERVER_RPC_ENCODE_REACTOR_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "attendant/v1/encode.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/unary_reactor.h"

namespace attendant::server {

// Checks and admits `request` as `call`, and gives it to the engine; an error is returned, and
// `done` then not called. Else `done` is called once, on the reply thread. `num_bytes`: of the
// message.
absl::Status StartEncode(Call& call, v1::EncodeRequest request, int64_t num_bytes,
                         absl::AnyInvocable<void(absl::StatusOr<v1::EncodeResponse>) &&> done);

class EncodeReactor : public UnaryReactor<v1::EncodeRequest, v1::EncodeResponse> {
 public:
  EncodeReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
                grpc::ByteBuffer* response)
      : UnaryReactor(environment, "Encode", context, response) {}

 private:
  absl::Status Start(v1::EncodeRequest request, int64_t num_bytes) override;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_ENCODE_REACTOR_H_
