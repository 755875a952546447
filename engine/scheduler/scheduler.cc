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

// `sequence` and its forks.
template <typename Visit>
void ForEachBeam(Sequence& sequence, Visit visit) {
  visit(sequence);
  for (Sequence* fork : sequence.forks) visit(*fork);
}

// A fork that was preempted, and not computed since.
bool IsJoined(const Sequence& fork) { return !fork.blocks.empty(); }

int64_t NumCommonTokens(const Sequence& a, const Sequence& b) {
  return std::mismatch(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end()).first -
         a.tokens.begin();
}

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
  if (sequence.max_beams > options_.max_running_sequences) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_beams is ", sequence.max_beams, "; the server runs at most ",
        options_.max_running_sequences, " sequences at a time (--max_running_sequences)"));
  }
  if (MostBlocks(sequence) > pool_.num_blocks()) {
    const int64_t num_source = sequence.source == nullptr ? 0 : NumTokens(*sequence.source);
    const std::string beams =
        sequence.max_beams > 1 ? absl::StrCat(" for each of ", sequence.max_beams, " beams") : "";
    const std::string source =
        num_source > 0 ? absl::StrCat(", and the source ", num_source, " more") : "";
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt and max_new_tokens make ", sequence.max_tokens, " tokens", beams, source,
        "; the key-value cache holds ", int64_t{pool_.num_blocks()} * pool_.block_size(),
        ", in blocks of ", pool_.block_size(), " (--kv_cache_bytes sets its size)"));
  }
  InsertInOrder(waiting_, sequence);
  return absl::OkStatus();
}

void Scheduler::Remove(Sequence& sequence) {
  std::erase(sequence.is_running ? running_ : waiting_, &sequence);
  if (sequence.is_running) StopRunning(sequence);
  sequence.forks.clear();
}

void Scheduler::Fork(absl::Span<Sequence* const> beams, absl::Span<const int32_t> parents) {
  Sequence& first = *beams.front();
  CHECK(first.is_running && !parents.empty());
  CHECK_LE(parents.size(), static_cast<size_t>(first.max_beams));
  if (contents_.size() < parents.size()) contents_.resize(parents.size());
  for (size_t i = 0; i < parents.size(); ++i) {
    const Sequence& from = *beams[parents[i]];
    CHECK(IsJoined(from) && NumRemaining(from) == 0) << "beam " << parents[i] << " is not computed";
    Contents& contents = contents_[i];
    contents.tokens.reserve(first.max_tokens);
    contents.tokens = from.tokens;
    contents.blocks.reserve(BlocksFor(first.max_tokens));
    contents.blocks = from.blocks;
    contents.num_computed = from.num_computed;
    contents.num_published = from.num_published;
    for (const int32_t block : from.blocks) pool_.AddUser(block);
  }
  ForEachBeam(first, [this](Sequence& beam) { FreeBlocks(beam); });
  first.forks.assign(beams.begin() + 1, beams.begin() + static_cast<ptrdiff_t>(parents.size()));
  for (size_t i = 0; i < parents.size(); ++i) {
    Sequence& beam = *beams[i];
    beam.tokens.swap(contents_[i].tokens);
    beam.blocks.swap(contents_[i].blocks);
    beam.num_computed = contents_[i].num_computed;
    beam.num_published = contents_[i].num_published;
    beam.prefix_domain = first.prefix_domain;
    beam.source = first.source;
  }
}

absl::Span<const ScheduledSequence> Scheduler::Schedule(int32_t max_prefill_tokens, Batch& batch,
                                                        Batch& sources) {
  batch.Clear();
  sources.Clear();
  scheduled_.clear();

  int64_t num_decoding = 0;
  for (Sequence* sequence : running_) {
    JoinFork(*sequence);
    ForEachBeam(*sequence, [&](const Sequence& beam) { num_decoding += NumRemaining(beam) == 1; });
  }
  int64_t prefill_budget =
      std::min<int64_t>(max_prefill_tokens, options_.max_batch_tokens - num_decoding);
  const int64_t num_preemptions_before = num_preemptions_;

  // Preemption strikes at the end of running_, and so never at one that is already in this step.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (!AppendRunning(*running_[i], prefill_budget, batch)) break;
  }

  while (num_preemptions_ == num_preemptions_before && !waiting_.empty() && prefill_budget > 0 &&
         num_promised_beams() + waiting_.front()->max_beams <= options_.max_running_sequences) {
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
    CHECK(Grow(sequence, sequence.num_computed + num_tokens, batch))
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
  for (Sequence* sequence : running_) {
    ForEachBeam(*sequence, [&](const Sequence& beam) {
      num_tokens += std::max<int64_t>(0, NumRemaining(beam) - 1);
    });
  }
  return num_tokens;
}

bool Scheduler::is_decoding() const {
  return std::any_of(running_.begin(), running_.end(), [](Sequence* sequence) {
    bool decodes = false;
    ForEachBeam(*sequence, [&](const Sequence& beam) { decodes |= NumRemaining(beam) == 1; });
    return decodes;
  });
}

int64_t Scheduler::BlocksFor(int64_t num_tokens) const {
  return (num_tokens + pool_.block_size() - 1) / pool_.block_size();
}

// What the source takes that is not in the cache.
int64_t Scheduler::MissingSourceBlocks(const Sequence& sequence) const {
  if (sequence.source == nullptr || !sequence.source->blocks.empty()) return 0;
  return BlocksFor(NumTokens(*sequence.source));
}

// What `sequence` takes in the end: the whole blocks that its beams have in common once, all others
// for each of them.
int64_t Scheduler::MostBlocks(const Sequence& sequence) const {
  const int64_t num_common = sequence.max_beams > 1 ? sequence.num_common / pool_.block_size() : 0;
  const int64_t num_source = sequence.source == nullptr ? 0 : NumTokens(*sequence.source);
  return BlocksFor(num_source) + num_common +
         sequence.max_beams * (BlocksFor(sequence.max_tokens) - num_common);
}

