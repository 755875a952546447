#include "engine/sampler/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Candidate> Candidates(const std::vector<float>& logits, float temperature = 1) {
  std::vector<Candidate> candidates;
  MakeCandidates(logits, temperature, candidates);
  return candidates;
}

std::set<int32_t> Ids(const std::vector<Candidate>& candidates) {
  std::set<int32_t> ids;
  for (const Candidate& c : candidates) ids.insert(c.id);
  return ids;
}

std::vector<float> RandomLogits(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

TEST(RepetitionPenaltyTest, DividesPositiveAndMultipliesNegativeLogitsOnce) {
  ProcessorScratch scratch;
  std::vector<float> logits = {2, -2, 2, 0};
  ApplyRepetitionPenalty(absl::MakeSpan(logits), {1, 0, 1, 3, 1}, 2.0f, scratch);
  EXPECT_THAT(logits, ElementsAre(1, -4, 2, 0));
}

TEST(RepetitionPenaltyTest, AnExtremePenaltyStaysFinite) {
  ProcessorScratch scratch;
  std::vector<float> logits = {2, -2};
  ApplyRepetitionPenalty(absl::MakeSpan(logits), {0, 1}, 1e-45f, scratch);
  EXPECT_EQ(logits[0], std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(logits[1]));
}

TEST(PresenceAndFrequencyPenaltyTest, CountOnceAndEachTime) {
  ProcessorScratch scratch;
  std::vector<float> logits = {1, 1, 1};
  ApplyPresenceAndFrequencyPenalty(absl::MakeSpan(logits), {2, 0, 2, 2, 2}, 0.5f, 0.25f, scratch);
  EXPECT_THAT(logits, ElementsAre(0.25f, 1, -0.5f));
}

TEST(LogitBiasTest, Adds) {
  std::vector<float> logits = {1, 2, 3};
  ApplyLogitBias(absl::MakeSpan(logits), {{0, 10.0f}, {2, -100.0f}});
  EXPECT_THAT(logits, ElementsAre(11, 2, -97));
}

// The tokens that BanRepeatedNgrams bans, of ten.
std::set<int32_t> Banned(const std::vector<int32_t>& tokens, int32_t ngram_size) {
  ProcessorScratch scratch;
  std::vector<float> logits(10, 0);
  BanRepeatedNgrams(absl::MakeSpan(logits), tokens, ngram_size, scratch);
  std::set<int32_t> banned;
  for (int32_t id = 0; id < 10; ++id) {
    if (logits[id] == -kInfinity) banned.insert(id);
  }
  return banned;
}

TEST(BanRepeatedNgramsTest, BansWhatFollowedTheLastTokensBefore) {
  EXPECT_THAT(Banned({1, 2, 3, 1, 2}, 3), ElementsAre(3));
  EXPECT_THAT(Banned({1, 2, 3, 1, 2, 4, 1, 2}, 3), ElementsAre(3, 4));
  EXPECT_THAT(Banned({1, 2, 3, 1, 2}, 2), ElementsAre(3));
  EXPECT_THAT(Banned({1, 2, 3, 1, 2}, 1), ElementsAre(1, 2, 3));
  EXPECT_THAT(Banned({1, 2, 3, 1, 2}, 4), IsEmpty());
  EXPECT_THAT(Banned({5, 5, 5}, 3), ElementsAre(5)) << "n-grams may overlap";
  EXPECT_THAT(Banned({5, 5}, 3), IsEmpty());
  EXPECT_THAT(Banned({}, 1), IsEmpty());
  EXPECT_THAT(Banned({1, 2}, std::numeric_limits<int32_t>::max()), IsEmpty());
}

TEST(BanRepeatedNgramsTest, IsItsPlainLoop) {
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> tokens(random() % 30);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
    const size_t ngram_size = 1 + random() % 8;
    std::set<int32_t> expected;
    for (size_t begin = 0; begin + ngram_size <= tokens.size(); ++begin) {
      const auto ngram = tokens.begin() + static_cast<ptrdiff_t>(begin);
      if (std::equal(ngram, ngram + static_cast<ptrdiff_t>(ngram_size - 1),
                     tokens.end() - static_cast<ptrdiff_t>(ngram_size - 1))) {
        expected.insert(ngram[static_cast<ptrdiff_t>(ngram_size - 1)]);
      }
    }
    EXPECT_EQ(Banned(tokens, static_cast<int32_t>(ngram_size)), expected);
  }
}

