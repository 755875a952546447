#include "engine/sampler/beam_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "engine/kernels/softmax.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> Ids(absl::Span<const ScoredToken> tokens) {
  std::vector<int32_t> ids;
  for (const ScoredToken& token : tokens) ids.push_back(token.id);
  return ids;
}

// The log probabilities of what follows some tokens.
using Model = std::function<std::vector<float>(const std::vector<int32_t>& tokens)>;

void ScoreAll(BeamSearch& search, const Model& model) {
  for (size_t beam = 0; beam < search.live().size(); ++beam) {
    const std::vector<float> row = model(Ids(search.live()[beam].tokens));
    search.Score(static_cast<int32_t>(beam), row, row);
  }
}

void RunToTheEnd(BeamSearch& search, const Model& model) {
  while (!search.is_done()) {
    ScoreAll(search, model);
    ASSERT_OK(search.Advance());
  }
}

// Another distribution behind every beginning.
Model RandomModel(uint32_t seed, int vocab_size) {
  return [seed, vocab_size](const std::vector<int32_t>& tokens) {
    uint32_t mixed = seed;
    for (const int32_t token : tokens) mixed = mixed * 1664525u + 1013904223u + token;
    std::mt19937 random(mixed);
    std::normal_distribution<float> normal(0, 1.5f);
    std::vector<float> row(vocab_size);
    for (float& logit : row) logit = normal(random);
    const float normalizer = LogSumExp(row);
    for (float& logit : row) logit -= normalizer;
    return row;
  };
}

TEST(BeamSearchTest, KeepsTheMostProbableBeginnings) {
  BeamSearch search({.params = {.num_beams = 2}, .end_tokens = {3}, .max_new_tokens = 5});
  ASSERT_THAT(search.live(), SizeIs(1));
  search.Score(0, {-1, -2, -3, -9}, {0, 0, 0, 0});
  ASSERT_OK(search.Advance());
  ASSERT_THAT(search.live(), SizeIs(2));
  EXPECT_THAT(Ids(search.live()[0].tokens), ElementsAre(0));
  EXPECT_THAT(Ids(search.live()[1].tokens), ElementsAre(1));
  // Both best continuations are those of the second beam.
  search.Score(0, {-9, -9, -9, -9}, {0, 0, 0, 0});
  EXPECT_FALSE(search.is_scored());
  search.Score(1, {-2, -9, -1, -9}, {0, 0, 0, 0});
  EXPECT_TRUE(search.is_scored());
  ASSERT_OK(search.Advance());
  EXPECT_EQ(search.live()[0].parent, 1);
  EXPECT_THAT(Ids(search.live()[0].tokens), ElementsAre(1, 2));
  EXPECT_EQ(search.live()[0].score, -3);
  EXPECT_THAT(Ids(search.live()[1].tokens), ElementsAre(1, 0));
  EXPECT_THAT(Ids(search.stable_prefix()), ElementsAre(1)) << "whatever wins begins with it";
}

TEST(BeamSearchTest, WhatEndsBelowTheFirstNumBeamsIsDropped) {
  BeamSearch search({.params = {.num_beams = 2}, .end_tokens = {3}, .max_new_tokens = 5});
  search.Score(0, {-1, -2, -4, -3}, {0, 0, 0, 0});
  ASSERT_OK(search.Advance());
  EXPECT_THAT(search.hypotheses(), IsEmpty());
  search.Score(0, {-1, -9, -9, -0.5f}, {0, 0, 0, 0});
  search.Score(1, {-1, -9, -9, -9}, {0, 0, 0, 0});
  ASSERT_OK(search.Advance());
  ASSERT_THAT(search.hypotheses(), SizeIs(1));
  EXPECT_THAT(Ids(search.hypotheses()[0].tokens), ElementsAre(0, 3));
  EXPECT_EQ(search.hypotheses()[0].score, -0.75f);
  EXPECT_TRUE(search.hypotheses()[0].is_ended);
}

