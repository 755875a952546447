#ifndef ATTENDANT_ENGINE_ENCODE_RUNNER_H_
#define ATTENDANT_ENGINE_ENCODE_RUNNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/batch.h"
#include "engine/encode_job.h"
#include "engine/engine.h"
#include "engine/kernels/kernel_context.h"
#include "engine/network.h"

namespace attendant::engine {

// Runs the requests of one encoder, whatever they read off its hidden states. Each step packs
// inputs of all waiting requests, one of each in turn, so that a text does not wait for all of
// somebody's thousand. On the engine thread alone.
class EncodeRunner {
 public:
  // Both outlive the runner. A step has at most max_batch_tokens tokens, or one input.
  EncodeRunner(Network& network, KernelContext& context, int32_t max_batch_tokens)
      : network_(network), context_(context), max_batch_tokens_(max_batch_tokens) {}

  void Add(std::unique_ptr<EncodeJob> job);

  // Ends those that were cancelled or whose deadline passed.
  void EndOverdue(absl::Time now);

  // Computes one step; false if nothing waits. `report` is filled but for the model's name.
  bool Step(StepReport& report);

  // Ends all with `status`.
  void EndAll(const absl::Status& status);

  bool has_jobs() const { return !jobs_.empty(); }
  absl::Time next_deadline() const;
  int64_t num_running() const;  // requests of which some input is computed
  int64_t num_waiting() const { return static_cast<int64_t>(jobs_.size()) - num_running(); }
  int64_t num_tokens_waiting() const { return num_tokens_waiting_; }

 private:
  // One input of a step.
  struct Part {
    EncodeJob* job = nullptr;
    size_t input = 0;
    int32_t first_row = 0;
    int32_t num_rows = 0;
  };

  void Pack();
  void Compute();
  void FindStepJobs();
  std::unique_ptr<EncodeJob> Take(EncodeJob& job);

  Network& network_;
  KernelContext& context_;
  const int32_t max_batch_tokens_;
  std::vector<std::unique_ptr<EncodeJob>> jobs_;
  std::vector<EncodeJob*> turns_;  // those with inputs left, the next one first
  int64_t num_tokens_waiting_ = 0;
  Batch batch_;
  std::vector<Part> parts_;
  std::vector<EncodeJob*> step_jobs_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ENCODE_RUNNER_H_
