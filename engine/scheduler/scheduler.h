#ifndef ATTENDANT_ENGINE_SCHEDULER_SCHEDULER_H_
#define ATTENDANT_ENGINE_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/batch.h"
#include "engine/kv_cache/block_pool.h"
#include "engine/scheduler/sequence.h"

namespace attendant::engine {

struct SchedulerOptions {
  int32_t max_batch_tokens = 2048;  // of one step
  int32_t max_running_sequences = 64;
};

// One sequence's part in a step.
struct ScheduledSequence {
  Sequence* sequence = nullptr;
  int64_t first_token =
      0;  // the step computes tokens [first_token, first_token + num_tokens) of the sequence
  int32_t num_tokens = 0;
  int32_t query_start = 0;  // the row of the batch where they begin
};

// Decides, once per step, which sequences run and how many tokens each of them gets. Continuous
// batching (Yu et al., "Orca", OSDI 2022) with prompts in chunks (Agrawal et al., "Sarathi-Serve",
// OSDI 2024) over a paged cache.
//
// Sequences stand in one order: higher priority first, then by arrival. A step takes one token of
// every running sequence that decodes, and prompt chunks of those that do not yet, in that order,
// up to a budget. When blocks run out the last running sequence is preempted: it gives its blocks
// back, keeps its tokens, and is computed again when its turn comes. The first of the order always
// advances, so that everything ends. A waiting sequence is admitted only if there are blocks for
// all its present tokens and a little room to grow, and nobody who waits is passed by one behind
// it.
//
// A sequence may fork into beams, which are admitted, scheduled and preempted with it. They share
// the blocks of what they have in common; a beam that writes into a block that another uses gets a
// copy of its own first. When they were preempted, each is computed after the others, and takes
// from them what it begins with.
//
// The source of an encoder-decoder lives in blocks of the same pool: taken when the first of its
// sequences is admitted, and given back when none of them runs any more.
//
// Bookkeeping only: no tensors, no clock, no locks. Called from the engine thread alone.
class Scheduler {
 public:
  // `block_pool` must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, BlockPool& block_pool);

  // Queues `sequence`, which must outlive its membership. INVALID_ARGUMENT if its max_tokens, of
  // each beam, and its source could not fit even alone, or if it has more beams than may run.
  absl::Status Add(Sequence& sequence);

  // Makes beams of a sequence, beams[0], that runs: beams[i] becomes what beams[parents[i]] is now,
  // for the first parents.size() (1 to max_beams) of them; the others are free. parents[i] is the
  // sequence itself or one that the last Fork made a beam; all of these are computed to their last
  // token. The tokens are copied; between steps each gets one more.
  void Fork(absl::Span<Sequence* const> beams, absl::Span<const int32_t> parents);

  // Takes a sequence out, wherever it is, and frees its blocks and those of its forks. Not between
  // Schedule and FinishStep; a step that failed has no FinishStep, and all that it scheduled is
  // removed.
  void Remove(Sequence& sequence);

  // Fills `batch` with what the next step computes: at most max_batch_tokens tokens, of which at
  // most `max_prefill_tokens` (>= 1) belong to sequences with more than one token to compute. Empty
  // if nothing can run. `sources` are what must be encoded before that: they count as prefill, and
  // each is encoded whole, so that the first may exceed what is left. The block tables and the
  // result are valid until the next call.
  absl::Span<const ScheduledSequence> Schedule(int32_t max_prefill_tokens, Batch& batch,
                                               Batch& sources);

  // The step was computed: its tokens are in the cache, and full blocks may be shared.
  void FinishStep();

  bool has_sequences() const { return !running_.empty() || !waiting_.empty(); }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t num_tokens_waiting() const;  // to be computed before every sequence decodes
  int64_t num_preemptions() const { return num_preemptions_; }

  // Whether a running sequence has come to decoding, and so waits for every step.
  bool is_decoding() const;

 private:
  int64_t BlocksFor(int64_t num_tokens) const;
  int64_t MissingSourceBlocks(const Sequence& sequence) const;
  int64_t MostBlocks(const Sequence& sequence) const;
  int64_t MissingBlocks(const Sequence& sequence) const;
  int64_t num_promised_beams() const;
  void JoinFork(Sequence& sequence);
  bool AppendRunning(Sequence& sequence, int64_t& prefill_budget, Batch& batch);
  bool Grow(Sequence& sequence, int64_t num_tokens, Batch& batch);
  void FreeBlocks(Sequence& sequence);
  void StopRunning(Sequence& sequence);
  void PreemptLast();
  bool Admit(Sequence& sequence);
  void AppendSource(Source& source, Batch& sources);
  void Append(Sequence& sequence, int32_t num_tokens, Batch& batch);

  // What of one beam a step computes.
  struct Part {
    Sequence* beam = nullptr;
    int64_t num_tokens = 0;
  };
  // What a beam becomes in Fork.
  struct Contents {
    std::vector<int32_t> tokens;
    std::vector<int32_t> blocks;
    int64_t num_computed = 0;
    int64_t num_published = 0;
  };

  const SchedulerOptions options_;
  BlockPool& pool_;
  std::vector<Sequence*> running_;  // both in order
  std::vector<Sequence*> waiting_;
  std::vector<ScheduledSequence> scheduled_;
  int64_t num_preemptions_ = 0;
  // Of AppendRunning and of Fork, kept for their memory.
  std::vector<Part> parts_;
  std::vector<Contents> contents_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SCHEDULER_SCHEDULER_H_
