#ifndef ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_
#define ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/request.h"
#include "engine/sampler/logits_processors.h"

namespace attendant::engine {

// A token and its natural logarithm of probability, under the model's own distribution: before any
// penalty, bias, temperature or cut.
struct ScoredToken {
  int32_t id = 0;
  float logprob = 0;
};

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;
  std::vector<ScoredToken> top;  // the most probable, descending
};

// The logprob of `id`, and the `num_top` most probable tokens (fewer if the vocabulary is smaller).
// INTERNAL if a logit is NaN or +infinity, or all are -infinity. `logits` [vocab_size].
absl::StatusOr<SampledToken> ScoreToken(absl::Span<const float> logits, int32_t id,
                                        int32_t num_top);

// Draws the tokens of one sequence, one after the other. What it draws depends on the parameters,
// the prompt, the logits and the seed: on nothing else that runs. Ids in the parameters and the
// prompt are within the vocabulary. Not thread-safe.
class Sampler {
 public:
  // `end_tokens`: what may not be drawn before `min_new_tokens` were.
  Sampler(const SamplingParams& params, absl::Span<const int32_t> prompt,
          std::vector<int32_t> end_tokens, int32_t min_new_tokens);

  // The next token. `logits` [vocab_size] are spoilt. Errors as ScoreToken; and INTERNAL if the
  // bias and the masked tokens leave nothing to draw.
  absl::StatusOr<SampledToken> Sample(absl::Span<float> logits, int32_t num_top);

 private:
  const SamplingParams params_;
  const std::vector<int32_t> end_tokens_;
  const int32_t min_new_tokens_;
  TokenCounts seen_;    // in the prompt and the output, if a repetition penalty asks for it
  TokenCounts output_;  // in the output, if a presence or frequency penalty asks for it
  int32_t num_drawn_ = 0;
  std::vector<Candidate> candidates_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_
