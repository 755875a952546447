#ifndef ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_
#define ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/sampler/logits_processors.h"

namespace attendant::engine {

// A token and its natural logarithm of probability, under the model's own distribution: before any
// penalty, bias, temperature or cut.
struct ScoredToken {
  int32_t id = 0;
  float logprob = 0;
  std::shared_ptr<const std::vector<float>> source_weights = nullptr;  // see BeamSearch::Score
};

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;             // if it was asked for
  std::vector<ScoredToken> top;  // the most probable, descending
};

// The logarithm of the softmax's denominator. INTERNAL if a logit is NaN or +infinity, or all are
// -infinity. `logits` [vocab_size].
absl::StatusOr<float> LogNormalizer(absl::Span<const float> logits);

// The logprob of `id`, and the `num_top` most probable tokens (fewer if the vocabulary is smaller).
// INTERNAL if a logit is NaN or +infinity, or all are -infinity. `logits` [vocab_size].
absl::StatusOr<SampledToken> ScoreToken(absl::Span<const float> logits, int32_t id,
                                        int32_t num_top);

// Draws the tokens of one sequence, one after the other. What it draws depends on the processors'
// options, the sequence, the logits and the seed: on nothing else that runs. Not thread-safe.
class Sampler {
 public:
  // `processors` outlive the sampler.
  Sampler(const LogitsProcessors& processors, uint64_t seed);

  // The next token of a sequence of `tokens`, the prompt and the output so far. `logits`
  // [vocab_size] are spoilt. Logprobs, its own and of the `num_top` most probable, only where there
  // is such a number: they take longer than a greedy choice does. Errors as ScoreToken; and
  // INTERNAL if the processors leave nothing to draw.
  absl::StatusOr<SampledToken> Sample(absl::Span<const int32_t> tokens, absl::Span<float> logits,
                                      std::optional<int32_t> num_top);

 private:
  const LogitsProcessors& processors_;
  const uint64_t seed_;

  // Of a token, kept for their memory.
  std::vector<Candidate> candidates_;
  std::vector<float> raw_;
  ProcessorScratch scratch_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SAMPLER_SAMPLER_H_
