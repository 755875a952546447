#include "server/inference_server.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "server/loading_progress.h"
#include "server/rpc/services.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

// The step loop beats at least once a second, but a step of a large model with a long prompt takes
// its time.
constexpr absl::Duration kMaxHeartbeatAge = absl::Seconds(60);

// How long the transport may take, after the last call was ended, to say so to the clients.
constexpr absl::Duration kFlushTime = absl::Seconds(2);

// How long clients have to read the ends of their calls before their connections are closed.
constexpr absl::Duration kReadTime = absl::Milliseconds(500);

// Finds dead peers of idle connections, and lets clients do the same.
constexpr absl::Duration kKeepalive = absl::Seconds(60);
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(20);
constexpr absl::Duration kMinClientPing = absl::Seconds(10);

std::string HealthName(absl::string_view service, absl::string_view model) {
  return absl::StrCat(service, "/", model);
}

// What the parser has to say of a bad message goes to its sender; a client must not be able to fill
// the log.
void IgnoreParserLog(google::protobuf::LogLevel, const char*, int, const std::string&) {}

}  // namespace

absl::StatusOr<std::unique_ptr<InferenceServer>> InferenceServer::Start(
    const ServerOptions& options) {
  std::unique_ptr<InferenceServer> server(new InferenceServer(options));
  ASSIGN_OR_RETURN(server->request_log_,
                   RequestLog::Open(options.request_log, [metrics = &server->metrics_] {
                     metrics->OnLogLineDropped();
                   }));
  ASSIGN_OR_RETURN(
      server->engine_,
      engine::Engine::Create(options.engine, [metrics = &server->metrics_](const auto& step) {
        metrics->OnStep(step);
      }));
  RETURN_IF_ERROR(server->Listen());
  return server;
}

InferenceServer::InferenceServer(const ServerOptions& options)
    : options_(options),
      admission_({.requests = options.max_requests,
                  .tokens = options.max_queued_tokens,
                  .bytes = options.memory_quota_bytes}) {}

InferenceServer::~InferenceServer() { Drain(absl::ZeroDuration(), absl::ZeroDuration()); }

absl::Status InferenceServer::Listen() {
  environment_.reset(new RpcEnvironment{.engine = *engine_,
                                        .admission = admission_,
                                        .metrics = metrics_,
                                        .request_log = *request_log_,
                                        .replies = replies_,
                                        .live_calls = live_calls_,
                                        .limits = options_.limits,
                                        .default_model = options_.default_model});
  services_ = MakeServices(*environment_);
  metrics_.SetSources({.engine_stats = [this] { return engine_->Stats(); },
                       .models = [this] { return engine_->ListModels(); },
                       .in_flight = [this] { return admission_.in_flight(); }});

  google::protobuf::SetLogHandler(&IgnoreParserLog);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &grpc_port_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_request_bytes));
  builder.SetMaxSendMessageSize(-1);  // answers are bounded by limits of their own
  builder.SetResourceQuota(grpc::ResourceQuota("attendant").Resize(options_.memory_quota_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options_.max_concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port that is in use is an error
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(kKeepalive / absl::Milliseconds(1)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(kKeepaliveTimeout / absl::Milliseconds(1)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(kMinClientPing / absl::Milliseconds(1)));
  for (const auto& service : services_) builder.RegisterService(service.get());
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ == nullptr || grpc_port_ == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.listen,
                     " (--listen): it is in use, or not an address of this machine"));
  }
  SetHealth(false);
  ASSIGN_OR_RETURN(metrics_endpoint_,
                   MetricsEndpoint::Start(options_.metrics_listen,
                                          {.metrics = [this] { return metrics_.Render(); },
                                           .live = [this] { return Live(); },
                                           .ready = [this] { return Ready(); }}));
  LOG(INFO) << "listening for gRPC on port " << grpc_port_ << ", for metrics on port "
            << metrics_port();
  return absl::OkStatus();
}

