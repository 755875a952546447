#ifndef ATTENDANT_SERVER_SERVER_OPTIONS_H_
#define ATTENDANT_SERVER_SERVER_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/rpc/call.h"

namespace attendant::server {

// Everything that can be set of a server. A field is the flag of its name, whose help explains it.
struct ServerOptions {
  std::string listen = "127.0.0.1:50051";
  std::string metrics_listen = "127.0.0.1:9090";
  bool allow_insecure_bind = false;
  std::string port_file;

  std::vector<engine::ModelSource> models;
  std::string default_model;
  engine::EngineOptions engine;

  RequestLimits limits;
  int64_t max_requests = 512;
  int64_t max_queued_tokens = int64_t{1} << 20;
  int64_t max_request_bytes = int64_t{64} << 20;
  int64_t memory_quota_bytes = int64_t{1} << 30;
  int max_concurrent_streams = 256;

  absl::Duration drain_settle = absl::Seconds(5);
  absl::Duration drain_timeout = absl::Seconds(25);

  std::string request_log = "stdout";
};

// Sets what `--help` and `--version` print. Before absl::ParseCommandLine.
void DescribeFlags();

// The flags, as they were parsed, checked by Validate.
absl::StatusOr<ServerOptions> ServerOptionsFromFlags();

// Checks everything that can be checked before anything starts. INVALID_ARGUMENT has one line for
// each fault, which names flag, value and limit.
absl::Status Validate(const ServerOptions& options);

// "NAME=PATH[,dtype=f32|bf16|int8|int4][,max_tokens=N]", or a path alone, whose last part, without
// .gguf, is then the name.
absl::StatusOr<engine::ModelSource> ParseModelSource(absl::string_view text);

// "off", "beside" or a folder, as EngineOptions::packed_cache has them.
absl::StatusOr<std::optional<std::string>> ParsePackedCache(absl::string_view text);

// "512MiB", "1GiB", "64KiB", "1.5GiB"; a number alone is bytes.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);
std::string FormatBytes(int64_t bytes);

// "HOST:PORT". Splits at the last colon; an IPv6 host is in brackets, which stay.
struct HostPort {
  std::string host;
  int port = 0;
};
absl::StatusOr<HostPort> ParseHostPort(absl::string_view address);

// Whether only this machine can reach it: localhost, 127.0.0.0/8, [::1].
bool IsLoopback(absl::string_view host);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_SERVER_OPTIONS_H_
