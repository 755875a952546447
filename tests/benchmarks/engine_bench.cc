// One measurement of the engine, as llama-bench makes one of llama.cpp: a line of JSON.
//
//   engine_bench [--seconds=S] [FLAGS OF attendant-server] MODEL WORKLOAD
//
// MODEL is what the server's --model takes, NAME=PATH[,dtype=...]. WORKLOAD is one of
//
//   encode:32x128                32 inputs of 128 tokens in one request; or their lengths, 4,17,512
//   prefill:512                  a prompt of 512 tokens, until the first token comes
//   decode:128                   tokens of one sequence, after the first
//   decode:32x8x64               of 8 sequences at a time, each after a prompt of 64 tokens
//   translate:32x24x1x4          24 tokens for each of 1 source of 32 tokens, with 4 beams
//
// and, where MODEL is a data type:
//
//   attention:12x64x512          12 heads of 64 over 512 tokens; f32 or bf16
//   linear:128x384x1536          128 rows through a layer of 384 inputs and 1536 outputs; f32,
//   bf16,
//                                int8 or int4
//
// or, where it is anything:
//
//   memory                       how fast the threads together read memory that is in no cache
//
// It ends with 3 if the engine does not serve the model so.

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/base/cpu_topology.h"
#include "engine/engine.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/request.h"
#include "server/server_options.h"
#include "tests/benchmarks/benchmark_data.h"
#include "tests/benchmarks/measurement.h"
#include "tests/benchmarks/weight_types.h"

ABSL_DECLARE_FLAG(int, threads);
ABSL_FLAG(double, seconds, 2, "How long to repeat the workload.");

namespace attendant::engine {
namespace {

using benchmarks::Exit;
using benchmarks::ExitUnlessOk;
using benchmarks::kNotServed;
using benchmarks::kUsage;
using benchmarks::ParseNumbers;
using benchmarks::PrintResult;
using benchmarks::RandomTokens;

double Seconds() { return absl::GetFlag(FLAGS_seconds); }

int NumThreads() {
  const int threads = absl::GetFlag(FLAGS_threads);
  return threads > 0 ? threads : DefaultNumThreads();
}

double PeakResidentBytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

// ---------------------------------------------------------------------------------------------------------------------
// Models.

// When each token of a generation came.
class Sink : public TokenSink {
 public:
  void OnStarted(GenerateStarted) override {}
  void OnChunk(GenerateChunk chunk) override {
    times_.insert(times_.end(), chunk.tokens.size(), absl::Now());
  }
  void OnFinished(GenerateFinished) override {}
  void OnDone(absl::Status status) override {
    status_ = std::move(status);
    done_.Notify();
  }

  const std::vector<absl::Time>& Wait() {
    done_.WaitForNotification();
    ExitUnlessOk(status_);
    return times_;
  }

 private:
  std::vector<absl::Time> times_;
  absl::Status status_;
  absl::Notification done_;
};

class Bench {
 public:
  Bench(const ModelSource& source, const EngineOptions& options) {
    auto engine = Engine::Create(options);
    ExitUnlessOk(engine.status());
    engine_ = *std::move(engine);
    ExitUnlessOk(engine_->LoadModel(source));
    model_ = *engine_->GetModel(source.name);
  }

  void Encode(const std::vector<int32_t>& lengths) {
    std::vector<EncodeInput> inputs;
    for (size_t i = 0; i < lengths.size(); ++i) {
      inputs.push_back(RandomTokens(lengths[i], model_.vocab_size, i));
    }
    Print("ms", [&] {
      EncodeRequest request;
      request.model = model_.name;
      request.inputs = inputs;
      absl::Status status;
      absl::Notification done;
      const absl::Time start = absl::Now();
      engine_->Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
        status = result.status();
        done.Notify();
      });
      done.WaitForNotification();
      const absl::Duration duration = absl::Now() - start;
      ExitUnlessOk(status);
      return absl::ToDoubleMilliseconds(duration);
    });
  }

  void Prefill(int32_t num_tokens) {
    Print("tokens/s", [&] {
      const absl::Time start = absl::Now();
      const auto sinks = Generate(1, num_tokens, 1, 1);
      return num_tokens / absl::ToDoubleSeconds(sinks[0]->Wait().at(0) - start);
    });
  }

  // Only while all sequences generate.
  void Decode(int32_t num_tokens, int32_t num_sequences, int32_t prompt_tokens) {
    Print("tokens/s", [&] {
      const auto sinks = Generate(num_sequences, prompt_tokens, num_tokens, 1);
      absl::Time start = absl::InfinitePast(), end = absl::InfiniteFuture();
      for (const auto& sink : sinks) {
        start = std::max(start, sink->Wait().front());
        end = std::min(end, sink->Wait().back());
      }
      int64_t count = 0;
      for (const auto& sink : sinks) {
        for (const absl::Time time : sink->Wait()) count += time > start && time <= end;
      }
      if (count == 0) Exit(kNotServed, "the sequences did not generate at the same time");
      return static_cast<double>(count) / absl::ToDoubleSeconds(end - start);
    });
  }