// What the present tokens of `sequence` and its forks take beyond the blocks that they have.
int64_t Scheduler::MissingBlocks(const Sequence& sequence) const {
  const auto missing = [this](const Sequence& beam, int64_t num_present) {
    return std::max<int64_t>(0, BlocksFor(static_cast<int64_t>(beam.tokens.size())) - num_present);
  };
  int64_t num_missing = missing(sequence, static_cast<int64_t>(sequence.blocks.size()));
  for (const Sequence* fork : sequence.forks) {
    num_missing +=
        missing(*fork, IsJoined(*fork) ? static_cast<int64_t>(fork->blocks.size())
                                       : NumCommonTokens(sequence, *fork) / pool_.block_size());
  }
  return num_missing;
}

// Those that run, and those that they may yet fork into.
int64_t Scheduler::num_promised_beams() const {
  int64_t num_beams = 0;
  for (const Sequence* sequence : running_) num_beams += sequence->max_beams;
  return num_beams;
}

// After a preemption: when all beams before a fork are computed again, the fork takes the blocks of
// the one with which it has most in common, but for its last token, whose logits are wanted.
void Scheduler::JoinFork(Sequence& sequence) {
  const Sequence* nearest = &sequence;
  int64_t num_common = 0;
  bool is_computed = NumRemaining(sequence) == 0;
  for (Sequence* fork : sequence.forks) {
    if (!is_computed) return;
    if (IsJoined(*fork)) {
      is_computed = NumRemaining(*fork) == 0;
      continue;
    }
    const auto consider = [&](const Sequence& other) {
      if (const int64_t common = NumCommonTokens(other, *fork); common > num_common) {
        num_common = common;
        nearest = &other;
      }
    };
    consider(sequence);
    for (const Sequence* other : sequence.forks) {
      if (other == fork) break;
      consider(*other);
    }
    num_common = std::min(num_common, static_cast<int64_t>(fork->tokens.size()) - 1);
    const int64_t num_blocks = num_common / pool_.block_size();
    fork->blocks.assign(nearest->blocks.begin(), nearest->blocks.begin() + num_blocks);
    for (const int32_t block : fork->blocks) pool_.AddUser(block);
    fork->num_computed = num_blocks * pool_.block_size();
    fork->num_published = std::min(num_blocks, nearest->num_published);
    return;
  }
}

// Puts into the batch what of a running sequence and its forks is computed next. False if it had to
// be preempted for it.
bool Scheduler::AppendRunning(Sequence& sequence, int64_t& prefill_budget, Batch& batch) {
  parts_.clear();
  bool is_computed = true;  // so far
  ForEachBeam(sequence, [&](Sequence& beam) {
    const int64_t num_remaining = NumRemaining(beam);
    if (&beam != &sequence && !is_computed && !IsJoined(beam)) return;
    is_computed &= num_remaining == 0;
    const int64_t num_tokens = num_remaining == 1 ? 1 : std::min(num_remaining, prefill_budget);
    if (num_tokens <= 0) return;
    parts_.push_back({&beam, num_tokens});
    if (num_remaining != 1) prefill_budget -= num_tokens;
  });
  const size_t num_copies = batch.block_copies.size();
  for (const Part& part : parts_) {
    while (sequence.is_running &&
           !Grow(*part.beam, part.beam->num_computed + part.num_tokens, batch))
      PreemptLast();
    if (!sequence.is_running) {
      batch.block_copies.resize(num_copies);
      return false;
    }
  }
  for (const Part& part : parts_) Append(*part.beam, static_cast<int32_t>(part.num_tokens), batch);
  return true;
}

// Room for `num_tokens` in all, in blocks that nobody else uses where they are written. False, and
// nothing taken, if there are too few blocks.
bool Scheduler::Grow(Sequence& sequence, int64_t num_tokens, Batch& batch) {
  const int64_t num_missing = BlocksFor(num_tokens) - static_cast<int64_t>(sequence.blocks.size());
  const auto written = static_cast<size_t>(sequence.num_computed / pool_.block_size());
  const bool copies =
      written < sequence.blocks.size() && pool_.num_users(sequence.blocks[written]) > 1;
  if (num_missing + (copies ? 1 : 0) > pool_.num_available()) return false;
  if (copies) {
    int32_t& block = sequence.blocks[written];
    const int32_t copy = *pool_.Allocate();
    batch.block_copies.emplace_back(block, copy);
    pool_.Release(block);
    block = copy;
  }
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
  ForEachBeam(sequence, [this](Sequence& beam) { FreeBlocks(beam); });
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
  int64_t num_promised = num_promised_beams();
  for (const Sequence* running : running_) num_promised += MissingBlocks(*running);
  sequence.blocks = pool_.AcquirePrefix(
      absl::MakeConstSpan(sequence.tokens).first(sequence.first_logit_token + 1),
      sequence.prefix_domain);
  const int64_t num_source = MissingSourceBlocks(sequence);
  int64_t num_missing = MissingBlocks(sequence) + num_source;
  if (sequence.forks.empty()) num_missing += sequence.max_beams - 1;
  if (num_missing + num_promised > pool_.num_available()) {
    FreeBlocks(sequence);
    return false;
  }
  if (sequence.source != nullptr) {
    ++sequence.source->num_running;
    for (int64_t i = 0; i < num_source; ++i) sequence.source->blocks.push_back(*pool_.Allocate());
  }
  // Steps grow it; none of them is to wait for memory.
  sequence.blocks.reserve(BlocksFor(sequence.max_tokens));
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
