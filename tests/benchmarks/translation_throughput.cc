// Concurrent translations against the same ones one after the other: how many tokens a second, and
// whether each is what it is alone.
//
//   ./dev oracle python3 tests/benchmarks/make_translator.py FOLDER     a Marian of random weights
//   translation_throughput FOLDER [f32|bf16] [THREADS]
//
// 32 sources of 6 to 130 tokens, answers of 12 to 48.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/globals.h"
#include "absl/strings/numbers.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace attendant::engine {
namespace {

constexpr int kTranslations = 32;
constexpr int32_t kFirstWord = 3;

class Sink : public TokenSink {
 public:
  void OnStarted(GenerateStarted) override {}
  void OnChunk(GenerateChunk chunk) override {
    for (const GeneratedToken& token : chunk.tokens) ids.push_back(token.id);
  }
  void OnFinished(GenerateFinished) override {}
  void OnDone(absl::Status s) override {
    status = std::move(s);
    done.Notify();
  }

  std::vector<int32_t> ids;
  absl::Status status;
  absl::Notification done;
};

GenerateRequest Request(const ModelDescription& model, int index) {
  std::mt19937 random(index);
  TokenIds source;
  for (int i = 0; i < 6 + 4 * index; ++i) {
    source.push_back(kFirstWord + static_cast<int32_t>(random() % (model.vocab_size - kFirstWord)));
  }
  GenerateRequest request;
  request.model = model.name;
  request.prompt = std::move(source);
  request.temperature = 0;
  request.max_new_tokens = 12 + 11 * index % 37;
  request.ignore_eos = true;
  return request;
}

struct Run {
  absl::Duration duration;
  int64_t num_tokens = 0;
  std::vector<std::vector<int32_t>> outputs;
};

Run Translate(Engine& engine, const ModelDescription& model, bool together) {
  Run run;
  std::vector<std::shared_ptr<Sink>> sinks;
  const absl::Time start = absl::Now();
  for (int i = 0; i < kTranslations; ++i) {
    sinks.push_back(std::make_shared<Sink>());
    engine.Generate(Request(model, i), sinks.back());
    if (!together) sinks.back()->done.WaitForNotification();
  }
  for (const auto& sink : sinks) sink->done.WaitForNotification();
  run.duration = absl::Now() - start;
  for (const auto& sink : sinks) {
    if (!sink->status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(sink->status.message()).c_str());
      std::exit(1);
    }
    run.num_tokens += static_cast<int64_t>(sink->ids.size());
    run.outputs.push_back(std::move(sink->ids));
  }
  return run;
}

void Print(const char* name, const Run& run) {
  const double seconds = absl::ToDoubleSeconds(run.duration);
  std::printf("%-22s %8lld %9.2f %10.1f\n", name, static_cast<long long>(run.num_tokens), seconds,
              static_cast<double>(run.num_tokens) / seconds);
}

int Main(int argc, char** argv) {
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kWarning);
  if (argc < 2) {
    std::fprintf(stderr, "usage: translation_throughput FOLDER [f32|bf16] [THREADS]\n");
    return 2;
  }
  const bool is_bf16 = argc > 2 && std::string(argv[2]) == "bf16";
  EngineOptions options;
  if (argc > 3 && !absl::SimpleAtoi(argv[3], &options.num_threads)) {
    std::fprintf(stderr, "\"%s\" is no number of threads\n", argv[3]);
    return 2;
  }
  auto engine = Engine::Create(options);
  absl::Status status = engine.status();
  if (status.ok()) {
    status = (*engine)->LoadModel({.name = "model",
                                   .path = argv[1],
                                   .dtype = is_bf16 ? DataType::kBFloat16 : DataType::kFloat32});
  }
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  const ModelDescription model = *(*engine)->GetModel("model");
  Translate(**engine, model, /*together=*/true);  // so that primitives exist for every size
  const Run alone = Translate(**engine, model, /*together=*/false);
  const Run together = Translate(**engine, model, /*together=*/true);
  std::printf("%d translations, %s, %s, %d threads\n", kTranslations, model.architecture.c_str(),
              is_bf16 ? "bf16" : "f32", (*engine)->Stats().num_threads);
  std::printf("%-22s %8s %9s %10s\n", "", "tokens", "seconds", "tokens/s");
  Print("one after the other", alone);
  Print("all at once", together);
  std::printf("%-22s %8s %9s %9.1fx\n", "", "", "",
              absl::FDivDuration(alone.duration, together.duration));
  const bool is_same = alone.outputs == together.outputs;
  std::printf("each is as it is alone: %s\n", is_same ? "yes" : "NO");
  return is_same || is_bf16 ? 0 : 1;
}

}  // namespace
}  // namespace attendant::engine

int main(int argc, char** argv) { return attendant::engine::Main(argc, argv); }