// A text of one token is the worst for whoever compares every place anew: 10^10 comparisons.
TEST(BanRepeatedNgramsTest, ALongNgramOfALongTextTakesLinearTime) {
  const std::vector<int32_t> tokens(200'000, 7);
  EXPECT_THAT(Banned(tokens, 100'000), ElementsAre(7));
}

TEST(BanWordsTest, BansTheLastTokenBehindTheOthers) {
  const std::vector<std::vector<int32_t>> words = {{4}, {1, 2}, {1, 1, 3}};
  std::vector<float> logits(5, 0);
  BanWords(absl::MakeSpan(logits), {0, 0, 1}, words);
  EXPECT_THAT(logits, ElementsAre(0, 0, -kInfinity, 0, -kInfinity));
  logits.assign(5, 0);
  BanWords(absl::MakeSpan(logits), {0, 1, 1}, words);
  EXPECT_THAT(logits, ElementsAre(0, 0, -kInfinity, -kInfinity, -kInfinity));
}

TEST(LogitsProcessorsTest, KnowsWhenItDoesNothing) {
  ProcessorScratch scratch;
  const LogitsProcessors processors({.constraints = {.begin_suppress_tokens = {1},
                                                     .forced_bos_token_id = 2,
                                                     .forced_eos_token_ids = {3}},
                                     .end_tokens = {3},
                                     .min_new_tokens = 3,
                                     .max_new_tokens = 6,
                                     .prompt_tokens = 1});
  std::vector<int32_t> tokens;
  for (int i = 0; i < 6; ++i) {
    tokens.push_back(0);
    std::vector<float> logits(5, 1);
    processors.Apply(tokens, absl::MakeSpan(logits), scratch);
    EXPECT_EQ(processors.Applies(tokens), logits != std::vector<float>(5, 1)) << i;
    EXPECT_EQ(processors.Applies(tokens), i < 3 || i == 5) << i;
  }
}

TEST(MakeCandidatesTest, DividesByTheTemperatureAndDropsTheImpossible) {
  const auto candidates = Candidates({1, -kInfinity, 3}, 0.5f);
  ASSERT_EQ(candidates.size(), 2);
  EXPECT_EQ(candidates[0].score, -4);
  EXPECT_EQ(candidates[1].score, 0);
}

TEST(MakeCandidatesTest, ATemperatureNearZeroLeavesTheLargest) {
  EXPECT_THAT(Ids(Candidates({1, 3, 3, 2}, 1e-45f)), ElementsAre(1, 2));
}

TEST(KeepTopKTest, KeepsTheLargestAndTheTiesOfTheLeast) {
  auto candidates = Candidates({1, 5, 3, 3, 4, 3});
  KeepTopK(candidates, 3);
  EXPECT_THAT(Ids(candidates), ElementsAre(1, 2, 3, 4, 5))
      << "as the reference, which masks what is less than the k-th";
  KeepTopK(candidates, 1);
  EXPECT_THAT(Ids(candidates), ElementsAre(1));
  KeepTopK(candidates, 100);
  EXPECT_THAT(Ids(candidates), ElementsAre(1));
}

TEST(KeepTopPTest, KeepsTheSmallestSetThatReachesP) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f),
                                     std::log(0.25f)};
  for (const auto& [p, expected] :
       std::vector<std::pair<float, std::set<int32_t>>>{{0.01f, {1}},
                                                        {0.49f, {1}},
                                                        {0.6f, {1, 3}},
                                                        {0.8f, {1, 2, 3}},
                                                        {0.95f, {0, 1, 2, 3}},
                                                        {1.0f, {0, 1, 2, 3}}}) {
    auto candidates = Candidates(logits);
    KeepTopP(candidates, p);
    EXPECT_EQ(Ids(candidates), expected) << p;
  }
}

TEST(KeepTopPTest, OfEqualTokensKeepsTheLowerIds) {
  auto candidates = Candidates(std::vector<float>(10, 1.0f));
  KeepTopP(candidates, 0.25f);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1, 2));
}

// Large enough for the sort to go on several times.
TEST(KeepTopPTest, EqualsItsPlainDefinitionOnALargeVocabulary) {
  const std::vector<float> logits = RandomLogits(20000, 1);
  for (const float p : {0.001f, 0.3f, 0.7f, 0.99f, 0.99999f}) {
    auto candidates = Candidates(logits);
    std::vector<Candidate> sorted = candidates;
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return a.score > b.score; });
    double total = 0, sum = 0;
    for (const Candidate& c : sorted) total += std::exp(static_cast<double>(c.score));
    std::set<int32_t> expected;
    for (const Candidate& c : sorted) {
      if (sum >= p * total) break;
      sum += std::exp(static_cast<double>(c.score));
      expected.insert(c.id);
    }
    KeepTopP(candidates, p);
    // The two sum in different orders, so the last token may differ.
    const auto kept = Ids(candidates);
    EXPECT_NEAR(kept.size(), expected.size(), 1) << p;
    EXPECT_TRUE(std::includes(kept.begin(), kept.end(), expected.begin(), expected.end()) ||
                std::includes(expected.begin(), expected.end(), kept.begin(), kept.end()));
  }
}

TEST(KeepMinPTest, KeepsWhatIsProbableEnough) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f),
                                     std::log(0.25f)};
  for (const auto& [min_p, expected] :
       std::vector<std::pair<float, std::set<int32_t>>>{{0.0f, {0, 1, 2, 3}},
                                                        {0.19f, {0, 1, 2, 3}},
                                                        {0.25f, {1, 2, 3}},
                                                        {0.4f, {1, 3}},
                                                        {1.0f, {1}}}) {
    auto candidates = Candidates(logits);
    KeepMinP(candidates, min_p);
    EXPECT_EQ(Ids(candidates), expected) << min_p;
  }
}

TEST(DrawCandidateTest, FollowsTheCumulativeDistribution) {
  const std::vector<float> logits = {std::log(0.25f), std::log(0.5f), -kInfinity, std::log(0.25f)};
  for (const auto& [uniform, expected] : std::vector<std::pair<double, int32_t>>{
           {0.0, 0}, {0.2499, 0}, {0.2501, 1}, {0.7499, 1}, {0.7501, 3}, {1 - 0x1p-53, 3}}) {
    auto candidates = Candidates(logits);
    EXPECT_EQ(DrawCandidate(candidates, uniform), expected) << uniform;
  }
}

TEST(DrawCandidateTest, DoesNotDependOnTheOrderThatTheFiltersLeft) {
  const std::vector<float> logits = RandomLogits(500, 2);
  auto candidates = Candidates(logits);
  auto reversed = candidates;
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(DrawCandidate(candidates, 0.37), DrawCandidate(reversed, 0.37));
}

}  // namespace
}  // namespace attendant::engine