TEST(BeamSearchTest, TokensHaveTheModelsOwnLogProbabilities) {
  BeamSearch search({.params = {.num_beams = 2}, .max_new_tokens = 1});
  search.Score(0, {-1.5f, -kInfinity, -2.5f}, {-1, -9, -2});
  ASSERT_OK(search.Advance());
  ASSERT_THAT(search.hypotheses(), SizeIs(2));
  EXPECT_EQ(search.hypotheses()[0].tokens[0].logprob, -1);
  EXPECT_EQ(search.hypotheses()[1].tokens[0].logprob, -2);
  EXPECT_FALSE(search.hypotheses()[0].is_ended);
}

TEST(BeamSearchTest, OfEqualsTheEarlierBeamAndTheLowerTokenCome) {
  BeamSearch search({.params = {.num_beams = 2}, .max_new_tokens = 2});
  const std::vector<float> row(4, -1);
  search.Score(0, row, row);
  ASSERT_OK(search.Advance());
  EXPECT_THAT(Ids(search.live()[0].tokens), ElementsAre(0));
  EXPECT_THAT(Ids(search.live()[1].tokens), ElementsAre(1));
  search.Score(0, row, row);
  search.Score(1, row, row);
  ASSERT_OK(search.Advance());
  EXPECT_THAT(Ids(search.hypotheses()[0].tokens), ElementsAre(0, 0));
  EXPECT_THAT(Ids(search.hypotheses()[1].tokens), ElementsAre(0, 1));
}

TEST(BeamSearchTest, OfALargeVocabularyTheBestAreKept) {
  constexpr int kVocabSize = 1000;
  constexpr int kBeams = 4;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    BeamSearch search({.params = {.num_beams = kBeams}, .max_new_tokens = 2});
    std::vector<float> row = RandomModel(seed, kVocabSize)({});
    // Of few values, so that many are equal; and some are impossible.
    for (float& value : row) value = std::round(value);
    for (size_t id = seed; id < row.size(); id += 3) row[id] = -kInfinity;
    std::vector<int32_t> order(kVocabSize);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    search.Score(0, row, row);
    ASSERT_OK(search.Advance());
    ASSERT_THAT(search.live(), SizeIs(kBeams));
    for (int beam = 0; beam < kBeams; ++beam) {
      EXPECT_THAT(Ids(search.live()[beam].tokens), ElementsAre(order[beam])) << "seed " << seed;
      EXPECT_EQ(search.live()[beam].score, row[order[beam]]);
    }
  }
}

TEST(BeamSearchTest, TheLastScoreOfABeamCounts) {
  BeamSearch search({.params = {.num_beams = 2}, .max_new_tokens = 3});
  search.Score(0, {-1, -2, -3}, {0, 0, 0});
  search.Score(0, {-3, -2, -1}, {0, 0, 0});
  ASSERT_OK(search.Advance());
  EXPECT_THAT(Ids(search.live()[0].tokens), ElementsAre(2));
  EXPECT_THAT(Ids(search.live()[1].tokens), ElementsAre(1));
}

// As after a forced first token: one beam goes on alone until there is a choice again.
TEST(BeamSearchTest, TheImpossibleIsNoBeam) {
  BeamSearch search({.params = {.num_beams = 3}, .end_tokens = {0}, .max_new_tokens = 4});
  search.Score(0, {-kInfinity, 0, -kInfinity}, {0, 0, 0});
  ASSERT_OK(search.Advance());
  EXPECT_THAT(search.live(), SizeIs(1));
  search.Score(0, {0, -kInfinity, -kInfinity}, {0, 0, 0});
  ASSERT_OK(search.Advance());
  EXPECT_TRUE(search.is_done());
  EXPECT_THAT(search.hypotheses(), SizeIs(1)) << "there is no other";
}

