#include "engine/sampler/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/log/check.h"
#include "engine/kernels/softmax.h"

namespace attendant::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t CommonPrefix(absl::Span<const ScoredToken> a, absl::Span<const ScoredToken> b,
                     int64_t known) {
  const auto end = static_cast<int64_t>(std::min(a.size(), b.size()));
  int64_t length = std::min(known, end);
  while (length < end && a[length].id == b[length].id) ++length;
  return length;
}

}  // namespace

BeamSearch::BeamSearch(BeamSearchOptions options)
    : options_(std::move(options)),
      num_candidates_(std::max<size_t>(2, options_.end_tokens.size() + 1) *
                      options_.params.num_beams),
      live_(options_.params.num_beams),
      next_(options_.params.num_beams),
      candidates_(options_.params.num_beams),
      was_scored_(options_.params.num_beams, false) {
  CHECK_GE(options_.params.num_beams, 1);
  CHECK_GE(options_.max_new_tokens, 1);
  for (Beam& beam : live_) beam.tokens.reserve(options_.max_new_tokens);
  for (Beam& beam : next_) beam.tokens.reserve(options_.max_new_tokens);
  for (auto& of_beam : candidates_) of_beam.reserve(num_candidates_);
  ranked_.reserve(num_candidates_ * candidates_.size());
}

bool BeamSearch::IsBetter(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score
                            : std::tie(a.beam, a.token.id) < std::tie(b.beam, b.token.id);
}

void BeamSearch::Score(int32_t beam, absl::Span<const float> log_probs,
                       absl::Span<const float> raw_log_probs,
                       std::shared_ptr<const std::vector<float>> source_weights) {
  // A heap whose front is the worst that is kept.
  std::vector<Candidate>& best = candidates_[beam];
  best.clear();
  const float beam_score = live_[beam].score;
  for (size_t id = 0;; ++id) {
    const float worst = best.size() == num_candidates_ ? best.front().score : -kInfinity;
    id += FindSumAbove(log_probs.subspan(id), beam_score, worst);
    if (id == log_probs.size()) break;
    if (best.size() == num_candidates_) {
      absl::c_pop_heap(best, IsBetter);
      best.pop_back();
    }
    best.push_back({beam_score + log_probs[id],
                    beam,
                    {static_cast<int32_t>(id), raw_log_probs[id], source_weights}});
    absl::c_push_heap(best, IsBetter);
  }
  was_scored_[beam] = true;
}

bool BeamSearch::is_scored() const {
  return std::all_of(was_scored_.begin(), was_scored_.begin() + static_cast<ptrdiff_t>(num_live_),
                     [](char was_scored) { return was_scored != 0; });
}

absl::Status BeamSearch::Advance() {
  CHECK(is_scored() && !is_done());
  ranked_.clear();
  for (auto& of_beam : candidates_) {
    ranked_.insert(ranked_.end(), of_beam.begin(), of_beam.end());
    of_beam.clear();
  }
  absl::c_sort(ranked_, IsBetter);
  if (ranked_.size() > num_candidates_) ranked_.resize(num_candidates_);

  // What ends below the first num_beams is dropped: the candidates behind those are there so that
  // enough beams go on.
  const auto num_beams = static_cast<size_t>(options_.params.num_beams);
  size_t num_next = 0;
  for (size_t rank = 0; rank < ranked_.size(); ++rank) {
    const Candidate& candidate = ranked_[rank];
    if (Ends(candidate)) {
      if (rank < num_beams) Complete(candidate);
    } else if (num_next < num_beams) {
      Beam& beam = next_[num_next++];
      beam.parent = candidate.beam;
      beam.score = candidate.score;
      beam.tokens = live_[candidate.beam].tokens;
      beam.tokens.push_back(candidate.token);
    }
  }
  if (num_next == 0 && hypotheses_.empty())
    return absl::InternalError("what is banned or forced leaves no token to choose");
  live_.swap(next_);
  num_live_ = num_next;
  ++length_;
  if (!CanImprove()) num_live_ = 0;
  was_scored_.assign(was_scored_.size(), false);
  UpdateStable();
  return absl::OkStatus();
}

bool BeamSearch::Ends(const Candidate& candidate) const {
  return length_ + 1 == options_.max_new_tokens ||
         absl::c_linear_search(options_.end_tokens, candidate.token.id);
}

// In f64, and then rounded, as the reference divides its sums.
float BeamSearch::LengthPenalty(int64_t length) const {
  return static_cast<float>(
      std::pow(static_cast<double>(length), double{options_.params.length_penalty}));
}

void BeamSearch::Complete(const Candidate& candidate) {
  Hypothesis hypothesis{live_[candidate.beam].tokens, candidate.score / LengthPenalty(length_ + 1),
                        absl::c_linear_search(options_.end_tokens, candidate.token.id)};
  hypothesis.tokens.push_back(candidate.token);
  const auto place = absl::c_upper_bound(
      hypotheses_, hypothesis,
      [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
  hypotheses_.insert(place, std::move(hypothesis));
  if (hypotheses_.size() > static_cast<size_t>(options_.params.num_beams)) hypotheses_.pop_back();
}

// Whether the search goes on.
bool BeamSearch::CanImprove() const {
  if (is_done()) return false;
  if (hypotheses_.size() < static_cast<size_t>(options_.params.num_beams)) return true;
  if (options_.params.early_stopping == EarlyStopping::kTrue) return false;
  const bool at_best_length =
      options_.params.early_stopping == EarlyStopping::kNever && options_.params.length_penalty > 0;
  const int64_t length = at_best_length ? options_.max_new_tokens : length_;
  return live_.front().score / LengthPenalty(length) > hypotheses_.back().score;
}

const std::vector<ScoredToken>& BeamSearch::BestTokens() const {
  return hypotheses_.empty() ? live_.front().tokens : hypotheses_.front().tokens;
}

absl::Span<const ScoredToken> BeamSearch::stable_prefix() const {
  return absl::MakeConstSpan(BestTokens()).first(num_stable_);
}

// What is complete and not the best will never be it.
void BeamSearch::UpdateStable() {
  const std::vector<ScoredToken>& first = BestTokens();
  auto num_stable = static_cast<int64_t>(first.size());
  for (const Beam& beam : live())
    num_stable = std::min(num_stable, CommonPrefix(first, beam.tokens, num_stable_));
  num_stable_ = num_stable;
}

}  // namespace attendant::engine
