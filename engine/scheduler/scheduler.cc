#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"

namespace attendant::engine {
namespace {

bool ComesBefore(const Sequence* a, const Sequence* b) {
  return a->priority != b->priority ? a->priority > b->priority : a->arrival < b->arrival;
}

// Behind its equals, so that those of one arrival keep the order in which they were added.
void InsertInOrder(std::vector<Sequence*>& sequences, Sequence& sequence) {
  sequences.insert(std::upper_bound(sequences.begin(), sequences.end(), &sequence, ComesBefore),
                   &sequence);
}

int64_t NumRemaining(const Sequence& sequence) {
  return static_cast<int64_t>(sequence.tokens.size()) - sequence.num_computed;
}

int64_t NumTokens(const Source& source) { return static_cast<int64_t>(source.tokens.size()); }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, BlockPool& block_pool)
    : options_(options), pool_(block_pool) {
  CHECK_GE(options.max_running_sequences, 1);
  CHECK_GE(options.max_batch_tokens, options.max_running_sequences)
      << "each running sequence decodes in each step";
}

absl::Status Scheduler::Add(Sequence& sequence) {
  CHECK(!sequence.tokens.empty());
  CHECK(sequence.source == nullptr || !sequence.source->tokens.empty());
  CHECK_LT(sequence.first_logit_token, sequence.tokens.size());
  const int64_t num_source = sequence.source == nullptr ? 0 : NumTokens(*sequence.source);
  if (BlocksFor(sequence.max_tokens) + BlocksFor(num_source) > pool_.num_blocks()) {
    const std::string source =
        num_source > 0 ? absl::StrCat(", and the source ", num_source, " more") : "";
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt and max_new_tokens make ", sequence.max_tokens, " tokens", source,
        "; the key-value cache holds ", int64_t{pool_.num_blocks()} * pool_.block_size(),
        ", in blocks of ", pool_.block_size(), " (--kv_cache_bytes sets its size)"));
  }
  InsertInOrder(waiting_, sequence);
  return absl::OkStatus();
}

void Scheduler::Remove(Sequence& sequence) {
  std::erase(sequence.is_running ? running_ : waiting_, &sequence);
  if (sequence.is_running) StopRunning(sequence);
}

absl::Span<const ScheduledSequence> Scheduler::Schedule(int32_t max_prefill_tokens, Batch& batch,
                                                        Batch& sources) {
  batch.Clear();
  sources.Clear();
  scheduled_.clear();

  const auto num_decoding = std::count_if(running_.begin(), running_.end(),
                                          [](const Sequence* s) { return NumRemaining(*s) == 1; });
  int64_t prefill_budget =
      std::min<int64_t>(max_prefill_tokens, options_.max_batch_tokens - num_decoding);
  const int64_t num_preemptions_before = num_preemptions_;

  // Preemption strikes at the end of running_, and so never at one that is already in this step.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const bool decodes = NumRemaining(sequence) == 1;
    const int64_t num_tokens = decodes ? 1 : std::min(NumRemaining(sequence), prefill_budget);
    if (num_tokens <= 0) continue;
    while (sequence.is_running && !Grow(sequence, sequence.num_computed + num_tokens))
      PreemptLast();
    if (!sequence.is_running) break;
    Append(sequence, static_cast<int32_t>(num_tokens), batch);
    if (!decodes) prefill_budget -= num_tokens;
  }

  while (num_preemptions_ == num_preemptions_before && !waiting_.empty() && prefill_budget > 0 &&
         num_running() < options_.max_running_sequences) {
    Sequence& sequence = *waiting_.front();
    Source* const source = sequence.source;
    const bool encodes = source != nullptr && source->blocks.empty();
    if (encodes && !sources.sequences.empty() && NumTokens(*source) > prefill_budget) break;
    if (!Admit(sequence)) break;
    waiting_.erase(waiting_.begin());
    InsertInOrder(running_, sequence);
    if (encodes) {
      AppendSource(*source, sources);
      prefill_budget -= NumTokens(*source);
    }
    // One at least. That does not exceed the batch: the source took as much of its room.
    const int64_t num_tokens =
        std::min(NumRemaining(sequence), std::max<int64_t>(prefill_budget, 1));
    CHECK(Grow(sequence, sequence.num_computed + num_tokens))
        << "a sequence was admitted without its blocks";
    Append(sequence, static_cast<int32_t>(num_tokens), batch);
    prefill_budget -= num_tokens;
  }
  return scheduled_;
}

void Scheduler::FinishStep() {
  const int32_t block_size = pool_.block_size();
  for (const ScheduledSequence& scheduled : scheduled_) {
    Sequence& sequence = *scheduled.sequence;
    sequence.num_computed += scheduled.num_tokens;
    for (; (sequence.num_published + 1) * block_size <= sequence.num_computed;
         ++sequence.num_published) {
      const int64_t index = sequence.num_published;
      std::optional<int32_t> previous;
      if (index > 0) previous = sequence.blocks[index - 1];
      pool_.Publish(sequence.blocks[index], previous,
                    absl::MakeConstSpan(sequence.tokens).subspan(index * block_size, block_size),
                    sequence.prefix_domain);
    }
  }
  scheduled_.clear();
}