absl::Status InferenceServer::LoadModels() {
  for (const engine::ModelSource& source : options_.models) {
    LoadingProgress progress(source);
    const absl::Status status =
        engine_->LoadModel(source, [&progress](double fraction) { progress.Update(fraction); });
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("cannot load model ", source.name, ": ", status.message()));
    }
    ASSIGN_OR_RETURN(const engine::ModelDescription model, engine_->GetModel(source.name));
    progress.Done(model);
  }
  admission_.SetState(AdmissionController::State::kServing);
  SetHealth(true);
  LOG(INFO) << "serving " << options_.models.size() << " model(s) on port " << grpc_port_
            << " with " << engine_->Stats().num_threads << " computing thread(s)";
  return WritePortFile();
}

int64_t InferenceServer::Drain(absl::Duration settle, absl::Duration timeout) {
  if (grpc_server_ == nullptr) return 0;
  SetHealth(false);
  if (admission_.state() == AdmissionController::State::kServing && settle > absl::ZeroDuration()) {
    LOG(INFO) << "draining: " << live_calls_.size()
              << " call(s) are running; new ones are accepted for another " << settle;
    absl::SleepFor(settle);
  }
  admission_.SetState(AdmissionController::State::kDraining);
  live_calls_.Drain();
  // gRPC closes a connection with its last call once it has sent GOAWAY, even if the client is
  // about to acknowledge what it read. TCP answers that with a reset, and the client drops what it
  // has not read: the end of a call that was accepted. So there is no GOAWAY before accepted calls
  // are over and read; those that come meanwhile are refused.
  const int64_t num_cut_off = live_calls_.WaitUntilDrained(timeout);
  if (num_cut_off > 0) {
    live_calls_.Abort(ErrorWithReason(
        absl::StatusCode::kUnavailable, reason::kDraining,
        "the server is shutting down, and the time for this call is over", absl::ZeroDuration()));
    engine_->Wake();
    live_calls_.WaitUntilDrained(kFlushTime);
  }
  absl::SleepFor(std::min(timeout, kReadTime));
  // A call that crosses the GOAWAY on its way is not ours to answer: gRPC ends it with CANCELLED.
  std::thread shutdown(
      [&] { grpc_server_->Shutdown(absl::ToChronoTime(absl::Now() + kFlushTime)); });
  // What is left are calls that are not ours, such as Watch of the health service, which never end
  // by themselves.
  grpc_server_cancel_all_calls(grpc_server_->c_server());
  shutdown.join();
  live_calls_.WaitUntilEmpty(kFlushTime);
  grpc_server_.reset();
  LOG(INFO) << "drained: " << num_cut_off << " call(s) were cut off";
  return num_cut_off;
}

void InferenceServer::SetHealth(bool serving) {
  grpc::HealthCheckServiceInterface* health = grpc_server_->GetHealthCheckService();
  health->SetServingStatus("", serving);
  for (const std::string& service : ServiceNames()) health->SetServingStatus(service, serving);
  for (const engine::ModelSource& model : options_.models) {
    health->SetServingStatus(HealthName(ServiceNames().front(), model.name), serving);
  }
  healthy_ = serving;
}

absl::Status InferenceServer::Live() const {
  const absl::Duration age = absl::Now() - engine_->Stats().last_heartbeat;
  if (age <= kMaxHeartbeatAge) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the engine's last step was ", absl::FormatDuration(age), " ago"));
}

absl::Status InferenceServer::Ready() const {
  if (healthy_) return absl::OkStatus();
  return absl::UnavailableError(
      admission_.state() == AdmissionController::State::kLoading ? "loading" : "draining");
}

absl::Status InferenceServer::WritePortFile() const {
  if (options_.port_file.empty()) return absl::OkStatus();
  const std::string temporary = absl::StrCat(options_.port_file, ".", getpid());
  {
    std::ofstream file(temporary);
    file << "grpc=" << grpc_port_ << "\nmetrics=" << metrics_port() << "\n";
    file.flush();
    if (!file) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot write ", temporary, " (--port_file): ", std::strerror(errno)));
    }
  }
  if (std::rename(temporary.c_str(), options_.port_file.c_str()) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot rename ", temporary, " to ",
                                                   options_.port_file, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace attendant::server
