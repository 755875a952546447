#ifndef ATTENDANT_SERVER_RPC_ENCODE_STREAM_REACTOR_H_
#define ATTENDANT_SERVER_RPC_ENCODE_STREAM_REACTOR_H_

#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "attendant/v1/encode.pb.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"

namespace attendant::server {

// Encodes of one client, pipelined. So many are in flight at a time, from being read to being
// answered; then reading stops, and HTTP/2's flow control holds the client back. Answers leave as
// they are ready.
class EncodeStreamReactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                            public std::enable_shared_from_this<EncodeStreamReactor> {
 public:
  static constexpr int kMaxInFlight = 32;

  EncodeStreamReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context)
      : environment_(environment), stream_(environment, "EncodeStream", context) {}

  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Serve(
      const RpcEnvironment& environment, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void Begin();
  void Handle(const grpc::ByteBuffer& bytes);
  void Answer(v1::EncodeStreamResponse response);
  void Drain();
  // The next read, the next write and the end, as far as it is time for them. One thread at a time
  // does this; another that comes meanwhile makes it look again.
  void Continue();
  struct Next {
    bool read = false;
    std::optional<v1::EncodeStreamResponse> write;
    std::optional<absl::Status> end;
  };
  Next TakeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RpcEnvironment& environment_;
  Call stream_;
  absl::Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_requests_ ABSL_GUARDED_BY(mutex_) =
      false;  // the client has sent the last, or is gone
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool continuing_ ABSL_GUARDED_BY(mutex_) = false;
  bool look_again_ ABSL_GUARDED_BY(mutex_) = false;
  int in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<v1::EncodeStreamResponse> answers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Call*> requests_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer read_buffer_;               // of the outstanding read
  grpc::ByteBuffer write_buffer_;              // of the outstanding write
  std::shared_ptr<EncodeStreamReactor> self_;  // held for gRPC
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_ENCODE_STREAM_REACTOR_H_
