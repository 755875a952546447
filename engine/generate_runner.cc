#include "engine/generate_runner.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/softmax.h"
#include "engine/kernels/team.h"

namespace attendant::engine {
namespace {

// A prompt advances by so many tokens in each step, whatever the steps take.
constexpr int32_t kMinPrefillTokens = 32;

// A row more of a chunk's cross_attention; null for none.
void AddSourceWeights(const std::shared_ptr<const std::vector<float>>& weights,
                      GenerateChunk& chunk) {
  if (weights == nullptr) return;
  chunk.cross_attention.insert(chunk.cross_attention.end(), weights->begin(), weights->end());
}

GenerateSequence& Generating(const ScheduledSequence& scheduled) {
  return static_cast<GenerateSequence&>(*scheduled.sequence);
}

}  // namespace

GenerateRunner::GenerateRunner(Network& network, KernelContext& context,
                               const GenerateRunnerOptions& options)
    : network_(network),
      context_(context),
      options_(options),
      pool_(options.num_blocks, options.block_size),
      scheduler_(options.scheduler, pool_),
      prefill_budget_(options.target_step_time, kMinPrefillTokens,
                      options.scheduler.max_batch_tokens),
      row_scratch_(context.num_threads()) {
  // Which thread reads its first row when is chance: a later step is not to take memory for it.
  for (RowScratch& scratch : row_scratch_) scratch.raw_log_probs.reserve(network.vocab_size());
}

GenerateRunner::~GenerateRunner() = default;

void GenerateRunner::Add(std::unique_ptr<GenerateJob> job) {
  jobs_.push_back(std::move(job));
  ++last_arrival_;
  if (const absl::Status status = BeginSequence(*jobs_.back()); !status.ok()) {
    End(*jobs_.back(), status);
  }
}

// The first sequence of a job computes its prompt. The others begin when it is done, and find it in
// the cache.
absl::Status GenerateRunner::BeginSequence(GenerateJob& job) {
  const bool is_first = job.num_begun == 0;
  auto sequence = std::make_unique<GenerateSequence>(job, job.num_begun);
  const auto num_prompt = static_cast<int64_t>(job.prompt.size());
  sequence->arrival = is_first ? last_arrival_ : job.sequences.front()->arrival;
  sequence->priority = job.priority;
  sequence->max_tokens = num_prompt + job.stopping.max_new_tokens;
  sequence->tokens.reserve(sequence->max_tokens);
  sequence->first_logit_token = is_first && job.prompt_logprobs ? 0 : num_prompt - 1;
  // A domain of its own keeps the prompt from others, whose source may be another; arrivals are
  // unique among the requests of a model.
  if (job.has_source()) sequence->source = &job.source;
  if (!job.cache_prefix || job.has_source()) {
    sequence->prefix_domain = static_cast<uint64_t>(sequence->arrival);
  }
  const int32_t num_beams = job.beam_search.num_beams;
  sequence->max_beams = num_beams;
  sequence->num_common = num_prompt;
  RETURN_IF_ERROR(scheduler_.Add(*sequence));
  job.sequences.push_back(std::move(sequence));
  ++job.num_begun;
  if (num_beams == 1) return absl::OkStatus();
  job.search.emplace(BeamSearchOptions{.params = job.beam_search,
                                       .end_tokens = job.end_tokens,
                                       .max_new_tokens = job.stopping.max_new_tokens});
  for (int32_t beam = 1; beam < num_beams; ++beam)
    job.sequences.push_back(std::make_unique<GenerateSequence>(job, beam));
  return absl::OkStatus();
}

void GenerateRunner::EndOverdue(absl::Time now) {
  for (size_t i = 0; i < jobs_.size();) {
    const absl::Status status = jobs_[i]->control->Check(now);
    if (status.ok()) {
      ++i;
    } else {
      End(*jobs_[i], status);
    }
  }
}

void GenerateRunner::EndAll(const absl::Status& status) {
  while (!jobs_.empty()) End(*jobs_.front(), status);
}

absl::Time GenerateRunner::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& job : jobs_) next = std::min(next, job->control->deadline);
  return next;
}

int64_t GenerateRunner::num_running() const {
  return absl::c_count_if(jobs_,
                          [](const auto& job) { return job->admitted != absl::InfiniteFuture(); });
}

double GenerateRunner::cache_usage_ratio() const {
  return static_cast<double>(pool_.num_used()) / pool_.num_blocks();
}

