#include "engine/sampler/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"

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

// Every token's value is read before any is written, so that one which occurs twice is changed
// once.
void ApplyRepetitionPenalty(absl::Span<float> logits, absl::Span<const int32_t> tokens,
                            float penalty, ProcessorScratch& scratch) {
  std::vector<float>& penalized = scratch.values;
  penalized.clear();
  for (const int32_t id : tokens) {
    const float logit = logits[id];
    penalized.push_back(Finite(logit > 0 ? logit / penalty : logit * penalty));
  }
  for (size_t i = 0; i < tokens.size(); ++i) logits[tokens[i]] = penalized[i];
}

void ApplyPresenceAndFrequencyPenalty(absl::Span<float> logits, absl::Span<const int32_t> output,
                                      float presence, float frequency, ProcessorScratch& scratch) {
  for (const int32_t id : output) logits[id] -= frequency;
  std::vector<float>& penalized = scratch.values;
  penalized.clear();
  for (const int32_t id : output) penalized.push_back(logits[id] - presence);
  for (size_t i = 0; i < output.size(); ++i) logits[output[i]] = penalized[i];
}

void ApplyLogitBias(absl::Span<float> logits, const std::map<int32_t, float>& bias) {
  for (const auto& [id, value] : bias) logits[id] = Finite(logits[id] + value);
}

void MaskTokens(absl::Span<float> logits, absl::Span<const int32_t> banned) {
  for (const int32_t id : banned) logits[id] = -kInfinity;
}

void ForceTokens(absl::Span<float> logits, absl::Span<const int32_t> forced) {
  absl::c_fill(logits, -kInfinity);
  for (const int32_t id : forced) logits[id] = 0;
}

// Looks for the last ngram_size - 1 tokens as Knuth, Morris and Pratt do ("Fast Pattern Matching in
// Strings", 1977), so that a long n-gram over a text that repeats itself costs no more.
void BanRepeatedNgrams(absl::Span<float> logits, absl::Span<const int32_t> tokens,
                       int32_t ngram_size, ProcessorScratch& scratch) {
  const auto length = static_cast<size_t>(ngram_size) - 1;
  if (tokens.size() <= length) return;
  const absl::Span<const int32_t> pattern = tokens.last(length);

  // The length of the longest border of each prefix of the pattern.
  std::vector<size_t>& border = scratch.borders;
  border.assign(length + 1, 0);
  const auto extend = [&](size_t matched, int32_t token) {
    while (matched > 0 && (matched == length || pattern[matched] != token))
      matched = border[matched];
    return length > 0 && pattern[matched] == token ? matched + 1 : matched;
  };
  for (size_t i = 1; i < length; ++i) border[i + 1] = extend(border[i], pattern[i]);

  size_t matched = 0;
  for (const int32_t token : tokens) {
    if (matched == length) logits[token] = -kInfinity;
    matched = extend(matched, token);
  }
}

void BanWords(absl::Span<float> logits, absl::Span<const int32_t> tokens,
              absl::Span<const std::vector<int32_t>> words) {
  for (const std::vector<int32_t>& word : words) {
    if (word.size() > 1 && word.size() > tokens.size()) continue;
    const size_t length = word.size() - 1;
    if (std::equal(word.begin(), word.end() - 1, tokens.end() - length))
      logits[word.back()] = -kInfinity;
  }
}

LogitsProcessors::LogitsProcessors(LogitsProcessorOptions options)
    : options_(std::move(options)), begin_tokens_(options_.prompt_tokens) {
  // A forced token is no choice: what may not come first is then not the second.
  if (options_.constraints.forced_bos_token_id.has_value() && options_.prompt_tokens == 1)
    ++begin_tokens_;
}

bool LogitsProcessors::Applies(absl::Span<const int32_t> tokens) const {
  const SamplingParams& sampling = options_.sampling;
  const TokenConstraints& constraints = options_.constraints;
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  const int64_t num_output = num_tokens - options_.prompt_tokens;
  return !sampling.logit_bias.empty() || sampling.repetition_penalty != 1 ||
         sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
         sampling.no_repeat_ngram_size > 0 || !constraints.bad_words.empty() ||
         !constraints.suppress_tokens.empty() || num_output < options_.min_new_tokens ||
         (constraints.forced_bos_token_id.has_value() && num_tokens == 1) ||
         (!constraints.forced_eos_token_ids.empty() && num_output + 1 == options_.max_new_tokens) ||
         (!constraints.begin_suppress_tokens.empty() && num_tokens == begin_tokens_);
}

void LogitsProcessors::Apply(absl::Span<const int32_t> tokens, absl::Span<float> logits,
                             ProcessorScratch& scratch) const {
  const SamplingParams& sampling = options_.sampling;
  const TokenConstraints& constraints = options_.constraints;
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  const int64_t num_output = num_tokens - options_.prompt_tokens;
  ApplyLogitBias(logits, sampling.logit_bias);
  if (sampling.repetition_penalty != 1)
    ApplyRepetitionPenalty(logits, tokens, sampling.repetition_penalty, scratch);
  if (sampling.presence_penalty != 0 || sampling.frequency_penalty != 0) {
    ApplyPresenceAndFrequencyPenalty(logits, tokens.subspan(options_.prompt_tokens),
                                     sampling.presence_penalty, sampling.frequency_penalty,
                                     scratch);
  }
  if (sampling.no_repeat_ngram_size > 0)
    BanRepeatedNgrams(logits, tokens, sampling.no_repeat_ngram_size, scratch);
  BanWords(logits, tokens, constraints.bad_words);
  if (num_output < options_.min_new_tokens) MaskTokens(logits, options_.end_tokens);
  if (constraints.forced_bos_token_id.has_value() && num_tokens == 1)
    ForceTokens(logits, {*constraints.forced_bos_token_id});
  if (!constraints.forced_eos_token_ids.empty() && num_output + 1 == options_.max_new_tokens)
    ForceTokens(logits, constraints.forced_eos_token_ids);
  MaskTokens(logits, constraints.suppress_tokens);
  if (num_tokens == begin_tokens_) MaskTokens(logits, constraints.begin_suppress_tokens);
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
