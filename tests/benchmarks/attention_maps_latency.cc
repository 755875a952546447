// What a stream of attention maps costs those who encode meanwhile: the time that an Encode takes,
// with and without a client that asks for one map after another, each of 12 layers, 12 heads and
// 512 x 512 tokens, and takes it as fast as it comes. Beside it the longest steps: a request that
// comes during a step of the maps waits for its end.
//
//   attention_maps_latency [SECONDS]     of each of the two, 20 by default

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/engine.h"
#include "tests/support/random_bert.h"

namespace attendant::engine {
namespace {

constexpr int kClients = 4;
constexpr int kTextTokens = 64;
constexpr int kMapTokens = 512;

double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  const auto nth = values.begin() + static_cast<ptrdiff_t>(p * (values.size() - 1));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

TokenIds Tokens(int count, int seed) {
  TokenIds ids;
  for (int i = 0; i < count; ++i) ids.push_back(5 + (seed + i * i) % 90);
  return ids;
}

// Takes whatever comes.
class OpenSink : public AttendSink {
 public:
  bool Ready() override { return true; }
  void OnStarted(AttendStarted) override {}
  void OnBlock(AttendBlock block) override { num_bytes += block.tensor.data.size(); }
  void OnDone(absl::Status s, RequestTimings) override {
    status = std::move(s);
    done.Notify();
  }

  int64_t num_bytes = 0;
  absl::Status status;
  absl::Notification done;
};

// The longest step of each phase, while it is asked for.
class Steps {
 public:
  void Add(const StepReport& step) {
    absl::MutexLock lock(&mutex_);
    double& longest = longest_[step.phase];
    longest = std::max(longest, absl::ToDoubleMilliseconds(step.duration));
  }
  std::map<std::string, double> Take() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(longest_, {});
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, double> longest_ ABSL_GUARDED_BY(mutex_);
};

std::vector<double> EncodeFor(Engine& engine, absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  std::vector<std::vector<double>> times(kClients);
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; absl::Now() < end; ++i) {
        EncodeRequest request;
        request.model = "bert";
        request.inputs.emplace_back(Tokens(kTextTokens, client + i));
        absl::Notification done;
        const absl::Time start = absl::Now();
        engine.Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
          if (!result.ok()) std::abort();
          done.Notify();
        });
        done.WaitForNotification();
        times[client].push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
        // Clients that think: the engine is not always busy.
        absl::SleepFor(absl::Milliseconds(20));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  std::vector<double> all;
  for (const auto& some : times) all.insert(all.end(), some.begin(), some.end());
  return all;
}

int Main(int argc, char** argv) {
  int seconds = 20;
  if (argc > 1 && (!absl::SimpleAtoi(argv[1], &seconds) || seconds < 1)) {
    std::fprintf(stderr, "usage: attention_maps_latency [SECONDS]\n");
    return 2;
  }
  const absl::Duration duration = absl::Seconds(seconds);
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / absl::StrCat("attention_maps_latency_", getpid());
  testing::WriteBert({.hidden_size = 768}, folder);
  Steps steps;
  auto engine = Engine::Create({}, [&](const StepReport& step) { steps.Add(step); });
  absl::Status status = engine.status();
  if (status.ok()) status = (*engine)->LoadModel({.name = "bert", .path = folder.string()});
  std::filesystem::remove_all(folder);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }

  EncodeFor(**engine, absl::Seconds(2));
  std::printf("%d clients, %d tokens each; maps of 12 x 12 x %d x %d\n\n", kClients, kTextTokens,
              kMapTokens, kMapTokens);
  std::printf("%-10s %8s %9s %9s %9s %14s %14s %9s\n", "maps", "encodes", "p50 ms", "p99 ms",
              "max ms", "encode step ms", "attend step ms", "maps/s");
  for (const bool with_maps : {false, true}) {
    steps.Take();
    std::atomic<bool> stop = false;
    int64_t num_bytes = 0;
    std::thread reader([&] {
      while (with_maps && !stop) {
        AttendModel maps;
        maps.model = "bert";
        maps.input = Tokens(kMapTokens, 1);
        AttendRequest request;
        request.source = std::move(maps);
        auto sink = std::make_shared<OpenSink>();
        (*engine)->Attend(std::move(request), sink);
        sink->done.WaitForNotification();
        if (!sink->status.ok()) std::abort();
        num_bytes += sink->num_bytes;
      }
    });
    const std::vector<double> times = EncodeFor(**engine, duration);
    stop = true;
    reader.join();
    std::map<std::string, double> longest = steps.Take();
    std::printf("%-10s %8zu %9.1f %9.1f %9.1f %14.1f %14.1f %9.2f\n",
                with_maps ? "streaming" : "none", times.size(), Percentile(times, 0.5),
                Percentile(times, 0.99), Percentile(times, 1), longest["encode"], longest["attend"],
                static_cast<double>(num_bytes) / (12.0 * 12 * kMapTokens * kMapTokens * 4) /
                    absl::ToDoubleSeconds(duration));
  }
  return 0;
}

}  // namespace
}  // namespace attendant::engine

int main(int argc, char** argv) { return attendant::engine::Main(argc, argv); }