bool GenerateRunner::Step(Reporter report) {
  const int32_t max_prefill_tokens =
      scheduler_.is_decoding() ? prefill_budget_.Tokens() : options_.scheduler.max_batch_tokens;
  const absl::Span<const ScheduledSequence> scheduled =
      scheduler_.Schedule(max_prefill_tokens, batch_, sources_);
  if (scheduled.empty()) return false;

  const absl::Time start = absl::Now();
  step_jobs_.clear();
  int32_t num_decodes = 0;
  for (const ScheduledSequence& part : scheduled) {
    GenerateSequence& sequence = Generating(part);
    sequence.job.admitted = std::min(sequence.job.admitted, start);
    if (!absl::c_linear_search(step_jobs_, &sequence.job)) step_jobs_.push_back(&sequence.job);
    if (part.num_tokens == 1 && sequence.num_output() > 0) ++num_decodes;
    if (!sequence.job.prompt_logprobs) SendStarted(sequence);
  }

  bool failed = false;
  absl::Time encoded = start;
  try {
    EncodeSources(report);
    encoded = absl::Now();
    ChooseAligned(scheduled);
    const auto compute = [&] {
      const ConstMatrix hidden = network_.Forward(batch_, [](int32_t, ConstMatrix) {});
      ReadAligned(scheduled);
      ReadLogits(scheduled, hidden);
    };
    const auto num_logit_rows = static_cast<int32_t>(batch_.logit_rows.size());
    if (network_.UsesOnednn(batch_.num_tokens(),
                            std::min(num_logit_rows, options_.max_logit_rows))) {
      compute();
    } else {
      RunInOneRegion(context_, compute);
    }
  } catch (const std::exception& error) {
    LOG(ERROR) << "a step of " << batch_.num_tokens() << " tokens failed: " << error.what();
    failed = true;
  }
  const absl::Time end = absl::Now();
  for (GenerateJob* job : step_jobs_) job->compute += end - start;
  const int32_t num_prefill_tokens = batch_.num_tokens() - num_decodes;
  const auto num_sequences = static_cast<int32_t>(scheduled.size());
  if (!failed) {
    prefill_budget_.Observe(end - start, sources_.num_tokens() + num_prefill_tokens, num_decodes);
    scheduler_.FinishStep();
  }
  report({.phase = num_decodes == 0          ? "prefill"
                   : num_prefill_tokens == 0 ? "decode"
                                             : "mixed",
          .duration = end - encoded,
          .num_tokens = batch_.num_tokens(),
          .num_sequences = num_sequences});

  if (failed) {
    for (GenerateJob* job : step_jobs_) {
      End(*job, absl::InternalError("the step that computed this request failed"));
    }
    return true;
  }
  // A job may end with its first outcome, and take those of its other sequences along.
  for (Outcome& outcome : outcomes_) {
    const bool lives = absl::c_any_of(jobs_, [&](const auto& job) {
      return absl::c_any_of(job->sequences,
                            [&](const auto& s) { return s.get() == outcome.sequence; });
    });
    if (lives) Deliver(outcome, end);
  }
  return true;
}

void GenerateRunner::EncodeSources(Reporter report) {
  if (sources_.sequences.empty()) return;
  const absl::Time start = absl::Now();
  network_.EncodeSources(sources_);
  report({.phase = "encode",
          .duration = absl::Now() - start,
          .num_tokens = sources_.num_tokens(),
          .num_sequences = static_cast<int32_t>(sources_.sequences.size())});
}

// Samples, and scores prompts, in as many rows at a time as the network gives: what is done with a
// row depends on its own sequence alone, and so threads share the sequences.
void GenerateRunner::ReadLogits(absl::Span<const ScheduledSequence> scheduled, ConstMatrix hidden) {
  outcomes_.clear();
  logit_rows_.clear();
  for (const ScheduledSequence& part : scheduled) {
    GenerateSequence& sequence = Generating(part);
    const int64_t end = part.first_token + part.num_tokens;
    for (int64_t token = std::max(part.first_token, sequence.first_logit_token); token < end;
         ++token) {
      logit_rows_.push_back({outcomes_.size(), token});
    }
    outcomes_.emplace_back().sequence = &sequence;
  }

  const auto max_rows = static_cast<size_t>(options_.max_logit_rows);
  for (size_t first = 0; first < logit_rows_.size(); first += max_rows) {
    const auto rows = absl::MakeConstSpan(logit_rows_).subspan(first, max_rows);
    const Matrix logits =
        network_.Logits(hidden, absl::MakeConstSpan(batch_.logit_rows).subspan(first, max_rows));
    first_rows_.clear();
    for (size_t row = 0; row < rows.size(); ++row) {
      if (row == 0 || rows[row].outcome != rows[row - 1].outcome) first_rows_.push_back(row);
    }
    const auto num_tasks = static_cast<int64_t>(first_rows_.size());
    first_rows_.push_back(rows.size());
    RunOnTeam(context_, num_tasks, [&](int64_t task, int thread) {
      Outcome& outcome = outcomes_[rows[first_rows_[task]].outcome];
      try {
        for (size_t row = first_rows_[task]; row < first_rows_[task + 1]; ++row) {
          ReadRow(outcome, rows[row].token,
                  absl::MakeSpan(logits.row(static_cast<int64_t>(row)), logits.cols),
                  row_scratch_[thread]);
        }
      } catch (const std::exception& error) {  // memory; a team's thread must not throw
        outcome.status = absl::InternalError(absl::StrCat("choosing a token: ", error.what()));
      }
    });
  }
}

