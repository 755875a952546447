#include "engine/sampler/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attendant::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A penalty or a bias may overflow; the largest float is as good, and arithmetic on it stays
// defined.
float Finite(float logit) { return std::min(logit, std::numeric_limits<float>::max()); }

bool MoreProbable(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

}  // namespace

void ApplyRepetitionPenalty(absl::Span<float> logits, const TokenCounts& prompt_and_output,
                            float penalty) {
  for (const auto& [id, count] : prompt_and_output) {
    float& logit = logits[id];
    logit = Finite(logit > 0 ? logit / penalty : logit * penalty);
  }
}

void ApplyPresenceAndFrequencyPenalty(absl::Span<float> logits, const TokenCounts& output,
                                      float presence, float frequency) {
  for (const auto& [id, count] : output)
    logits[id] -= presence + frequency * static_cast<float>(count);
}

void ApplyLogitBias(absl::Span<float> logits, const std::map<int32_t, float>& bias) {
  for (const auto& [id, value] : bias) logits[id] = Finite(logits[id] + value);
}

void MaskTokens(absl::Span<float> logits, absl::Span<const int32_t> tokens) {
  for (const int32_t id : tokens) logits[id] = -kInfinity;
}

void MakeCandidates(absl::Span<const float> logits, float temperature,
                    std::vector<Candidate>& candidates) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  candidates.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    // A temperature near 0 makes all but the largest impossible, and that one stays 0.
    const float difference = logits[id] - largest;
    const float score = difference == 0 ? 0 : difference / temperature;
    if (score > -kInfinity) candidates.push_back({static_cast<int32_t>(id), score});
  }
}

void KeepTopK(std::vector<Candidate>& candidates, int32_t k) {
  if (static_cast<size_t>(k) >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(),
                   MoreProbable);
  const float least = candidates[k - 1].score;
  candidates.erase(std::remove_if(candidates.begin() + k, candidates.end(),
                                  [least](const Candidate& c) { return c.score < least; }),
                   candidates.end());
}

void KeepTopP(std::vector<Candidate>& candidates, float p) {
  if (p >= 1) return;
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(static_cast<double>(c.score));
  const double wanted = p * total;

  // The set is small as a rule, so that sorting everything would be a waste: sort the front, and
  // more of it if need be.
  double sum = 0;
  size_t num_sorted = 0;
  for (size_t front = 64; num_sorted < candidates.size(); front *= 8) {
    const size_t end = std::min(candidates.size(), front);
    const auto begin = candidates.begin() + num_sorted;
    if (end < candidates.size())
      std::nth_element(begin, candidates.begin() + end, candidates.end(), MoreProbable);
    std::sort(begin, candidates.begin() + end, MoreProbable);
    for (; num_sorted < end; ++num_sorted) {
      sum += std::exp(static_cast<double>(candidates[num_sorted].score));
      if (sum >= wanted) {
        candidates.resize(num_sorted + 1);
        return;
      }
    }
  }
}

void KeepMinP(std::vector<Candidate>& candidates, float min_p) {
  if (min_p <= 0) return;
  float largest = -kInfinity;
  for (const Candidate& c : candidates) largest = std::max(largest, c.score);
  const float least = largest + std::log(std::min(min_p, 1.0f));
  std::erase_if(candidates, [least](const Candidate& c) { return c.score < least; });
}

int32_t DrawCandidate(std::vector<Candidate>& candidates, double uniform) {
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(static_cast<double>(c.score));
  const double wanted = uniform * total;
  double sum = 0;
  for (const Candidate& c : candidates) {
    sum += std::exp(static_cast<double>(c.score));
    if (wanted < sum) return c.id;
  }
  return candidates.back()
      .id;  // `sum` is `total`, summed in the same order, so this is a matter of rounding alone
}

}  // namespace attendant::engine
