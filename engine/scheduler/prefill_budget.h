#ifndef ATTENDANT_ENGINE_SCHEDULER_PREFILL_BUDGET_H_
#define ATTENDANT_ENGINE_SCHEDULER_PREFILL_BUDGET_H_

#include <cstdint>

#include "absl/time/time.h"

namespace attendant::engine {

// Turns the time that a step may take into the prompt tokens that fit in it, by what earlier steps
// took: a step costs what its decodes cost, plus so much for each prompt token.
class PrefillBudget {
 public:
  // At least min_tokens are always allowed, so that prompts advance on any machine.
  PrefillBudget(absl::Duration target_step_time, int32_t min_tokens, int32_t max_tokens);

  // The prompt tokens of the next step, in which others decode.
  int32_t Tokens() const;

  // A step took `duration` for `num_prefill_tokens` and, if any, `num_decodes`.
  void Observe(absl::Duration duration, int32_t num_prefill_tokens, int32_t num_decodes);

 private:
  const absl::Duration target_step_time_;
  const int32_t min_tokens_;
  const int32_t max_tokens_;
  // Exponentially weighted means; zero until measured.
  absl::Duration decode_step_;
  absl::Duration prefill_token_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SCHEDULER_PREFILL_BUDGET_H_
