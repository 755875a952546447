#ifndef ATTENDANT_ENGINE_READERS_SCORES_H_
#define ATTENDANT_ENGINE_READERS_SCORES_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/softmax.h"

namespace attendant::engine {

// What a classifier's logits become.
enum class ScoreKind : uint8_t { kLogits, kSigmoid, kSoftmax };

inline float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

inline std::vector<float> Scores(absl::Span<const float> logits, ScoreKind kind) {
  std::vector<float> scores(logits.begin(), logits.end());
  const float log_sum = kind == ScoreKind::kSoftmax ? LogSumExp(logits) : 0.0f;
  for (float& score : scores) {
    if (kind == ScoreKind::kSigmoid) score = Sigmoid(score);
    if (kind == ScoreKind::kSoftmax) score = std::exp(score - log_sum);
  }
  return scores;
}

// Orders indices by their scores, equal ones by themselves. What is no number is below all numbers:
// weights that overflow must not break a sort.
class BestFirst {
 public:
  explicit BestFirst(absl::Span<const float> scores) : scores_(scores) {}
  bool operator()(int32_t a, int32_t b) const {
    const float x = Score(a), y = Score(b);
    return x != y ? x > y : a < b;
  }

 private:
  float Score(int32_t index) const {
    const float score = scores_[index];
    return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  }
  absl::Span<const float> scores_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_READERS_SCORES_H_
