#ifndef ATTENDANT_ENGINE_GENERATE_RUNNER_H_
#define ATTENDANT_ENGINE_GENERATE_RUNNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/generate_job.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kv_cache/block_pool.h"
#include "engine/network.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler/prefill_budget.h"
#include "engine/scheduler/scheduler.h"

namespace attendant::engine {

struct GenerateRunnerOptions {
  SchedulerOptions scheduler;
  absl::Duration target_step_time = absl::Milliseconds(100);
  int32_t num_blocks = 0;
  int32_t block_size = 16;
  int32_t max_logit_rows = 64;  // that the network takes at a time
};

// Runs the Generate requests of one decoder, with its encoder if it has one: what the scheduler
// chose goes through the network, its logits through the samplers, and their tokens to the sinks.
// On the engine thread alone, which calls the sinks.
class GenerateRunner {
 public:
  // `network`, and `context`, on whose threads tokens are chosen, outlive the runner.
  GenerateRunner(Network& network, KernelContext& context, const GenerateRunnerOptions& options);
  ~GenerateRunner();

  // Takes a request. One that could never fit is ended at once, with INVALID_ARGUMENT.
  void Add(std::unique_ptr<GenerateJob> job);

  // Ends those that were cancelled or whose deadline passed, and frees their blocks.
  void EndOverdue(absl::Time now);

  // Computes one step; false if nothing runs or waits. Sources that it encodes are reported by
  // themselves, before the rest; the reports lack the model's name.
  using Reporter = absl::FunctionRef<void(const StepReport&)>;
  bool Step(Reporter report);

  // Ends all with `status`.
  void EndAll(const absl::Status& status);

  bool has_jobs() const { return !jobs_.empty(); }
  absl::Time next_deadline() const;
  int64_t num_running() const;  // requests that were admitted
  int64_t num_waiting() const { return static_cast<int64_t>(jobs_.size()) - num_running(); }
  int64_t num_tokens_waiting() const { return scheduler_.num_tokens_waiting(); }
  int64_t num_preemptions() const { return scheduler_.num_preemptions(); }
  double cache_usage_ratio() const;  // blocks in use, of all

 private:
  // What the step's logits say of one sequence.
  struct Outcome {
    GenerateSequence* sequence = nullptr;
    std::vector<SampledToken> prompt;  // scores of the prompt's tokens
    std::optional<SampledToken> token;
    absl::Status status;
  };

  // A row of logits: what follows `token` of the sequence that outcomes_[outcome] is about.
  struct LogitRow {
    size_t outcome;
    int64_t token;
  };
  // Where a thread reads rows.
  struct RowScratch {
    std::vector<float> raw_log_probs;
    ProcessorScratch processors;
  };

  void EncodeSources(Reporter report);
  // Why an output ended, and by what.
  struct Ending {
    FinishReason reason = FinishReason::kLength;
    std::variant<std::monostate, std::string, int32_t> match;
  };

  void ReadLogits(absl::Span<const ScheduledSequence> scheduled, ConstMatrix hidden);
  void ChooseAligned(absl::Span<const ScheduledSequence> scheduled);
  void ReadAligned(absl::Span<const ScheduledSequence> scheduled);
  void ReadRow(Outcome& outcome, int64_t token, absl::Span<float> logits, RowScratch& scratch);
  static absl::Status ScoreBeam(GenerateSequence& sequence, absl::Span<float> logits,
                                RowScratch& scratch);
  void Deliver(Outcome& outcome, absl::Time now);
  void DeliverToken(GenerateSequence& sequence, SampledToken token, absl::Time now);
  void AdvanceBeams(GenerateJob& job, absl::Time now);
  void AddToken(const GenerateJob& job, const ScoredToken& token, GenerateChunk& chunk) const;
  void FinishHypothesis(GenerateSequence& sequence, const BeamSearch::Hypothesis& hypothesis,
                        absl::Time now);
  void SendFinished(GenerateSequence& sequence, int64_t num_output, Ending ending, absl::Time now);
  void SendStarted(GenerateSequence& sequence);
  static std::optional<Ending> EndingOf(const GenerateJob& job, int32_t token);
  absl::Status BeginSequence(GenerateJob& job);
  GeneratedToken Describe(const GenerateJob& job, const SampledToken& token) const;
  void End(GenerateJob& job, const absl::Status& status);

  Network& network_;
  KernelContext& context_;
  const GenerateRunnerOptions options_;
  BlockPool pool_;
  Scheduler scheduler_;
  PrefillBudget prefill_budget_;
  std::vector<std::unique_ptr<GenerateJob>> jobs_;
  Batch batch_;
  Batch sources_;
  int64_t last_arrival_ = 0;

  // Of a step, kept for their memory.
  std::vector<GenerateJob*> step_jobs_;
  std::vector<Outcome> outcomes_;
  std::vector<LogitRow> logit_rows_;
  std::vector<size_t> first_rows_;       // of the sequences, among rows that are read together
  std::vector<RowScratch> row_scratch_;  // of each thread
  std::vector<Sequence*> beams_;
  std::vector<int32_t> parents_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_GENERATE_RUNNER_H_
