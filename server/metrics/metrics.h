#ifndef ATTENDANT_SERVER_METRICS_METRICS_H_
#define ATTENDANT_SERVER_METRICS_METRICS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/admission/admission_controller.h"
#include "server/metrics/request_record.h"

namespace attendant::server {

// Every metric of the server. All methods may be called from any thread; none takes more than a few
// microseconds, but for Render.
class Metrics {
 public:
  // What is not counted as it happens, but asked for when somebody scrapes.
  struct Sources {
    std::function<engine::EngineStats()> engine_stats;
    std::function<std::vector<engine::ModelDescription>()> models;
    std::function<Load()> in_flight;
  };

  Metrics();
  ~Metrics();

  // Before Render is first called from another thread.
  void SetSources(Sources sources);

  void OnRequestFinished(const RequestRecord& record);
  void OnStep(const engine::StepReport& step);
  // `model` is a loaded model's name.
  void OnFirstToken(absl::string_view model, absl::Duration since_arrival);
  // The gap between two chunks of a sequence, for each of the `num_tokens` of the second.
  void OnNextTokens(absl::string_view model, absl::Duration gap, int num_tokens);
  void OnLogLineDropped();

  // All metrics in Prometheus' text format.
  std::string Render() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_METRICS_METRICS_H_