int64_t Scheduler::num_tokens_waiting() const {
  int64_t num_tokens = 0;
  for (const Sequence* sequence : waiting_) {
    num_tokens += NumRemaining(*sequence);
    if (MissingSourceBlocks(*sequence) > 0) num_tokens += NumTokens(*sequence->source);
  }
  for (const Sequence* sequence : running_)
    num_tokens += std::max<int64_t>(0, NumRemaining(*sequence) - 1);
  return num_tokens;
}

bool Scheduler::is_decoding() const {
  return std::any_of(running_.begin(), running_.end(),
                     [](const Sequence* s) { return NumRemaining(*s) == 1; });
}

int64_t Scheduler::BlocksFor(int64_t num_tokens) const {
  return (num_tokens + pool_.block_size() - 1) / pool_.block_size();
}

// What the source takes that is not in the cache.
int64_t Scheduler::MissingSourceBlocks(const Sequence& sequence) const {
  if (sequence.source == nullptr || !sequence.source->blocks.empty()) return 0;
  return BlocksFor(NumTokens(*sequence.source));
}

// Room for `num_tokens` in all. False, and nothing taken, if there are too few blocks.
bool Scheduler::Grow(Sequence& sequence, int64_t num_tokens) {
  const int64_t num_missing = BlocksFor(num_tokens) - static_cast<int64_t>(sequence.blocks.size());
  if (num_missing > pool_.num_available()) return false;
  for (int64_t i = 0; i < num_missing; ++i) sequence.blocks.push_back(*pool_.Allocate());
  return true;
}

void Scheduler::FreeBlocks(Sequence& sequence) {
  for (; !sequence.blocks.empty(); sequence.blocks.pop_back())
    pool_.Release(sequence.blocks.back());
  sequence.num_computed = 0;
  sequence.num_published = 0;
}

void Scheduler::StopRunning(Sequence& sequence) {
  sequence.is_running = false;
  FreeBlocks(sequence);
  if (sequence.source == nullptr || --sequence.source->num_running > 0) return;
  for (const int32_t block : sequence.source->blocks) pool_.Release(block);
  sequence.source->blocks.clear();
}

void Scheduler::PreemptLast() {
  Sequence& sequence = *running_.back();
  running_.pop_back();
  StopRunning(sequence);
  InsertInOrder(waiting_, sequence);
  ++num_preemptions_;
}

// Takes the cached prefix of `sequence`, and blocks for its source, if there are blocks for the
// rest of its tokens, for what the running ones have yet to compute of theirs, and for one more
// each: else it would soon be preempted again.
bool Scheduler::Admit(Sequence& sequence) {
  int64_t num_promised = num_running();
  for (const Sequence* running : running_) {
    num_promised += std::max<int64_t>(0, BlocksFor(static_cast<int64_t>(running->tokens.size())) -
                                             static_cast<int64_t>(running->blocks.size()));
  }
  sequence.blocks = pool_.AcquirePrefix(
      absl::MakeConstSpan(sequence.tokens).first(sequence.first_logit_token + 1),
      sequence.prefix_domain);
  const int64_t num_source = MissingSourceBlocks(sequence);
  const int64_t num_missing = BlocksFor(static_cast<int64_t>(sequence.tokens.size())) -
                              static_cast<int64_t>(sequence.blocks.size()) + num_source;
  if (num_missing + num_promised > pool_.num_available()) {
    FreeBlocks(sequence);
    return false;
  }
  if (sequence.source != nullptr) {
    ++sequence.source->num_running;
    for (int64_t i = 0; i < num_source; ++i) sequence.source->blocks.push_back(*pool_.Allocate());
  }
  sequence.num_published = static_cast<int64_t>(sequence.blocks.size());
  sequence.num_computed = sequence.num_published * pool_.block_size();
  if (!sequence.was_admitted) sequence.num_cached = sequence.num_computed;
  sequence.was_admitted = true;
  sequence.is_running = true;
  return true;
}

void Scheduler::AppendSource(Source& source, Batch& sources) {
  const auto num_tokens = static_cast<int32_t>(NumTokens(source));
  sources.sequences.push_back({.query_start = sources.num_tokens(),
                               .num_queries = num_tokens,
                               .source_blocks = source.blocks,
                               .num_source_tokens = num_tokens});
  for (int32_t token = 0; token < num_tokens; ++token) {
    sources.token_ids.push_back(source.tokens[token]);
    sources.positions.push_back(token);
  }
}

void Scheduler::Append(Sequence& sequence, int32_t num_tokens, Batch& batch) {
  const int32_t query_start = batch.num_tokens();
  scheduled_.push_back({&sequence, sequence.num_computed, num_tokens, query_start});
  batch.sequences.push_back({.query_start = query_start,
                             .num_queries = num_tokens,
                             .num_past_tokens = static_cast<int32_t>(sequence.num_computed),
                             .blocks = sequence.blocks});
  if (sequence.source != nullptr) {
    batch.sequences.back().source_blocks = sequence.source->blocks;
    batch.sequences.back().num_source_tokens = static_cast<int32_t>(NumTokens(*sequence.source));
  }
  for (int64_t token = sequence.num_computed; token < sequence.num_computed + num_tokens; ++token) {
    if (token >= sequence.first_logit_token) batch.logit_rows.push_back(batch.num_tokens());
    batch.token_ids.push_back(sequence.tokens[token]);
    batch.positions.push_back(static_cast<int32_t>(token));
  }
}

}  // namespace attendant::engine
