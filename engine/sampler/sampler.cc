#include "engine/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/softmax.h"
#include "engine/sampler/philox.h"

namespace attendant::engine {
namespace {

// The logarithm of the softmax's denominator.
absl::StatusOr<float> LogNormalizer(absl::Span<const float> logits) {
  const float normalizer = LogSumExp(logits);
  if (std::isfinite(normalizer)) return normalizer;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (std::isnan(logits[id]) || logits[id] == std::numeric_limits<float>::infinity()) {
      return absl::InternalError(
          absl::StrCat("the model's logit of token ", id, " is ", logits[id]));
    }
  }
  return absl::InternalError("the model gave no token any probability");
}

std::vector<ScoredToken> TopTokens(absl::Span<const float> logits, float normalizer,
                                   int32_t count) {
  std::vector<ScoredToken> top;
  if (count <= 0) return top;
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t num_top = std::min<size_t>(count, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + num_top, ids.end(), [logits](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  top.reserve(num_top);
  for (size_t i = 0; i < num_top; ++i) top.push_back({ids[i], logits[ids[i]] - normalizer});
  return top;
}

}  // namespace

absl::StatusOr<SampledToken> ScoreToken(absl::Span<const float> logits, int32_t id,
                                        int32_t num_top) {
  ASSIGN_OR_RETURN(const float normalizer, LogNormalizer(logits));
  return SampledToken{id, logits[id] - normalizer, TopTokens(logits, normalizer, num_top)};
}

Sampler::Sampler(const SamplingParams& params, absl::Span<const int32_t> prompt,
                 std::vector<int32_t> end_tokens, int32_t min_new_tokens)
    : params_(params), end_tokens_(std::move(end_tokens)), min_new_tokens_(min_new_tokens) {
  if (params_.repetition_penalty != 1) {
    for (const int32_t id : prompt) ++seen_[id];
  }
}

absl::StatusOr<SampledToken> Sampler::Sample(absl::Span<float> logits, int32_t num_top) {
  ASSIGN_OR_RETURN(const float normalizer, LogNormalizer(logits));
  SampledToken token;
  token.top = TopTokens(logits, normalizer, num_top);

  // The raw logit of a token that was changed below, for its logprob.
  const bool is_processed = !seen_.empty() || !output_.empty() || !params_.logit_bias.empty() ||
                            num_drawn_ < min_new_tokens_;
  std::vector<float> raw;
  if (is_processed) raw.assign(logits.begin(), logits.end());

  if (params_.repetition_penalty != 1)
    ApplyRepetitionPenalty(logits, seen_, params_.repetition_penalty);
  ApplyPresenceAndFrequencyPenalty(logits, output_, params_.presence_penalty,
                                   params_.frequency_penalty);
  ApplyLogitBias(logits, params_.logit_bias);
  if (num_drawn_ < min_new_tokens_) MaskTokens(logits, end_tokens_);

  const int32_t best = ArgMax(logits);
  if (logits[best] == -std::numeric_limits<float>::infinity()) {
    return absl::InternalError("min_new_tokens and logit_bias leave no token to draw");
  }
  if (params_.temperature == 0) {
    token.id = best;
  } else {
    MakeCandidates(logits, params_.temperature, candidates_);
    if (params_.top_k > 0) KeepTopK(candidates_, params_.top_k);
    KeepTopP(candidates_, params_.top_p);
    KeepMinP(candidates_, params_.min_p);
    token.id = DrawCandidate(candidates_, UniformAt(params_.seed, num_drawn_));
  }
  token.logprob = (is_processed ? raw[token.id] : logits[token.id]) - normalizer;

  ++num_drawn_;
  if (params_.repetition_penalty != 1) ++seen_[token.id];
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) ++output_[token.id];
  return token;
}

}  // namespace attendant::engine
