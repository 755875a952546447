#include "engine/sampler/sampler.h"

#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SamplingParams Greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

// A sequence that grows by what is drawn.
class Sequence {
 public:
  explicit Sequence(const SamplingParams& params, std::vector<int32_t> prompt = {},
                    std::vector<int32_t> end_tokens = {}, int32_t min_new_tokens = 0)
      : processors_({.sampling = params,
                     .end_tokens = std::move(end_tokens),
                     .min_new_tokens = min_new_tokens,
                     .max_new_tokens = 1000,
                     .prompt_tokens = static_cast<int64_t>(prompt.size())}),
        tokens_(std::move(prompt)),
        sampler_(processors_, params.seed) {}

  absl::StatusOr<SampledToken> Sample(std::vector<float> logits, std::optional<int32_t> num_top) {
    return sampler_.Sample(tokens_, absl::MakeSpan(logits), num_top);
  }

  void Add(int32_t token) { tokens_.push_back(token); }

  int32_t Draw(std::vector<float> logits) {
    const auto token = Sample(std::move(logits), std::nullopt);
    EXPECT_OK(token);
    Add(token.ok() ? token->id : -1);
    return tokens_.back();
  }

 private:
  const LogitsProcessors processors_;
  std::vector<int32_t> tokens_;
  Sampler sampler_;
};

TEST(SamplerTest, GreedyTakesTheLargestAndTheFirstOfEquals) {
  Sequence sequence(Greedy());
  EXPECT_EQ(sequence.Draw({1, 3, 2}), 1);
  EXPECT_EQ(sequence.Draw({-kInfinity, 2, 2}), 1);
}

TEST(SamplerTest, DrawsTheSameWithAndWithoutLogprobs) {
  SamplingParams params;
  params.repetition_penalty = 1.5f;
  params.seed = 7;
  Sequence with(params), without(params);
  for (int i = 0; i < 50; ++i) {
    std::vector<float> logits;
    for (int id = 0; id < 20; ++id) logits.push_back(std::sin(static_cast<float>(id * (i + 1))));
    ASSERT_OK_AND_ASSIGN(const SampledToken token, with.Sample(logits, 1));
    with.Add(token.id);
    EXPECT_EQ(without.Draw(logits), token.id);
    EXPECT_LT(token.logprob, 0);
  }
}

TEST(SamplerTest, LogprobsAreOfTheRawLogits) {
  SamplingParams params = Greedy();
  params.logit_bias = {{0, 100.0f}};
  params.repetition_penalty = 3;
  Sequence sequence(params, {1}, {2}, 1);
  std::vector<float> logits = {std::log(0.2f), std::log(0.3f), std::log(0.5f)};
  ASSERT_OK_AND_ASSIGN(const SampledToken token, sequence.Sample(logits, 5));
  EXPECT_EQ(token.id, 0);
  EXPECT_NEAR(token.logprob, std::log(0.2), 1e-6);
  ASSERT_EQ(token.top.size(), 3) << "no more than the vocabulary has";
  EXPECT_EQ(token.top[0].id, 2);
  EXPECT_NEAR(token.top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(token.top[1].id, 1);
  EXPECT_EQ(token.top[2].id, 0);
}

TEST(SamplerTest, PenaltiesSeeThePromptAndTheOutputAsDefined) {
  {
    SamplingParams params = Greedy();
    params.repetition_penalty = 2;
    Sequence sequence(params, {0});
    EXPECT_EQ(sequence.Draw({3, 2, 1}), 1) << "the prompt's token is halved";
    EXPECT_EQ(sequence.Draw({3, 2, 1.6f}), 2) << "and now that of the output";
  }
  {
    SamplingParams params = Greedy();
    params.frequency_penalty = 1;
    Sequence sequence(params, {0});
    EXPECT_EQ(sequence.Draw({3, 2, 0}), 0) << "the prompt does not count";
    EXPECT_EQ(sequence.Draw({3.5f, 2, 0}), 0);
    EXPECT_EQ(sequence.Draw({3.5f, 2, 0}), 1) << "twice in the output";
  }
  {
    SamplingParams params = Greedy();
    params.presence_penalty = -2;
    Sequence sequence(params);
    EXPECT_EQ(sequence.Draw({0, 1, 0}), 1);
    EXPECT_EQ(sequence.Draw({2, 1, 0}), 1) << "a negative penalty favours";
  }
}

TEST(SamplerTest, EndTokensAreMaskedUntilMinNewTokens) {
  Sequence sequence(Greedy(), {}, {1, 2}, 2);
  EXPECT_EQ(sequence.Draw({1, 3, 2}), 0);
  EXPECT_EQ(sequence.Draw({1, 3, 2}), 0);
  EXPECT_EQ(sequence.Draw({1, 3, 2}), 1);
}

TEST(SamplerTest, ASeedGivesTheSameTokensWhateverElseWasDrawn) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> steps(50, std::vector<float>(1000));
  for (auto& step : steps) {
    for (float& logit : step) logit = normal(random);
  }
  SamplingParams params;
  params.seed = 11;
  SamplingParams other_params;
  other_params.seed = 12;
  Sequence alone(params), among_others(params), other(other_params);
  int num_equal_to_other = 0;
  for (const auto& step : steps) {
    const int32_t token = alone.Draw(step);
    num_equal_to_other += other.Draw(step) == token;
    EXPECT_EQ(among_others.Draw(step), token);
  }
  EXPECT_LT(num_equal_to_other, 5);
}