// Those that are computed up to their newest token, and so get another.
void GenerateRunner::ChooseAligned(absl::Span<const ScheduledSequence> scheduled) {
  for (size_t i = 0; i < scheduled.size(); ++i) {
    const GenerateSequence& sequence = Generating(scheduled[i]);
    if (sequence.job.cross_attention && scheduled[i].first_token + scheduled[i].num_tokens ==
                                            static_cast<int64_t>(sequence.tokens.size())) {
      batch_.aligned_sequences.push_back(static_cast<int32_t>(i));
    }
  }
}

void GenerateRunner::ReadAligned(absl::Span<const ScheduledSequence> scheduled) {
  if (batch_.aligned_sequences.empty()) return;
  const ConstMatrix weights = network_.SourceWeights();
  for (int64_t i = 0; i < weights.rows; ++i) {
    const int32_t index = batch_.aligned_sequences[i];
    Generating(scheduled[index]).source_weights = std::make_shared<const std::vector<float>>(
        weights.row(i), weights.row(i) + batch_.sequences[index].num_source_tokens);
  }
}

// `logits` follow `token`: they say what comes next.
void GenerateRunner::ReadRow(Outcome& outcome, int64_t token, absl::Span<float> logits,
                             RowScratch& scratch) {
  if (!outcome.status.ok()) return;
  GenerateSequence& sequence = *outcome.sequence;
  const int32_t num_top = sequence.job.top_logprobs;
  const bool is_prompt = token + 1 < static_cast<int64_t>(sequence.tokens.size());
  if (!is_prompt && sequence.job.search.has_value()) {
    outcome.status = ScoreBeam(sequence, logits, scratch);
    return;
  }
  absl::StatusOr<SampledToken> read;
  if (is_prompt) {
    read = ScoreToken(logits, sequence.tokens[token + 1], num_top);
  } else {
    read = sequence.sampler.Sample(sequence.tokens, logits,
                                   sequence.job.logprobs ? std::optional(num_top) : std::nullopt);
  }
  if (!read.ok()) {
    outcome.status = read.status();
  } else if (is_prompt) {
    outcome.prompt.push_back(*std::move(read));
  } else {
    outcome.token = *std::move(read);
  }
}

// What the reference searches by: the processed logarithms of the softmax.
absl::Status GenerateRunner::ScoreBeam(GenerateSequence& sequence, absl::Span<float> logits,
                                       RowScratch& scratch) {
  ASSIGN_OR_RETURN(const float normalizer, LogNormalizer(logits));
  Subtract(logits, normalizer);
  const LogitsProcessors& processors = *sequence.job.processors;
  absl::Span<const float> raw_log_probs = logits;
  if (processors.Applies(sequence.tokens)) {
    scratch.raw_log_probs.assign(logits.begin(), logits.end());
    raw_log_probs = scratch.raw_log_probs;
    processors.Apply(sequence.tokens, logits, scratch.processors);
  }
  sequence.job.search->Score(sequence.index, logits, raw_log_probs, sequence.source_weights);
  return absl::OkStatus();
}

void GenerateRunner::Deliver(Outcome& outcome, absl::Time now) {
  GenerateSequence& sequence = *outcome.sequence;
  GenerateJob& job = sequence.job;
  if (!outcome.status.ok()) {
    End(job, outcome.status);
    return;
  }
  for (const SampledToken& token : outcome.prompt) {
    job.prompt_tokens.push_back(Describe(job, token));
    job.prompt_tokens.back().logprob = token.logprob;
    ++sequence.first_logit_token;
  }
  // Either may end the job, and then it is gone.
  if (outcome.token.has_value()) {
    DeliverToken(sequence, *std::move(outcome.token), now);
  } else if (job.search.has_value() && job.search->is_scored()) {
    AdvanceBeams(job, now);
  }
}

