#ifndef ATTENDANT_ENGINE_STEP_LOOP_H_
#define ATTENDANT_ENGINE_STEP_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/attend/attend_job.h"
#include "engine/attend/model_attend_job.h"
#include "engine/engine.h"
#include "engine/kernels/kernel_context.h"
#include "engine/loaded_model.h"
#include "engine/model_runner.h"

namespace attendant::engine {

// What the engine's thread does, round after round: a step of every model that has work, and a
// step of an Attend. Owns the models' weights and every request that is past its tokenizer. On the
// engine thread alone.
class StepLoop {
 public:
  StepLoop(KernelContext& context, std::function<void(const StepReport&)> on_step)
      : context_(context), on_step_(std::move(on_step)) {}

  void AddModel(std::unique_ptr<ModelRunner> model);

  // Frees the model when its last request has ended, and then calls `done`.
  void RetireModel(const LoadedModel& model, absl::AnyInvocable<void() &&> done);

  // A request's model was added and, while one of its requests is in flight, is not freed.
  void AddEncode(std::unique_ptr<EncodeJob> job);
  void AddGenerate(std::unique_ptr<GenerateJob> job);

  struct Attending {
    std::optional<InFlight> in_flight;  // of the model whose maps are asked for
    std::unique_ptr<AttendJob> job;
    std::shared_ptr<AttendSink> sink;
    absl::Time submitted;
    absl::Time prepared;
    absl::Time started = absl::InfiniteFuture();
    absl::Duration compute;
  };
  void AddAttend(std::unique_ptr<Attending> attending) {
    attending_.push_back(std::move(attending));
  }
  // The same, of a job for its model's maps.
  void AddAttend(std::unique_ptr<Attending> attending, ModelAttendJob& job) {
    job.Bind(RunnerOf(attending->in_flight->model()).transformer());
    AddAttend(std::move(attending));
  }

  // Ends what is overdue, then computes a step of everything; false if there was nothing to
  // compute.
  bool Round();

  // When the next request becomes overdue.
  absl::Time next_deadline() const;

  // Ends every request with `status`.
  void EndAll(const absl::Status& status);

  int64_t num_steps() const { return num_steps_; }
  int64_t workspace_bytes() const;
  int64_t num_reference_kernels() const;

 private:
  struct Retiring {
    const LoadedModel* model = nullptr;
    absl::AnyInvocable<void() &&> done;
  };

  ModelRunner& RunnerOf(const LoadedModel& model);
  void Report(const StepReport& report);
  void EndOverdueAttends(absl::Time now);
  bool StepAttend();
  void EndAttend(size_t index, const absl::Status& status);
  void FreeRetired();

  KernelContext& context_;
  const std::function<void(const StepReport&)> on_step_;
  std::vector<std::unique_ptr<ModelRunner>> models_;
  std::vector<Retiring> retiring_;
  std::vector<std::unique_ptr<Attending>> attending_;  // the next one first
  int64_t num_steps_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_STEP_LOOP_H_
