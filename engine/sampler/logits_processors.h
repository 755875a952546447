#ifndef ATTENDANT_ENGINE_SAMPLER_LOGITS_PROCESSORS_H_
#define ATTENDANT_ENGINE_SAMPLER_LOGITS_PROCESSORS_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace attendant::engine {

// What changes the logits before a token is drawn. The first group works on all logits
// [vocab_size], in place; the second on the candidates that are left. Every one is defined as the
// reference library (transformers) or, for what that lacks, as OpenAI's API defines it. Token ids
// are within the vocabulary.

// How often each token occurs in a sequence.
using TokenCounts = absl::flat_hash_map<int32_t, int32_t>;

// Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable Generation",
// 2019: the logit of every token that occurred is divided by `penalty` if positive, else multiplied
// by it.
void ApplyRepetitionPenalty(absl::Span<float> logits, const TokenCounts& prompt_and_output,
                            float penalty);

// Subtracts `presence` once, and `frequency` for each occurrence, from every token that the output
// has.
void ApplyPresenceAndFrequencyPenalty(absl::Span<float> logits, const TokenCounts& output,
                                      float presence, float frequency);

void ApplyLogitBias(absl::Span<float> logits, const std::map<int32_t, float>& bias);

// Makes `tokens` impossible.
void MaskTokens(absl::Span<float> logits, absl::Span<const int32_t> tokens);

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
