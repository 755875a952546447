#include "engine/model/position_tables.h"

#include <cmath>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

using ::testing::ElementsAre;

// The distances from -200 to 200 at which the bucket changes, with the bucket that begins there.
std::vector<std::pair<int64_t, int32_t>> Changes(bool bidirectional) {
  std::vector<std::pair<int64_t, int32_t>> changes;
  for (int64_t distance = -200; distance <= 200; ++distance) {
    const int32_t bucket =
        RelativeBucket(distance, bidirectional, /*num_buckets=*/32, /*max_distance=*/128);
    if (changes.empty() || changes.back().second != bucket) changes.emplace_back(distance, bucket);
  }
  return changes;
}

// What transformers' T5 gives.
TEST(RelativeBucketTest, BothSidesHaveHalfOfTheBuckets) {
  const std::vector<std::pair<int64_t, int32_t>> expected = {
      {-200, 15}, {-90, 14}, {-63, 13}, {-45, 12}, {-31, 11}, {-22, 10}, {-15, 9}, {-11, 8},
      {-7, 7},    {-6, 6},   {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},  {0, 0},
      {1, 17},    {2, 18},   {3, 19},   {4, 20},   {5, 21},   {6, 22},   {7, 23},  {8, 24},
      {12, 25},   {16, 26},  {23, 27},  {32, 28},  {46, 29},  {64, 30},  {91, 31}};
  EXPECT_EQ(Changes(/*bidirectional=*/true), expected);
}

TEST(RelativeBucketTest, ADecoderHasThemAllForThePast) {
  const std::vector<std::pair<int64_t, int32_t>> expected = {
      {-200, 31}, {-112, 30}, {-98, 29}, {-86, 28}, {-76, 27}, {-66, 26}, {-58, 25}, {-51, 24},
      {-45, 23},  {-39, 22},  {-34, 21}, {-30, 20}, {-26, 19}, {-23, 18}, {-20, 17}, {-18, 16},
      {-15, 15},  {-14, 14},  {-13, 13}, {-12, 12}, {-11, 11}, {-10, 10}, {-9, 9},   {-8, 8},
      {-7, 7},    {-6, 6},    {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},   {0, 0}};
  EXPECT_EQ(Changes(/*bidirectional=*/false), expected);
}

TEST(RelativeBiasTest, IsSpreadOverDistancesHeadByHead) {
  // Two heads; a bidirectional stack of four buckets: 0 and back, 1, and ahead the same.
  const std::vector<float> biases = {0, 10, 1, 11, 2, 12, 3, 13};
  EXPECT_THAT(RelativeBiasByDistance(ConstMatrix(biases.data(), 4, 2), /*bidirectional=*/true,
                                     /*max_distance=*/3, /*num_positions=*/2),
              ElementsAre(1, 1, 0, 3, 3, 11, 11, 10, 13, 13));
}

TEST(SinusoidalPositionsTest, LayTheSameWavesInEachOrder) {
  const auto at = [](double position, double exponent) {
    const double angle = position * std::pow(10000.0, -exponent);
    return std::pair(static_cast<float>(std::sin(angle)), static_cast<float>(std::cos(angle)));
  };
  const auto [sin0, cos0] = at(3, 0);
  const auto [sin1, cos1] = at(3, 0.5);
  EXPECT_THAT(SinusoidalPositions(SinusoidKind::kInterleaved, 3, 1, 4),
              ElementsAre(sin0, cos0, sin1, cos1));
  EXPECT_THAT(SinusoidalPositions(SinusoidKind::kHalves, 3, 1, 4),
              ElementsAre(sin0, sin1, cos0, cos1));
  const auto [last_sin, last_cos] = at(3, 1);
  EXPECT_THAT(SinusoidalPositions(SinusoidKind::kFairseq, 3, 1, 4),
              ElementsAre(sin0, last_sin, cos0, last_cos));
}

TEST(SinusoidalPositionsTest, AnOddWidthHasOneSineMoreOrAZero) {
  for (SinusoidKind kind : {SinusoidKind::kInterleaved, SinusoidKind::kHalves}) {
    const std::vector<float> row = SinusoidalPositions(kind, 0, 1, 5);
    EXPECT_EQ(row[kind == SinusoidKind::kHalves ? 2 : 4], 0.0f);  // the third sine, at position 0
    EXPECT_THAT(row, ::testing::Contains(1.0f).Times(2));
  }
  EXPECT_EQ(SinusoidalPositions(SinusoidKind::kFairseq, 7, 1, 5)[4], 0.0f);
  EXPECT_EQ(SinusoidalPositions(SinusoidKind::kFairseq, 7, 1, 1), std::vector<float>{0.0f});
}

}  // namespace
}  // namespace attendant::engine
