#include "server/metrics/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics/metrics_endpoint.h"
#include "server/metrics/process_metrics.h"
#include "server/metrics/request_log.h"
#include "server/status/status_details.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

RequestRecord FinishedEncode() {
  RequestRecord record;
  record.request_id = "id-1";
  record.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  record.rpc = "Encode";
  record.model = "m";
  record.phase = "running";
  record.arrival = absl::FromUnixSeconds(1);
  record.total = absl::Milliseconds(7);
  record.timings.queue = absl::Milliseconds(2);
  record.usage.input_tokens = 12;
  return record;
}

TEST(MetricsTest, CountsFinishedRequests) {
  Metrics metrics;
  metrics.OnRequestFinished(FinishedEncode());
  metrics.OnRequestFinished(FinishedEncode());
  const std::string text = metrics.Render();
  EXPECT_THAT(text,
              HasSubstr("attendant_requests_total{code=\"OK\",model=\"m\",rpc=\"Encode\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("attendant_input_tokens_total{model=\"m\",rpc=\"Encode\"} 24\n"));
  EXPECT_THAT(text, HasSubstr("attendant_request_duration_seconds_count{rpc=\"Encode\"} 2\n"));
  EXPECT_THAT(
      text,
      HasSubstr("attendant_request_duration_seconds_bucket{rpc=\"Encode\",le=\"0.005\"} 0\n"));
  EXPECT_THAT(
      text, HasSubstr("attendant_request_duration_seconds_bucket{rpc=\"Encode\",le=\"0.01\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("attendant_queue_duration_seconds_count{rpc=\"Encode\"} 2\n"));
}

TEST(MetricsTest, CountsRefusalsByReasonAndCancellationsByPhase) {
  Metrics metrics;
  RequestRecord refused = FinishedEncode();
  refused.phase = "arrival";
  refused.status = ErrorWithReason(absl::StatusCode::kResourceExhausted, reason::kTokensFull,
                                   "full", absl::Seconds(1));
  metrics.OnRequestFinished(refused);
  RequestRecord cancelled = FinishedEncode();
  cancelled.phase = "decode";
  cancelled.status = absl::CancelledError();
  metrics.OnRequestFinished(cancelled);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("attendant_rejected_total{reason=\"tokens_full\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("attendant_cancelled_total{phase=\"decode\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("code=\"RESOURCE_EXHAUSTED\""));
}

TEST(MetricsTest, TokensAndStepsAreMeasured) {
  Metrics metrics;
  metrics.OnFirstToken("m", absl::Milliseconds(40));
  metrics.OnNextTokens("m", absl::Milliseconds(30), 3);
  metrics.OnStep({.model = "m",
                  .phase = "decode",
                  .duration = absl::Microseconds(60),
                  .num_tokens = 5,
                  .num_sequences = 5});
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("attendant_time_to_first_token_seconds_count{model=\"m\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("attendant_inter_token_latency_seconds_count{model=\"m\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("attendant_inter_token_latency_seconds_sum{model=\"m\"} 0.03"));
  EXPECT_THAT(
      text, HasSubstr("attendant_step_duration_seconds_bucket{phase=\"decode\",le=\"5e-05\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("attendant_batch_tokens_sum{phase=\"decode\"} 5\n"));
}

TEST(MetricsTest, AsksForTheEngineAtEachScrape) {
  Metrics metrics;
  metrics.SetSources({.engine_stats =
                          [] {
                            engine::EngineStats stats;
                            stats.models.push_back({.name = "m",
                                                    .requests_waiting = 3,
                                                    .kv_cache_usage_ratio = 0.25,
                                                    .weight_bytes = 100,
                                                    .preemptions = 2});
                            stats.num_threads = 2;
                            return stats;
                          },
                      .models =
                          [] {
                            engine::ModelDescription model;
                            model.name = "m";
                            model.architecture = "gpt2";
                            return std::vector<engine::ModelDescription>{model};
                          },
                      .in_flight = [] { return Load{.requests = 4, .tokens = 5, .bytes = 6}; }});
  const std::string text = metrics.Render();
  for (const char* line :
       {"attendant_requests_waiting{model=\"m\"} 3",
        "attendant_kv_cache_usage_ratio{model=\"m\"} 0.25",
        "attendant_preemptions_total{model=\"m\"} 2",
        "attendant_memory_bytes{kind=\"weights\"} 100",
        "attendant_memory_bytes{kind=\"requests\"} 6", "attendant_requests_in_flight 4",
        "attendant_cpu_threads 2", "attendant_model_info{model=\"m\",architecture=\"gpt2\"",
        "process_resident_memory_bytes "}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", line)));
  }
}

TEST(ProcessMetricsTest, AreThoseOfThisProcess) {
  const ProcessMetrics process = ReadProcessMetrics();
  EXPECT_GT(process.resident_memory_bytes.value(), 1 << 20);
  EXPECT_GT(process.virtual_memory_bytes.value(), process.resident_memory_bytes.value());
  EXPECT_GE(process.open_fds.value(), 3);
  EXPECT_LT(process.open_fds.value(), process.max_fds.value());
  EXPECT_LT(std::abs(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()) -
                     process.start_time_seconds.value()),
            600);
}

// ---------------------------------------------------------------------------------------------------------------------

// The answer to `request`, which is sent as it is.
std::string Http(int port, const std::string& request) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    ssize_t length;
    while ((length = read(fd, buffer, sizeof(buffer))) > 0) answer.append(buffer, length);
  }
  close(fd);
  return answer;
}
std::string Get(int port, const std::string& path) {
  return Http(port, absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n"));
}

TEST(MetricsEndpointTest, ServesMetricsAndProbes) {
  absl::Status ready = absl::UnavailableError("loading");
  ASSERT_OK_AND_ASSIGN(
      const auto endpoint,
      MetricsEndpoint::Start("127.0.0.1:0", {.metrics = [] { return "some 1\n"; },
                                             .live = [] { return absl::OkStatus(); },
                                             .ready = [&] { return ready; }}));
  const int port = endpoint->port();
  EXPECT_THAT(Get(port, "/metrics"),
              ::testing::AllOf(HasSubstr("200 OK"), HasSubstr("text/plain; version=0.0.4"),
                               HasSubstr("\r\n\r\nsome 1\n")));
  EXPECT_THAT(Get(port, "/livez"), HasSubstr("200 OK"));
  EXPECT_THAT(Get(port, "/readyz"), ::testing::AllOf(HasSubstr("503"), HasSubstr("loading")));
  ready = absl::OkStatus();
  EXPECT_THAT(Get(port, "/readyz"), HasSubstr("200 OK"));
  EXPECT_THAT(Get(port, "/etc/passwd"), HasSubstr("404"));
  EXPECT_THAT(Get(port, "/metrics/../../etc/passwd"), Not(HasSubstr("200")));
  EXPECT_THAT(Http(port, "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n"), HasSubstr("405"));
  EXPECT_THAT(Http(port, "HEAD /metrics HTTP/1.0\r\n\r\n"),
              ::testing::AllOf(HasSubstr("200"), Not(HasSubstr("some 1"))));
}

TEST(MetricsEndpointTest, APortInUseIsAnError) {
  MetricsPages pages = {.metrics = [] { return ""; },
                        .live = [] { return absl::OkStatus(); },
                        .ready = [] { return absl::OkStatus(); }};
  ASSERT_OK_AND_ASSIGN(const auto first, MetricsEndpoint::Start("127.0.0.1:0", pages));
  const std::string address = absl::StrCat("127.0.0.1:", first->port());
  EXPECT_THAT(MetricsEndpoint::Start(address, pages),
              attendant::testing::StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

// ---------------------------------------------------------------------------------------------------------------------

TEST(RequestLogTest, OneLineOfJson) {
  RequestRecord record = FinishedEncode();
  EXPECT_EQ(ToJson(record),
            "{\"time\":\"1970-01-01T00:00:01.000Z\",\"request_id\":\"id-1\","
            "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"rpc\":\"Encode\",\"model\":\"m\","
            "\"code\":\"OK\","
            "\"input_tokens\":12,\"queue_seconds\":0.002000,\"total_seconds\":0.007000}");
  record.request_id = "a\"b\\c\n";
  EXPECT_THAT(ToJson(record), HasSubstr("\"request_id\":\"a\\\"b\\\\c\\u000a\""));
}

TEST(RequestLogTest, AnErrorHasItsReasonButNoText) {
  RequestRecord record = FinishedEncode();
  record.status = InvalidField("inputs[0].text", "has something private");
  const std::string line = ToJson(record);
  EXPECT_THAT(
      line,
      HasSubstr(
          "\"code\":\"INVALID_ARGUMENT\",\"reason\":\"INVALID_FIELD\",\"phase\":\"running\""));
  EXPECT_THAT(line, Not(HasSubstr("private")));
}

TEST(RequestLogTest, WritesEveryLineToItsFile) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/request_log_test.", getpid());
  int num_dropped = 0;
  {
    ASSERT_OK_AND_ASSIGN(const auto log, RequestLog::Open(path, [&] { ++num_dropped; }));
    for (int i = 0; i < 500; ++i) log->Write(FinishedEncode());
  }
  const std::string contents = attendant::testing::ReadFileOrDie(path);
  EXPECT_EQ(std::count(contents.begin(), contents.end(), '\n'), 500 - num_dropped);
  EXPECT_EQ(num_dropped, 0);
  EXPECT_THAT(contents, StartsWith("{\"time\""));
  std::remove(path.c_str());
  EXPECT_THAT(RequestLog::Open("/nowhere/file", [] {}),
              attendant::testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("--request_log is /nowhere/file")));
}

}  // namespace
}  // namespace attendant::server
