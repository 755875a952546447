#ifndef ATTENDANT_ENGINE_SAMPLER_LOGITS_PROCESSORS_H_
#define ATTENDANT_ENGINE_SAMPLER_LOGITS_PROCESSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/request.h"

namespace attendant::engine {

// What changes the logits before a token is chosen. The first group works on all logits
// [vocab_size], in place; the second on the candidates that are left. Every one is defined as the
// reference library (transformers) or, for what that lacks, as OpenAI's API defines it. Token ids
// are within the vocabulary. Each takes time linear in the tokens that it looks at.

// Memory that some of them work in, so that a sequence's next token needs none of its own.
struct ProcessorScratch {
  std::vector<float> values;
  std::vector<size_t> borders;
};

// Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable Generation",
// 2019: the logit of every token that occurs in `tokens` is divided by `penalty` if positive, else
// multiplied by it.
void ApplyRepetitionPenalty(absl::Span<float> logits, absl::Span<const int32_t> tokens,
                            float penalty, ProcessorScratch& scratch);

// Subtracts `presence` once, and `frequency` for each occurrence, from every token that the output
// has.
void ApplyPresenceAndFrequencyPenalty(absl::Span<float> logits, absl::Span<const int32_t> output,
                                      float presence, float frequency, ProcessorScratch& scratch);

void ApplyLogitBias(absl::Span<float> logits, const std::map<int32_t, float>& bias);

// Makes `banned` impossible.
void MaskTokens(absl::Span<float> logits, absl::Span<const int32_t> banned);

// Makes everything but `forced` impossible, and those equal.
void ForceTokens(absl::Span<float> logits, absl::Span<const int32_t> forced);

// Makes every token impossible that would end a run of `ngram_size` >= 1 tokens that `tokens` has
// already.
void BanRepeatedNgrams(absl::Span<float> logits, absl::Span<const int32_t> tokens,
                       int32_t ngram_size, ProcessorScratch& scratch);

// Makes the last token of each of `words`, which are not empty, impossible where `tokens` end with
// the ones before it. As in the reference, a word that is longer than `tokens` is not looked at.
void BanWords(absl::Span<float> logits, absl::Span<const int32_t> tokens,
              absl::Span<const std::vector<int32_t>> words);

// Which tokens a checkpoint (its generation_config.json) bans, and which it forces. Ids are within
// the vocabulary.
struct TokenConstraints {
  std::vector<std::vector<int32_t>> bad_words;  // sequences that never occur; none is empty
  std::vector<int32_t> suppress_tokens;         // never chosen
  std::vector<int32_t> begin_suppress_tokens;   // not chosen first
  // The first token, where nothing but one start token comes before it.
  std::optional<int32_t> forced_bos_token_id;
  std::vector<int32_t> forced_eos_token_ids;  // of which the last of max_new_tokens is one
};

struct LogitsProcessorOptions {
  SamplingParams sampling;
  TokenConstraints constraints;
  std::vector<int32_t> end_tokens;  // what may not be chosen before `min_new_tokens` were
  int32_t min_new_tokens = 0;
  int32_t max_new_tokens = 0;
  int64_t prompt_tokens = 0;  // before the output; of an encoder-decoder, the decoder's own
};

// All of the first group, in the reference's order, for the sequences of one request. Has no state:
// what it does depends on its options and the sequence's tokens alone.
class LogitsProcessors {
 public:
  explicit LogitsProcessors(LogitsProcessorOptions options);

  // Whether Apply would do anything to what follows `tokens`.
  bool Applies(absl::Span<const int32_t> tokens) const;

  // Changes `logits` [vocab_size], or logarithms of probabilities, of what follows `tokens`: the
  // prompt and the output.
  void Apply(absl::Span<const int32_t> tokens, absl::Span<float> logits,
             ProcessorScratch& scratch) const;

  const LogitsProcessorOptions& options() const { return options_; }

 private:
  const LogitsProcessorOptions options_;
  int64_t begin_tokens_;  // before the first token that begin_suppress_tokens speaks of
};

// A token that may yet be drawn.
struct Candidate {
  int32_t id = 0;
  float score = 0;  // its logit, relative to the largest and divided by the temperature: at most 0
};

// Every token that is possible at all, by id. temperature > 0; logits hold no NaN and at least one
// is finite.
void MakeCandidates(absl::Span<const float> logits, float temperature,
                    std::vector<Candidate>& candidates);

// Each keeps some of the candidates, one at least; the order of those that stay is not defined.

// The k largest, and those equal to the least of them. k >= 1.
void KeepTopK(std::vector<Candidate>& candidates, int32_t k);

// Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020: the smallest set of the
// most probable whose probabilities sum to at least p; of equals the lower id first.
void KeepTopP(std::vector<Candidate>& candidates, float p);

// Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024: those at least min_p times as
// probable as the most probable.
void KeepMinP(std::vector<Candidate>& candidates, float min_p);

// The candidate at `uniform`, in [0, 1), of their cumulative distribution, in the order of their
// ids.
int32_t DrawCandidate(std::vector<Candidate>& candidates, double uniform);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SAMPLER_LOGITS_PROCESSORS_H_