void GenerateRunner::DeliverToken(GenerateSequence& sequence, SampledToken token, absl::Time now) {
  GenerateJob& job = sequence.job;
  SendStarted(sequence);
  sequence.tokens.push_back(token.id);
  sequence.first_logit_token = static_cast<int64_t>(sequence.tokens.size()) - 1;
  sequence.first_token = std::min(sequence.first_token, now);
  sequence.score += token.logprob;
  if (sequence.index == 0 && sequence.num_output() == 1) {
    while (job.num_begun < job.num_sequences) {
      if (const absl::Status status = BeginSequence(job); !status.ok()) {
        End(job, status);
        return;
      }
    }
  }

  std::optional<std::string> stop;
  GenerateChunk chunk{.sequence = sequence.index};
  if (!std::exchange(sequence.echo_given, true)) chunk.text = job.echo;
  std::optional<Ending> ending = EndingOf(job, token.id);
  if (!ending.has_value()) {
    chunk.text += sequence.PushText(token.id, stop);
    if (!stop.has_value() && sequence.num_output() >= job.stopping.max_new_tokens)
      ending = Ending{FinishReason::kLength};
  }
  if (ending.has_value()) chunk.text += sequence.FinishText(stop);
  if (stop.has_value()) ending = Ending{FinishReason::kStopSequence, *std::move(stop)};
  chunk.tokens.push_back(Describe(job, token));
  AddSourceWeights(sequence.source_weights, chunk);
  job.sink->OnChunk(std::move(chunk));
  if (!ending.has_value()) return;
  SendFinished(sequence, sequence.num_output(), *std::move(ending), now);
  scheduler_.Remove(sequence);
  std::erase_if(job.sequences, [&](const auto& other) { return other.get() == &sequence; });
  if (job.sequences.empty()) End(job, absl::OkStatus());
}

// Every beam was scored: the best go on. What is certain of the winner is given at once, all others
// when the search is done.
void GenerateRunner::AdvanceBeams(GenerateJob& job, absl::Time now) {
  BeamSearch& search = *job.search;
  GenerateSequence& first = *job.sequences.front();
  if (const absl::Status status = search.Advance(); !status.ok()) {
    End(job, status);
    return;
  }
  SendStarted(first);
  first.first_token = std::min(first.first_token, now);
  if (search.is_done()) {
    const size_t num_given =
        std::min(search.hypotheses().size(), static_cast<size_t>(job.num_sequences));
    for (size_t i = 0; i < num_given; ++i) {
      job.sequences[i]->first_token = first.first_token;
      FinishHypothesis(*job.sequences[i], search.hypotheses()[i], now);
    }
    End(job, absl::OkStatus());
    return;
  }

  beams_.clear();
  for (const auto& sequence : job.sequences) beams_.push_back(sequence.get());
  parents_.clear();
  for (const BeamSearch::Beam& beam : search.live()) parents_.push_back(beam.parent);
  scheduler_.Fork(beams_, parents_);
  for (size_t i = 0; i < parents_.size(); ++i) {
    beams_[i]->tokens.push_back(search.live()[i].tokens.back().id);
    beams_[i]->first_logit_token = static_cast<int64_t>(beams_[i]->tokens.size()) - 1;
  }

  const absl::Span<const ScoredToken> stable = search.stable_prefix();
  if (job.num_streamed == stable.size()) return;
  GenerateChunk chunk{.sequence = first.index};
  if (!std::exchange(first.echo_given, true)) chunk.text = job.echo;
  std::optional<std::string> stop;
  for (; job.num_streamed < stable.size(); ++job.num_streamed) {
    const ScoredToken& token = stable[job.num_streamed];
    chunk.text += first.PushText(token.id, stop);
    AddToken(job, token, chunk);
  }
  job.sink->OnChunk(std::move(chunk));
}

void GenerateRunner::AddToken(const GenerateJob& job, const ScoredToken& token,
                              GenerateChunk& chunk) const {
  chunk.tokens.push_back(Describe(job, {.id = token.id, .logprob = token.logprob}));
  AddSourceWeights(token.source_weights, chunk);
}

