#include "client/cli/attention_problem.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

// One head, three positions, one dimension: scores q[i] * k[j] are products of small numbers.
AttentionProblem SmallProblem() {
  AttentionProblem problem;
  problem.query = {{1, 3, 1}, {0, 1, 0}};
  problem.key = {{1, 3, 1}, {0, std::log(2.0f), 0}};
  problem.value = {{1, 3, 1}, {4, 8, 16}};
  return problem;
}

TEST(AttentionProblemTest, WeighsValuesBySoftmaxOfScores) {
  ASSERT_OK_AND_ASSIGN(const AttentionAnswer answer, Solve(SmallProblem()));
  // Query 1 scores (0, log 2, 0), which is (1, 2, 1) / 4.
  EXPECT_THAT(answer.weights.values,
              Pointwise(FloatNear(1e-6f),
                        {1 / 3.f, 1 / 3.f, 1 / 3.f, .25f, .5f, .25f, 1 / 3.f, 1 / 3.f, 1 / 3.f}));
  EXPECT_THAT(answer.output.values, Pointwise(FloatNear(1e-5f), {28 / 3.f, 9.f, 28 / 3.f}));
}

TEST(AttentionProblemTest, HidesLaterKeysAndFarOnes) {
  AttentionProblem problem = SmallProblem();
  problem.causal = true;
  EXPECT_THAT(Solve(problem)->weights.values,
              Pointwise(FloatNear(1e-6f),
                        {1.f, 0.f, 0.f, 1 / 3.f, 2 / 3.f, 0.f, 1 / 3.f, 1 / 3.f, 1 / 3.f}));
  problem.sliding_window = 1;
  EXPECT_THAT(Solve(problem)->output.values, ElementsAre(4, 8, 16));
}

TEST(AttentionProblemTest, AlignsTheLastQueryWithTheLastKey) {
  AttentionProblem problem = SmallProblem();
  problem.query = {{1, 2, 1}, {0, 0}};
  problem.causal = true;
  EXPECT_THAT(Solve(problem)->weights.values,
              Pointwise(FloatNear(1e-6f), {.5f, .5f, 0.f, 1 / 3.f, 1 / 3.f, 1 / 3.f}));
}

TEST(AttentionProblemTest, GivesZeroWhereEveryKeyIsMasked) {
  AttentionProblem problem = SmallProblem();
  problem.mask = FloatTensor{{3, 1}, {0, -INFINITY, 0}};
  ASSERT_OK_AND_ASSIGN(const AttentionAnswer answer, Solve(problem));
  EXPECT_EQ(answer.output.values[1], 0);
  EXPECT_NEAR(answer.output.values[0], 28 / 3.0, 1e-5);
}

TEST(AttentionProblemTest, SharesKeyHeadsInGroups) {
  AttentionProblem problem;
  problem.query = {{4, 1, 1}, {1, 1, 1, 1}};
  problem.key = {{2, 1, 1}, {1, 1}};
  problem.value = {{2, 1, 2}, {1, 2, 3, 4}};
  EXPECT_THAT(Solve(problem)->output.values, ElementsAre(1, 2, 1, 2, 3, 4, 3, 4));
}

TEST(AttentionProblemTest, ProjectsALayerAsLinearDoes) {
  AttentionProblem problem;
  problem.query = {{1, 2}, {1, 2}};
  LayerWeights& layer = problem.layer.emplace();
  layer.num_heads = 2;
  layer.w_q = layer.w_k = FloatTensor{{2, 2}, {1, 0, 0, 1}};
  layer.w_v = {{2, 2}, {1, 1, 0, 1}};  // value = (x0 + x1, x1)
  layer.w_o = {{3, 2}, {1, 0, 0, 1, 1, 1}};
  layer.b_o = {{3}, {0, 0, 10}};
  ASSERT_OK_AND_ASSIGN(const AttentionAnswer answer, Solve(problem));
  EXPECT_THAT(answer.output.shape, ElementsAre(1, 3));
  EXPECT_THAT(answer.output.values, ElementsAre(3, 2, 15));
}

TEST(AttentionProblemTest, RefusesShapesThatDoNotGoTogether) {
  AttentionProblem problem = SmallProblem();
  problem.key.shape = {1, 1, 3};
  EXPECT_THAT(Solve(problem), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("key has the shape [1, 1, 3]")));
  problem = SmallProblem();
  problem.value.shape = {3, 1, 1};
  EXPECT_THAT(Solve(problem), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("value")));
  problem = SmallProblem();
  problem.mask = FloatTensor{{2, 3}, {0, 0, 0, 0, 0, 0}};
  EXPECT_THAT(Solve(problem), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("mask")));
}

TEST(AttentionProblemTest, RepeatsRandomTensorsOfASeed) {
  const AttentionProblem a = RandomAttention(4, 2, 3, 5, false, 7);
  EXPECT_THAT(a.query.shape, ElementsAre(4, 3, 5));
  EXPECT_THAT(a.value.shape, ElementsAre(2, 3, 5));
  EXPECT_EQ(a.query.values, RandomAttention(4, 2, 3, 5, false, 7).query.values);
  EXPECT_NE(a.query.values, RandomAttention(4, 2, 3, 5, false, 8).query.values);
  EXPECT_THAT(RandomAttention(4, 4, 3, 5, true, 7).query.shape, ElementsAre(3, 20));
}

}  // namespace
}  // namespace attendant::client
