#ifndef ATTENDANT_ENGINE_SAMPLER_BEAM_SEARCH_H_
#define ATTENDANT_ENGINE_SAMPLER_BEAM_SEARCH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/request.h"
#include "engine/sampler/sampler.h"

namespace attendant::engine {

struct BeamSearchOptions {
  BeamSearchParams params;
  std::vector<int32_t> end_tokens;  // each completes a hypothesis, and is its last token
  int32_t max_new_tokens = 1;       // of a hypothesis, its end token included; at least 1
};

// Beam search as the reference library (transformers) defines it: the num_beams most probable
// beginnings are kept from one token to the next, and beside them the num_beams best hypotheses
// that are complete, by their score: the sum of log probabilities over length ^ length_penalty.
//
//   BeamSearch search(options);                       // one live beam, still empty
//   while (!search.is_done()) {
//     for each live beam: search.Score(beam, log_probs of what follows it, ...);
//     search.Advance();                               // search.live() are the new beams
//   }
//   search.hypotheses()
//
// Sums are in f32, as the reference has them; of equal candidates the one of the earlier beam, then
// of the lower token comes first. A beginning of probability 0 is not kept, so that there may be
// fewer beams, and in the end fewer hypotheses, than num_beams. Not thread-safe, but that several
// threads may score beams at once, each another.
class BeamSearch {
 public:
  struct Beam {
    int32_t parent = 0;               // which of the beams before the last Advance it continues
    float score = 0;                  // the sum of its tokens' processed log probabilities
    std::vector<ScoredToken> tokens;  // with their log probabilities by the model
  };

  struct Hypothesis {
    std::vector<ScoredToken> tokens;
    float score = 0;
    bool is_ended = false;  // by an end token; else by max_new_tokens
  };

  explicit BeamSearch(BeamSearchOptions options);

  // The beams that are continued, the most probable first: between 1 and num_beams until is_done().
  absl::Span<const Beam> live() const { return absl::MakeConstSpan(live_).first(num_live_); }

  // What may follow live beam number `beam`: log probabilities [vocab_size] without NaN, after all
  // processors, and the model's own. May be repeated before Advance, and the last one counts. Every
  // token that follows keeps `source_weights`, whatever they are.
  void Score(int32_t beam, absl::Span<const float> log_probs, absl::Span<const float> raw_log_probs,
             std::shared_ptr<const std::vector<float>> source_weights = nullptr);

  // Whether every live beam was scored.
  bool is_scored() const;

  // Takes the next step; every live beam was scored. INTERNAL if nothing can follow, and nothing is
  // complete.
  absl::Status Advance();

  bool is_done() const { return num_live_ == 0; }

  // The best that are complete, by falling score: at most num_beams of them.
  absl::Span<const Hypothesis> hypotheses() const { return hypotheses_; }

  // The tokens with which every hypothesis begins that can still be the best: those of before, and
  // perhaps more. In the end, all of the best hypothesis. Valid until the next Advance.
  absl::Span<const ScoredToken> stable_prefix() const;

 private:
  struct Candidate {
    float score = 0;
    int32_t beam = 0;
    ScoredToken token;
  };
  static bool IsBetter(const Candidate& a, const Candidate& b);

  bool Ends(const Candidate& candidate) const;
  float LengthPenalty(int64_t length) const;
  void Complete(const Candidate& candidate);
  bool CanImprove() const;
  const std::vector<ScoredToken>& BestTokens() const;
  void UpdateStable();

  const BeamSearchOptions options_;
  const size_t num_candidates_;  // so many that num_beams of them do not end
  int64_t length_ = 0;           // of every live beam
  // As many as there may be, so that a step needs no memory of its own.
  size_t num_live_ = 1;
  std::vector<Beam> live_;
  std::vector<Beam> next_;                          // of Advance
  std::vector<std::vector<Candidate>> candidates_;  // of each live beam, the best ones in no order
  std::vector<Candidate> ranked_;                   // of Advance
  std::vector<char> was_scored_;                    // no vector<bool>: threads write neighbours
  std::vector<Hypothesis> hypotheses_;
  int64_t num_stable_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SAMPLER_BEAM_SEARCH_H_
