// attendant-server as it is started by its users.

#include <signal.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/server_program.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<std::string> Flags() {
  return {
      "--listen=127.0.0.1:0",
      "--metrics_listen=127.0.0.1:0",
      "--threads=1",
      "--nopin_threads",
      "--kv_cache_bytes=8MiB",
      "--drain_settle=100ms",
      absl::StrCat("--model=gpt2=", attendant::testing::TestDataPath("goldens/gpt2/plain").string(),
                   ",dtype=f32"),
      absl::StrCat("--model=", attendant::testing::TestDataPath("goldens/bert/plain").string())};
}

TEST(ProgramTest, ServesUntilSigtermThenDrainsAndExitsZero) {
  ServerProgram program(Flags());
  const int port = program.Port("grpc");
  ASSERT_GT(port, 0) << program.Output();
  EXPECT_THAT(HttpGet(program.Port("metrics"), "/readyz"), HasSubstr("200 OK"));
  auto inference = v1::InferenceService::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  // Letters that no id in the log has by chance.
  auto stream = inference->Generate(&context, Prompt("ghi", 120));
  v1::GenerateResponse response;
  ASSERT_TRUE(stream->Read(&response));
  program.Signal(SIGTERM);
  int64_t num_tokens = 0;
  while (stream->Read(&response)) num_tokens += response.finished().usage().output_tokens();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(num_tokens, 120);
  EXPECT_EQ(program.Wait(), 0);
  const std::string output = program.Output();
  EXPECT_THAT(output,
              AllOf(HasSubstr("\"rpc\":\"Generate\""), HasSubstr("\"code\":\"OK\""),
                    HasSubstr("\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\""),
                    HasSubstr("\"output_tokens\":120"), HasSubstr("0 call(s) were cut off")));
  EXPECT_THAT(output, ::testing::Not(HasSubstr("ghi"))) << "the log has text of a prompt";
}

// The linker leaves out what nobody names: clients by reflection then see a service, and not what
// it is.
TEST(ProgramTest, ReflectionDescribesEveryServiceThatItLists) {
  ServerProgram program(Flags());
  const int port = program.Port("grpc");
  ASSERT_GT(port, 0) << program.Output();
  const auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  for (const std::string service :
       {"attendant.v1.InferenceService", "attendant.v1.ModelService", "grpc.health.v1.Health"}) {
    // A ServerReflectionRequest with file_containing_symbol, field 4.
    std::string request = "\x22";
    request += static_cast<char>(service.size());
    std::string answer;
    EXPECT_TRUE(CallRaw(channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                        request + service, &answer)
                    .ok());
    EXPECT_THAT(answer, HasSubstr("proto3")) << service;
  }
}

TEST(ProgramTest, ASecondSignalEndsItAtOnce) {
  std::vector<std::string> flags = Flags();
  flags.push_back("--drain_settle=1h");
  ServerProgram program(flags);
  ASSERT_GT(program.Port("grpc"), 0) << program.Output();
  program.Signal(SIGTERM);
  while (!absl::StrContains(program.Output(), "draining")) absl::SleepFor(absl::Milliseconds(10));
  program.Signal(SIGINT);
  EXPECT_EQ(program.Wait(), 1);
}

TEST(ProgramTest, BadFlagsAreExplained) {
  {
    ServerProgram program({"--model=a=/x", "--listen=0.0.0.0:1", "--max_requests=0"});
    EXPECT_EQ(program.Wait(), 2);
    EXPECT_THAT(program.Output(),
                AllOf(HasSubstr("--listen is 0.0.0.0:1"), HasSubstr("--allow_insecure_bind"),
                      HasSubstr("--max_requests is 0; must be at least 1")));
  }
  {
    ServerProgram program({"--kv_cache_bytes=lots"});
    EXPECT_NE(program.Wait(), 0);
    EXPECT_THAT(program.Output(), HasSubstr("\"lots\" is not a number of bytes"));
  }
  {
    ServerProgram program(
        {"--model=a=/nowhere/a", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0"});
    EXPECT_EQ(program.Wait(), 1);
    EXPECT_THAT(program.Output(), AllOf(HasSubstr("cannot load model a"), HasSubstr("/nowhere/a")));
  }
}

TEST(ProgramTest, HelpShowsOurFlags) {
  ServerProgram program({"--help"});
  program.Wait();
  EXPECT_THAT(program.Output(),
              AllOf(HasSubstr("Serves transformers on the CPU"), HasSubstr("--kv_cache_bytes"),
                    HasSubstr("1GiB"), HasSubstr("--drain_timeout")));
}

}  // namespace
}  // namespace attendant::server
