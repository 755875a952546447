#include "engine/scheduler/prefill_budget.h"

#include <algorithm>

namespace attendant::engine {
namespace {

// The weight of the newest step.
constexpr double kNewest = 0.2;

// A step of fewer prompt tokens says more of the weights that every step reads than of its tokens.
constexpr int32_t kFewestMeasured = 16;

void Update(absl::Duration& mean, absl::Duration value) {
  mean = mean == absl::ZeroDuration() ? value : (1 - kNewest) * mean + kNewest * value;
}

}  // namespace

PrefillBudget::PrefillBudget(absl::Duration target_step_time, int32_t min_tokens,
                             int32_t max_tokens)
    : target_step_time_(target_step_time),
      min_tokens_(std::min(min_tokens, max_tokens)),
      max_tokens_(max_tokens) {}

int32_t PrefillBudget::Tokens() const {
  if (prefill_token_ == absl::ZeroDuration()) return min_tokens_;
  const double tokens = absl::FDivDuration(target_step_time_ - decode_step_, prefill_token_);
  return static_cast<int32_t>(std::clamp<double>(tokens, min_tokens_, max_tokens_));
}

void PrefillBudget::Observe(absl::Duration duration, int32_t num_prefill_tokens,
                            int32_t num_decodes) {
  if (num_prefill_tokens == 0) {
    Update(decode_step_, duration);
  } else if (num_prefill_tokens >= kFewestMeasured) {
    // Noise may make a mixed step faster than the decodes alone; a token is never free.
    const absl::Duration decodes =
        num_decodes > 0 ? std::min(decode_step_, duration * 0.9) : absl::ZeroDuration();
    Update(prefill_token_, (duration - decodes) / num_prefill_tokens);
  }
}

}  // namespace attendant::engine