// 20,000 seeds: the share of each token is within five standard deviations of its probability.
TEST(SamplerTest, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, 3, -kInfinity};
  for (const float temperature : {0.7f, 1.0f, 2.0f}) {
    double total = 0;
    for (const float logit : logits) total += std::exp(logit / temperature);
    int counts[5] = {};
    constexpr int kDraws = 20000;
    for (int seed = 0; seed < kDraws; ++seed) {
      SamplingParams params;
      params.temperature = temperature;
      params.seed = seed;
      Sequence sequence(params);
      ++counts[sequence.Draw(logits)];
    }
    EXPECT_EQ(counts[4], 0);
    for (int id = 0; id < 4; ++id) {
      const double probability = std::exp(logits[id] / temperature) / total;
      EXPECT_NEAR(counts[id], kDraws * probability,
                  5 * std::sqrt(kDraws * probability * (1 - probability)))
          << "token " << id << " at temperature " << temperature;
    }
  }
}

// The order matters: top_k = 2 leaves {0.5, 0.3}, of which top_p = 0.6 keeps 0.625 alone.
TEST(SamplerTest, TopKComesBeforeTopP) {
  SamplingParams params;
  params.top_k = 2;
  params.top_p = 0.6f;
  for (int seed = 0; seed < 200; ++seed) {
    params.seed = seed;
    Sequence sequence(params);
    EXPECT_EQ(sequence.Draw({std::log(0.3f), std::log(0.5f), std::log(0.2f)}), 1);
  }
}

// At temperature 10 the tokens are nearly equal, so that min_p, which comes after, keeps both.
TEST(SamplerTest, TemperatureComesBeforeMinP) {
  SamplingParams params;
  params.temperature = 10;
  params.min_p = 0.5f;
  int counts[2] = {};
  for (int seed = 0; seed < 200; ++seed) {
    params.seed = seed;
    Sequence sequence(params);
    ++counts[sequence.Draw({0, 2})];
  }
  EXPECT_GT(counts[0], 50);
  EXPECT_GT(counts[1], 50);
}

TEST(SamplerTest, LogitsThatAreNoNumbersAreAnError) {
  for (const SamplingParams& params : {Greedy(), SamplingParams()}) {
    for (const std::optional<int32_t> num_top : {std::optional(3), std::optional<int32_t>()}) {
      for (const std::vector<float>& logits :
           {std::vector<float>{1, kNan, 2}, {kNan, 1, 2}, {kNan, kNan, kNan}}) {
        Sequence sequence(params);
        EXPECT_THAT(sequence.Sample(logits, num_top),
                    StatusIs(absl::StatusCode::kInternal, HasSubstr("nan")));
      }
      std::vector<float> infinite = {1, kInfinity, 2};
      Sequence sequence(params);
      EXPECT_THAT(sequence.Sample(infinite, num_top),
                  StatusIs(absl::StatusCode::kInternal, HasSubstr("token 1 is inf")));
      std::vector<float> impossible = {-kInfinity, -kInfinity};
      EXPECT_THAT(sequence.Sample(impossible, num_top), StatusIs(absl::StatusCode::kInternal));
    }
  }
}

TEST(SamplerTest, MaskingEveryTokenIsAnError) {
  Sequence sequence(Greedy(), {}, {0, 1}, 1);
  std::vector<float> logits = {1, 2};
  EXPECT_THAT(sequence.Sample(logits, 0),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("leaves no token")));
}

TEST(ScoreTokenTest, GivesTheLogprobOfAnyToken) {
  const std::vector<float> logits = {std::log(0.2f), std::log(0.3f), std::log(0.5f)};
  ASSERT_OK_AND_ASSIGN(const SampledToken token, ScoreToken(logits, 1, 1));
  EXPECT_EQ(token.id, 1);
  EXPECT_NEAR(token.logprob, std::log(0.3), 1e-6);
  ASSERT_EQ(token.top.size(), 1);
  EXPECT_EQ(token.top[0].id, 2);
}

}  // namespace
}  // namespace attendant::engine
