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

// Of logits whose maximum, or the sum of their exponentials, is not finite.
absl::Status UselessLogits(absl::Span<const float> logits) {
  for (size_t id = 0; id < logits.size(); ++id) {
    if (std::isnan(logits[id]) || logits[id] == std::numeric_limits<float>::infinity()) {
      return absl::InternalError(
          absl::StrCat("the model's logit of token ", id, " is ", logits[id]));
    }
  }
  return absl::InternalError("the model gave no token any probability");
}

}  // namespace

absl::StatusOr<float> LogNormalizer(absl::Span<const float> logits) {
  const float normalizer = LogSumExp(logits);
  if (!std::isfinite(normalizer)) return UselessLogits(logits);
  return normalizer;
}

absl::StatusOr<SampledToken> ScoreToken(absl::Span<const float> logits, int32_t id,
                                        int32_t num_top) {
  ASSIGN_OR_RETURN(const float normalizer, LogNormalizer(logits));
  return SampledToken{id, logits[id] - normalizer, TopTokens(logits, normalizer, num_top)};
}

Sampler::Sampler(const LogitsProcessors& processors, uint64_t seed)
    : processors_(processors), seed_(seed) {
  const LogitsProcessorOptions& options = processors.options();
  scratch_.values.reserve(options.prompt_tokens + options.max_new_tokens);
}

absl::StatusOr<SampledToken> Sampler::Sample(absl::Span<const int32_t> tokens,
                                             absl::Span<float> logits,
                                             std::optional<int32_t> num_top) {
  const SamplingParams& params = processors_.options().sampling;
  const bool is_processed = processors_.Applies(tokens);
  SampledToken token;
  float normalizer = 0;
  int32_t best = 0;
  if (num_top.has_value()) {
    ASSIGN_OR_RETURN(normalizer, LogNormalizer(logits));
    token.top = TopTokens(logits, normalizer, *num_top);
    // The raw logit of a token that was changed below, for its logprob.
    if (is_processed) raw_.assign(logits.begin(), logits.end());
  } else {
    best = ArgMax(logits);
    if (!std::isfinite(logits[best])) return UselessLogits(logits);
  }
  if (is_processed) processors_.Apply(tokens, logits, scratch_);

  if (is_processed || num_top.has_value()) best = ArgMax(logits);
  if (logits[best] == -std::numeric_limits<float>::infinity()) {
    return absl::InternalError("what is banned or forced leaves no token to draw");
  }
  if (params.temperature == 0) {
    token.id = best;
  } else {
    candidates_.reserve(logits.size());
    MakeCandidates(logits, params.temperature, candidates_);
    if (params.top_k > 0) KeepTopK(candidates_, params.top_k);
    KeepTopP(candidates_, params.top_p);
    KeepMinP(candidates_, params.min_p);
    const auto num_drawn =
        static_cast<int64_t>(tokens.size()) - processors_.options().prompt_tokens;
    token.id = DrawCandidate(candidates_, UniformAt(seed_, num_drawn));
  }
  if (num_top.has_value()) {
    token.logprob = (is_processed ? raw_[token.id] : logits[token.id]) - normalizer;
  }
  return token;
}

}  // namespace attendant::engine
