// What gRPC and the server add to an Encode, beyond what the engine computes: the time that a
// client sees, less the time that the engine worked on the request. One client, one text at a time,
// over loopback.
//
//   rpc_overhead [MODEL_FOLDER]     by default the tiny BERT of tests/goldens

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/log/globals.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "attendant/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "server/inference_server.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

constexpr int kWarmUp = 200;
constexpr int kCalls = 3000;

double Percentile(std::vector<double> values, double p) {
  const auto nth = values.begin() + static_cast<ptrdiff_t>(p * (values.size() - 1));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

int Main(int argc, char** argv) {
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kWarning);
  ServerOptions options;
  options.listen = options.metrics_listen = "127.0.0.1:0";
  options.request_log = "off";
  options.models = {
      {.name = "model",
       .path =
           argc > 1 ? argv[1] : attendant::testing::TestDataPath("goldens/bert/plain").string()}};
  auto server = InferenceServer::Start(options);
  absl::Status status = server.status();
  if (status.ok()) status = (*server)->LoadModels();
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  auto stub = v1::InferenceService::NewStub(grpc::CreateChannel(
      absl::StrCat("127.0.0.1:", (*server)->grpc_port()), grpc::InsecureChannelCredentials()));
  v1::EncodeRequest request;
  request.add_inputs()->set_text("a man is eating food");
  std::vector<double> seen, computed, added;
  for (int i = 0; i < kWarmUp + kCalls; ++i) {
    grpc::ClientContext context;
    v1::EncodeResponse response;
    const absl::Time start = absl::Now();
    const grpc::Status answer = stub->Encode(&context, request, &response);
    const double client_us = absl::ToDoubleMicroseconds(absl::Now() - start);
    if (!answer.ok()) {
      std::fprintf(stderr, "%s\n", answer.error_message().c_str());
      return 1;
    }
    if (i < kWarmUp) continue;
    const double compute_us =
        response.timing().compute().seconds() * 1e6 + response.timing().compute().nanos() * 1e-3;
    seen.push_back(client_us);
    computed.push_back(compute_us);
    added.push_back(client_us - compute_us);
  }
  std::printf("%-34s %8s %8s\n", "microseconds of one Encode", "p50", "p99");
  std::printf("%-34s %8.0f %8.0f\n", "the client waits", Percentile(seen, 0.5),
              Percentile(seen, 0.99));
  std::printf("%-34s %8.0f %8.0f\n", "the engine computes", Percentile(computed, 0.5),
              Percentile(computed, 0.99));
  std::printf("%-34s %8.0f %8.0f\n", "the rest", Percentile(added, 0.5), Percentile(added, 0.99));
  return 0;
}

}  // namespace
}  // namespace attendant::server

int main(int argc, char** argv) { return attendant::server::Main(argc, argv); }
