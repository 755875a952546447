#ifndef ATTENDANT_SERVER_RPC_GENERATE_REACTOR_H_
#define ATTENDANT_SERVER_RPC_GENERATE_REACTOR_H_

#include <deque>
#include <string>
#include <vector>

#include "attendant/v1/generate.pb.h"
#include "engine/request.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/stream_reactor.h"

namespace attendant::server {

// Passes a generation on to its client, and measures it.
class GenerateReactor : public StreamReactor<v1::GenerateRequest, v1::GenerateResponse>,
                        public engine::TokenSink {
 public:
  GenerateReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context)
      : StreamReactor(environment, "Generate", context) {}

  void OnStarted(engine::GenerateStarted started) override;
  void OnChunk(engine::GenerateChunk chunk) override;
  void OnFinished(engine::GenerateFinished finished) override;
  void OnDone(absl::Status status) override;
  using StreamReactor::OnDone;

 private:
  absl::Status Start(v1::GenerateRequest request, int64_t num_bytes) override;
  // Text and tokens join those of their sequence that still wait.
  bool Join(std::deque<v1::GenerateResponse>& pending, v1::GenerateResponse& next) override;

  void Measure(const engine::GenerateChunk& chunk);

  TokenOutput output_;
  std::string prompt_field_;
  bool has_first_token_ = false;
  std::vector<absl::Time> last_token_;  // of each sequence
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_GENERATE_REACTOR_H_