  void Translate(int32_t source_tokens, int32_t num_tokens, int32_t num_sources,
                 int32_t num_beams) {
    Print("tokens/s", [&] {
      const absl::Time start = absl::Now();
      const auto sinks = Generate(num_sources, source_tokens, num_tokens, num_beams);
      for (const auto& sink : sinks) sink->Wait();
      return static_cast<double>(num_sources) * num_tokens /
             absl::ToDoubleSeconds(absl::Now() - start);
    });
  }

 private:
  // Starts `count` generations of exactly `num_tokens` each, from prompts of their own.
  std::vector<std::shared_ptr<Sink>> Generate(int32_t count, int32_t prompt_tokens,
                                              int32_t num_tokens, int32_t num_beams) {
    std::vector<std::shared_ptr<Sink>> sinks;
    for (int32_t i = 0; i < count; ++i) {
      GenerateRequest request;
      request.model = model_.name;
      request.prompt = RandomTokens(prompt_tokens, model_.vocab_size, i);
      if (num_beams > 1) {
        request.num_beams = num_beams;
      } else {
        request.temperature = 0;
      }
      request.repetition_penalty = 1;
      request.max_new_tokens = request.min_new_tokens = num_tokens;
      request.ignore_eos = true;
      request.cache_prefix = false;
      sinks.push_back(std::make_shared<Sink>());
      engine_->Generate(std::move(request), sinks.back());
    }
    return sinks;
  }

  void Print(absl::string_view unit, absl::FunctionRef<double()> run) {
    const std::vector<double> values = benchmarks::Repeat(Seconds(), run);
    PrintResult(values, unit,
                {{"weight_bytes", static_cast<double>(model_.weight_bytes)},
                 {"num_parameters", static_cast<double>(model_.num_parameters)},
                 {"peak_resident_bytes", PeakResidentBytes()}});
  }

