#ifndef ATTENDANT_SERVER_INFERENCE_SERVER_H_
#define ATTENDANT_SERVER_INFERENCE_SERVER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "grpcpp/server.h"
#include "server/admission/admission_controller.h"
#include "server/metrics/metrics.h"
#include "server/metrics/metrics_endpoint.h"
#include "server/metrics/request_log.h"
#include "server/rpc/call.h"
#include "server/rpc/reply_thread.h"
#include "server/server_options.h"

namespace attendant::server {

// The server as a whole: Start, LoadModels, and at the end Drain.
//
// grpc.health.v1 knows "" (all), each service by its full name, and each model as
// "attendant.v1.InferenceService/NAME". All are NOT_SERVING until the models are loaded, and again
// from the beginning of a drain.
class InferenceServer {
 public:
  // Listens. Calls are answered with UNAVAILABLE until the models are loaded. `options` passed
  // Validate.
  static absl::StatusOr<std::unique_ptr<InferenceServer>> Start(const ServerOptions& options);

  // Ends what Drain has not.
  ~InferenceServer();

  // Loads all models, then serves, then writes the port file. Blocks.
  absl::Status LoadModels();

  // Shuts down in order: health says NOT_SERVING; after `settle` new requests are refused and
  // clients told to go elsewhere (GOAWAY); running ones finish; after another `timeout` the rest
  // end with UNAVAILABLE. Returns how many those were. Blocks; the second time there is nothing to
  // do.
  int64_t Drain(absl::Duration settle, absl::Duration timeout);

  int grpc_port() const { return grpc_port_; }
  int metrics_port() const { return metrics_endpoint_->port(); }
  engine::Engine& engine() { return *engine_; }

 private:
  explicit InferenceServer(const ServerOptions& options);
  absl::Status Listen();
  void SetHealth(bool serving);
  absl::Status Live() const;
  absl::Status Ready() const;
  absl::Status WritePortFile() const;

  const ServerOptions options_;
  Metrics metrics_;
  AdmissionController admission_;
  LiveCalls live_calls_;
  ReplyThread replies_;
  std::unique_ptr<RequestLog> request_log_;
  std::unique_ptr<RpcEnvironment> environment_;  // also for calls that the engine holds to its end
  std::unique_ptr<engine::Engine> engine_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> grpc_server_;
  int grpc_port_ = 0;
  std::atomic<bool> healthy_{false};
  std::unique_ptr<MetricsEndpoint> metrics_endpoint_;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_INFERENCE_SERVER_H_