TEST(BeamSearchTest, IfNothingCanFollowItIsAnError) {
  BeamSearch search({.params = {.num_beams = 2}, .max_new_tokens = 4});
  search.Score(0, {-kInfinity, -kInfinity}, {0, 0});
  EXPECT_THAT(search.Advance(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("leaves no token")));
}

// With a beam for every text the search is exhaustive: it finds the best of all texts.
TEST(BeamSearchTest, WithBeamsForAllItFindsTheBestOfAll) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    for (const float length_penalty : {0.0f, 1.0f, 2.0f}) {
      const Model model = RandomModel(seed, 3);
      constexpr int kLength = 4;
      std::vector<std::pair<float, std::vector<int32_t>>> all;
      std::function<void(std::vector<int32_t>, double)> extend = [&](std::vector<int32_t> tokens,
                                                                     double sum) {
        const std::vector<float> row = model(tokens);
        for (int32_t id = 0; id < 3; ++id) {
          std::vector<int32_t> longer = tokens;
          longer.push_back(id);
          const double total = sum + row[id];
          if (id == 2 || longer.size() == kLength) {
            all.emplace_back(total / std::pow(longer.size(), length_penalty), longer);
          } else {
            extend(longer, total);
          }
        }
      };
      extend({}, 0);
      std::sort(all.rbegin(), all.rend());
      BeamSearch search({.params = {.num_beams = static_cast<int32_t>(all.size()),
                                    .length_penalty = length_penalty,
                                    .early_stopping = EarlyStopping::kNever},
                         .end_tokens = {2},
                         .max_new_tokens = kLength});
      RunToTheEnd(search, model);
      ASSERT_EQ(search.hypotheses().size(), all.size());
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(Ids(search.hypotheses()[i].tokens), all[i].second);
        EXPECT_NEAR(search.hypotheses()[i].score, all[i].first, 1e-5);
      }
    }
  }
}

// What a stream may send: it only grows, and is how the best hypothesis begins in the end.
TEST(BeamSearchTest, TheStablePrefixIsThatOfTheWinner) {
  int64_t num_early = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const Model model = RandomModel(seed, 12);
    BeamSearch search({.params = {.num_beams = 1 + static_cast<int32_t>(random() % 4),
                                  .length_penalty = static_cast<float>(random() % 5) - 1,
                                  .early_stopping = static_cast<EarlyStopping>(random() % 3)},
                       .end_tokens = {10, 11},
                       .max_new_tokens = 20});
    std::vector<std::vector<int32_t>> prefixes;
    while (!search.is_done()) {
      ScoreAll(search, model);
      ASSERT_OK(search.Advance());
      prefixes.push_back(Ids(search.stable_prefix()));
    }
    const std::vector<int32_t> best = Ids(search.hypotheses()[0].tokens);
    EXPECT_EQ(prefixes.back(), best);
    for (size_t i = 0; i < prefixes.size(); ++i) {
      ASSERT_LE(prefixes[i].size(), best.size());
      EXPECT_TRUE(std::equal(prefixes[i].begin(), prefixes[i].end(), best.begin()));
      if (i > 0) {
        EXPECT_GE(prefixes[i].size(), prefixes[i - 1].size());
      }
      if (i + 1 < prefixes.size()) num_early += !prefixes[i].empty();
    }
  }
  EXPECT_GT(num_early, 300) << "something is stable before the end";
}

TEST(BeamSearchTest, OneBeamIsGreedy) {
  const Model model = RandomModel(1, 8);
  BeamSearch search({.params = {.num_beams = 1}, .end_tokens = {}, .max_new_tokens = 10});
  RunToTheEnd(search, model);
  std::vector<int32_t> greedy;
  while (greedy.size() < 10) greedy.push_back(ArgMax(model(greedy)));
  ASSERT_THAT(search.hypotheses(), SizeIs(1));
  EXPECT_EQ(Ids(search.hypotheses()[0].tokens), greedy);
}

}  // namespace
}  // namespace attendant::engine