void GenerateRunner::FinishHypothesis(GenerateSequence& sequence,
                                      const BeamSearch::Hypothesis& hypothesis, absl::Time now) {
  GenerateJob& job = sequence.job;
  GenerateChunk chunk{.sequence = sequence.index};
  if (!std::exchange(sequence.echo_given, true)) chunk.text = job.echo;
  const size_t num_tokens = hypothesis.tokens.size();
  std::optional<std::string> stop;
  for (size_t i = sequence.index == 0 ? job.num_streamed : 0; i < num_tokens; ++i) {
    const ScoredToken& token = hypothesis.tokens[i];
    // The end token has no text.
    if (!hypothesis.is_ended || i + 1 < num_tokens) chunk.text += sequence.PushText(token.id, stop);
    AddToken(job, token, chunk);
  }
  chunk.text += sequence.FinishText(stop);
  job.sink->OnChunk(std::move(chunk));
  sequence.score = hypothesis.score;
  SendFinished(sequence, static_cast<int64_t>(num_tokens),
               EndingOf(job, hypothesis.tokens.back().id).value_or(Ending()), now);
}

// Nothing if `token` does not end an output.
std::optional<GenerateRunner::Ending> GenerateRunner::EndingOf(const GenerateJob& job,
                                                               int32_t token) {
  const GenerationConfig& config = job.in_flight.model().generation;
  if (!job.stopping.ignore_eos && absl::c_linear_search(config.eos_token_ids, token))
    return Ending{FinishReason::kEos, token};
  if (absl::c_linear_search(job.stopping.stop_token_ids, token))
    return Ending{FinishReason::kStopSequence, token};
  return std::nullopt;
}

void GenerateRunner::SendFinished(GenerateSequence& sequence, int64_t num_output, Ending ending,
                                  absl::Time now) {
  GenerateJob& job = sequence.job;
  GenerateFinished finished{
      .sequence = sequence.index, .reason = ending.reason, .stop_match = std::move(ending.match)};
  if (job.search.has_value() || job.logprobs) finished.score = static_cast<float>(sequence.score);
  finished.usage = {.input_tokens = job.input_tokens,
                    .cached_tokens = job.search.has_value() ? job.sequences.front()->num_cached
                                                            : sequence.num_cached,
                    .output_tokens = num_output};
  finished.timings = {.queue = job.admitted - job.tokenized,
                      .tokenize = job.tokenized - job.submitted,
                      .compute = job.compute,
                      .total = now - job.submitted,
                      .time_to_first_token = sequence.first_token - job.submitted};
  job.sink->OnFinished(std::move(finished));
}

// Once for each job: when it is admitted or, if its prompt is scored, when that is done.
void GenerateRunner::SendStarted(GenerateSequence& sequence) {
  GenerateJob& job = sequence.job;
  if (std::exchange(job.was_started, true)) return;
  GenerateStarted started{
      .sampling = job.sampling, .stopping = job.stopping, .beam_search = job.beam_search};
  started.usage = {.input_tokens = job.input_tokens, .cached_tokens = sequence.num_cached};
  started.original_tokens = job.original_tokens;
  if (job.prompt_logprobs) {
    // Nothing comes before the first token, so nothing says how probable it is.
    const int32_t first = job.prompt.front();
    const Tokenizer* tokenizer = OutputTokenizer(job.in_flight.model());
    started.prompt_tokens.push_back({.id = first, .text = TokenText(tokenizer, first)});
    absl::c_move(job.prompt_tokens, std::back_inserter(started.prompt_tokens));
  }
  job.sink->OnStarted(std::move(started));
}

GeneratedToken GenerateRunner::Describe(const GenerateJob& job, const SampledToken& token) const {
  const Tokenizer* tokenizer = OutputTokenizer(job.in_flight.model());
  GeneratedToken described{.id = token.id, .text = TokenText(tokenizer, token.id)};
  if (job.logprobs) described.logprob = token.logprob;
  for (const ScoredToken& top : token.top) {
    described.top.push_back(
        {.id = top.id, .text = TokenText(tokenizer, top.id), .logprob = top.logprob});
  }
  return described;
}

void GenerateRunner::End(GenerateJob& job, const absl::Status& status) {
  for (const auto& sequence : job.sequences) scheduler_.Remove(*sequence);
  // Freed first: who is told that a request ended finds it gone.
  const std::shared_ptr<TokenSink> sink = std::move(job.sink);
  std::erase_if(jobs_, [&](const auto& other) { return other.get() == &job; });
  sink->OnDone(status);
}

}  // namespace attendant::engine
