// One measurement of a server, from a client's side: a line of JSON.
//
//   grpc_bench [--seconds=S] ADDRESS LENGTHS
//
// Calls Encode of the only model there, one call after the other, each with inputs of the lengths
// given: 32x128, or 4,17,512. Printed is how long a call takes (the median), and beside it how many
// tokens a second that is; "added_ms", the median of what a call takes beyond the time that the
// server computes; and "idle_ms", that of a call that computes nothing (GetModel), each after a
// pause as long as that time: what gRPC and the machine take for any call that comes as seldom.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "attendant/v1/inference.pb.h"
#include "client/client.h"
#include "tests/benchmarks/measurement.h"

ABSL_FLAG(double, seconds, 2, "How long to repeat the call.");

namespace attendant::benchmarks {
namespace {

int Main(const std::string& address, absl::string_view text) {
  const std::vector<int32_t> lengths = ParseLengths(text);
  auto client = client::Client::Connect(address);
  ExitUnlessOk(client.status());
  const auto model = client->GetModel("");
  ExitUnlessOk(model.status());

  v1::EncodeRequest request;
  double num_tokens = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const std::vector<int32_t> ids = RandomTokens(lengths[i], model->vocab_size(), i);
    request.add_inputs()->mutable_tokens()->mutable_ids()->Assign(ids.begin(), ids.end());
    num_tokens += lengths[i];
  }
  std::vector<double> added, computed;
  const std::vector<double> values = Repeat(absl::GetFlag(FLAGS_seconds), [&] {
    const absl::Time start = absl::Now();
    const auto response = client->Encode(request);
    const double ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    ExitUnlessOk(response.status());
    const auto& compute = response->timing().compute();
    computed.push_back(static_cast<double>(compute.seconds()) * 1e3 + compute.nanos() * 1e-6);
    added.push_back(ms - computed.back());
    return ms;
  });
  const absl::Duration pause = absl::Milliseconds(Median(computed));
  const std::vector<double> idle = Repeat(absl::GetFlag(FLAGS_seconds), [&] {
    absl::SleepFor(pause);
    const absl::Time start = absl::Now();
    ExitUnlessOk(client->GetModel("").status());
    return absl::ToDoubleMilliseconds(absl::Now() - start);
  });
  PrintResult(values, "ms",
              {{"tokens_per_second", num_tokens / Median(values) * 1e3},
               {"added_ms", Median(added)},
               {"idle_ms", Median(idle)}});
  return 0;
}

}  // namespace
}  // namespace attendant::benchmarks

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() != 3) {
    attendant::benchmarks::Exit(attendant::benchmarks::kUsage,
                                "usage: grpc_bench [--seconds=S] ADDRESS LENGTHS");
  }
  return attendant::benchmarks::Main(arguments[1], arguments[2]);
}