  std::unique_ptr<Engine> engine_;
  ModelDescription model_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Kernels.

void MeasureAttention(DataType dtype, int32_t num_heads, int32_t head_dim, int32_t num_tokens) {
  KernelContext context(NumThreads());
  const AttentionOptions options{.num_heads = num_heads,
                                 .num_key_value_heads = num_heads,
                                 .head_dim = head_dim,
                                 .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                                 .dtype = dtype};
  const int64_t width = int64_t{num_heads} * head_dim;
  const RandomMatrix q(num_tokens, width, 1), k(num_tokens, width, 2), v(num_tokens, width, 3);
  RandomMatrix out(num_tokens, width);
  const AttentionSequence sequence{.num_queries = num_tokens, .num_keys = num_tokens};
  const double before = PeakResidentBytes();
  const std::vector<double> values = benchmarks::Repeat(Seconds(), [&] {
    const absl::Time start = absl::Now();
    Attention(context, options, q, k, v, {sequence}, out);
    return absl::ToDoubleMilliseconds(absl::Now() - start);
  });
  PrintResult(values, "ms", {{"extra_bytes", PeakResidentBytes() - before}});
}

void MeasureLinear(DataType dtype, int32_t num_rows, int32_t in_features, int32_t out_features) {
  KernelContext context(NumThreads());
  const RandomMatrix weight(out_features, in_features, 1), x(num_rows, in_features, 2);
  RandomMatrix y(num_rows, out_features);
  // As encoders have it.
  const LinearOptions options{.dtype = dtype, .scale_per_output = dtype == DataType::kInt8};
  auto linear = Linear::Create(context, weight, {}, options);
  ExitUnlessOk(linear.status());
  linear->Prepare(context, num_rows);
  const double operations = 2.0 * num_rows * in_features * out_features;
  PrintResult(benchmarks::Repeat(Seconds(),
                                 [&] {
                                   const absl::Time start = absl::Now();
                                   linear->Apply(context, x, y);
                                   return operations /
                                          absl::ToDoubleNanoseconds(absl::Now() - start);
                                 }),
              "GFLOP/s");
}

// Reads as `kStreams` streams, each asked for `kAhead` words ahead unless that is 0.
template <size_t kStreams, size_t kAhead>
uint64_t SumOf(const uint64_t* words, size_t num_words) {
  const size_t stride = num_words / kStreams;
  uint64_t sums[kStreams] = {};
  for (size_t i = 0; i < stride; i += 8) {
    for (size_t s = 0; s < kStreams; ++s) {
      const uint64_t* line = words + s * stride + i;
      if (kAhead > 0) __builtin_prefetch(line + kAhead);
      sums[s] += line[0] + line[1] + line[2] + line[3] + line[4] + line[5] + line[6] + line[7];
    }
  }
  uint64_t sum = 0;
  for (const uint64_t of_stream : sums) sum += of_stream;
  return sum;
}

// Each thread reads a half (a third, ...) of 1 GiB: in the better of two ways, of which one is
// Intel's and the other AMD's.
void MeasureMemory() {
  constexpr size_t kBytes = size_t{1} << 30, kPage = 4096 / sizeof(uint64_t);
  const size_t num_threads = NumThreads();
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Exit(1, "no 1 GiB of memory");
  madvise(memory, kBytes, MADV_HUGEPAGE);
  auto* words = static_cast<uint64_t*>(memory);
  const size_t num_words = kBytes / sizeof(uint64_t);
  for (size_t i = 0; i < num_words; ++i) words[i] = i;
  const std::vector<int> cpus = ReadCpuTopology().affinity;
  std::atomic<uint64_t> total{0};
  const auto rate = [&](uint64_t (*sum_of)(const uint64_t*, size_t)) {
    std::vector<std::thread> threads;
    const absl::Time start = absl::Now();
    for (size_t t = 0; t < num_threads; ++t) {
      threads.emplace_back([&, t] {
        if (t < cpus.size()) {
          cpu_set_t set;
          CPU_ZERO(&set);
          CPU_SET(cpus[t], &set);
          pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
        }
        const size_t share = num_words / num_threads;
        total += sum_of(words + t * share, share);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return kBytes / absl::ToDoubleNanoseconds(absl::Now() - start);
  };
  PrintResult(benchmarks::Repeat(
                  Seconds(), [&] { return std::max(rate(SumOf<8, kPage>), rate(SumOf<1, 0>)); }),
              "GB/s");
}

// ---------------------------------------------------------------------------------------------------------------------

int Main(const std::string& model, absl::string_view workload) {
  if (workload == "memory") {
    MeasureMemory();
    return 0;
  }
  if (absl::ConsumePrefix(&workload, "attention:")) {
    const std::vector<int32_t> n = ParseNumbers(workload, 3);
    const DataType dtype = benchmarks::ParseWeightType(model);
    if (ActivationType(dtype) != dtype) Exit(kNotServed, "attention is in f32 or bf16");
    MeasureAttention(dtype, n[0], n[1], n[2]);
    return 0;
  }
  if (absl::ConsumePrefix(&workload, "linear:")) {
    const std::vector<int32_t> n = ParseNumbers(workload, 3);
    MeasureLinear(benchmarks::ParseWeightType(model), n[0], n[1], n[2]);
    return 0;
  }

  // As the server would take it, with the server's settings.
  std::string error;
  if (!absl::FindCommandLineFlag("model")->ParseFrom(model, &error)) Exit(kNotServed, error);
  const auto server_options = server::ServerOptionsFromFlags();
  ExitUnlessOk(server_options.status());
  const ModelSource& source = server_options->models[0];
  EngineOptions options = server_options->engine;
  if (absl::ConsumePrefix(&workload, "encode:")) {
    Bench(source, options).Encode(benchmarks::ParseLengths(workload));
  } else if (absl::ConsumePrefix(&workload, "prefill:")) {
    Bench(source, options).Prefill(ParseNumbers(workload, 1)[0]);
  } else if (absl::ConsumePrefix(&workload, "decode:")) {
    const bool is_batch = absl::StrContains(workload, 'x');
    const std::vector<int32_t> n = ParseNumbers(workload, is_batch ? 3 : 1);
    Bench(source, options).Decode(n[0], is_batch ? n[1] : 1, is_batch ? n[2] : 1);
  } else if (absl::ConsumePrefix(&workload, "translate:")) {
    const std::vector<int32_t> n = ParseNumbers(workload, 4);
    // Every beam of every source at a time, as peers run them.
    options.max_running_sequences = std::max(options.max_running_sequences, n[2] * n[3]);
    Bench(source, options).Translate(n[0], n[1], n[2], n[3]);
  } else {
    Exit(kUsage, absl::StrCat("there is no workload \"", workload, "\""));
  }
  return 0;
}

}  // namespace
}  // namespace attendant::engine

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kError);
  absl::InitializeLog();
  if (arguments.size() != 3) {
    attendant::benchmarks::Exit(attendant::benchmarks::kUsage,
                                "usage: engine_bench [--seconds=S] [FLAGS] MODEL WORKLOAD");
  }
  return attendant::engine::Main(arguments[1], arguments[2]);
}
