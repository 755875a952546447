#include "engine/kernels/quantized_weights.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/reference.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

struct Form {
  int bits;
  bool has_minimums;
};
constexpr Form kForms[] = {{8, false}, {8, true}, {4, false}, {4, true}};

// Any integers, scales of either sign.
QuantizedMatrix RandomMatrix(int64_t rows, int64_t cols, Form form, uint32_t seed = 1) {
  QuantizedMatrix matrix{.bits = form.bits, .rows = rows, .cols = cols};
  std::mt19937 random(seed);
  const auto factor = [&](float largest) {
    return FloatToFloat16((static_cast<float>(random()) * 0x1p-31f - 1.0f) * largest);
  };
  for (int64_t i = 0; i < rows * cols; ++i) {
    matrix.quants.push_back(static_cast<uint8_t>(random() >> (32 - form.bits)));
  }
  const float largest = form.bits == 8 ? 1.0f / 256 : 1.0f / 16;
  for (int64_t i = 0; i < rows * matrix.num_groups(); ++i) {
    matrix.scales.push_back(factor(largest));
    if (form.has_minimums) matrix.minimums.push_back(factor(0.5f));
  }
  return matrix;
}

TestMatrix Dequantized(const QuantizedMatrix& matrix) {
  TestMatrix values(matrix.rows, matrix.cols);
  reference::Dequantize(matrix, values);
  return values;
}

TEST(QuantizeTest, StaysWithinHalfAStepOfTheScale) {
  for (const int bits : {4, 8}) {
    for (const float magnitude : {1e-6f, 1e-4f, 1.0f, 1e4f}) {
      SCOPED_TRACE(absl::StrCat(bits, " bits, magnitude ", magnitude));
      TestMatrix weight(5, 77);
      for (int64_t row = 0; row < 5; ++row) {
        for (int64_t col = 0; col < 77; ++col) weight(row, col) *= magnitude;
      }
      ASSERT_OK_AND_ASSIGN(const QuantizedMatrix matrix, Quantize(TestContext(), weight, bits));
      const TestMatrix values = Dequantized(matrix);
      for (int64_t row = 0; row < 5; ++row) {
        for (int64_t col = 0; col < 77; ++col) {
          const double scale =
              std::abs(Float16ToFloat(matrix.scales[row * matrix.num_groups() + col / 32]));
          // In 4 bits, one side reaches only to 7 of 8 steps, and a scale that is not normal may be
          // half a step too small.
          const double steps = bits == 8 ? 0.5 : magnitude < 1e-3f ? 1.5 : 1.0;
          EXPECT_LE(std::abs(values(row, col) - weight(row, col)), steps * scale * (1 + 0x1p-9));
        }
      }
    }
  }
}

TEST(QuantizeTest, KeepsWhatItCanHoldExactly) {
  for (const int bits : {4, 8}) {
    TestMatrix weight(3, 64);
    const int least = bits == 4 ? -8 : -127, most = bits == 4 ? 7 : 127;
    for (int64_t row = 0; row < 3; ++row) {
      for (int64_t col = 0; col < 64; ++col) {
        const int64_t q = least + (col % 32) * (most - least) / 31;
        weight(row, col) = 0.25f * static_cast<float>(row == 1 && bits == 4 ? -q : q);
      }
    }
    ASSERT_OK_AND_ASSIGN(const QuantizedMatrix matrix, Quantize(TestContext(), weight, bits));
    EXPECT_TRUE(AllNear(Dequantized(matrix), weight, 0)) << bits;
  }
}

TEST(QuantizeTest, HoldsZerosAndTheSmallest) {
  TestMatrix weight(2, 40);
  for (int64_t col = 0; col < 40; ++col) {
    weight(0, col) = 0.0f;
    weight(1, col) = std::numeric_limits<float>::denorm_min();
  }
  for (const int bits : {4, 8}) {
    ASSERT_OK_AND_ASSIGN(const QuantizedMatrix matrix, Quantize(TestContext(), weight, bits));
    EXPECT_TRUE(AllNear(Dequantized(matrix), weight, 1e-7));
  }
}

TEST(QuantizeTest, RefusesWhatNoScaleReaches) {
  for (const float value : {1e7f, -1e30f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    TestMatrix weight(2, 40);
    weight(1, 33) = value;
    for (const int bits : {4, 8}) {
      EXPECT_THAT(Quantize(TestContext(), weight, bits).status(),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("magnitude")));
    }
  }
}

class QuantizedWeightsTest : public ::testing::TestWithParam<Form> {
 protected:
  void Check(int64_t rows, int64_t inputs, int64_t outputs, int64_t gap = 0) {
    SCOPED_TRACE(absl::StrCat(rows, " x ", inputs, " x ", outputs, ", gap ", gap));
    const QuantizedMatrix matrix = RandomMatrix(outputs, inputs, GetParam());
    const QuantizedWeights weights(TestContext(), matrix);
    const TestMatrix weight = Dequantized(matrix);
    const TestMatrix x(rows, inputs, 3, gap);
    TestMatrix rounded(rows, inputs);
    reference::RoundInGroups(x, rounded);
    std::vector<float> bias((outputs + 15) / 16 * 16);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = 0.01f * static_cast<float>(i) - 0.5f;
    TestMatrix got(rows, outputs, 4, gap), want(rows, outputs, 4, gap);
    // Sums within a group are exact; integers of a group with minimums may be larger than their
    // sum with the minimum, which takes some of their digits. Many rows may be multiplied in
    // bfloat16: two factors rounded by up to 2^-9, eight standard deviations.
    double tolerance = 4 * SumTolerance(inputs) + 4e-6;
    if (rows > QuantizedWeights::kMaxIntegerRows)
      tolerance += 8 * 0x1p-9 * std::sqrt(static_cast<double>(inputs));
    weights.Multiply(TestContext(), x, {.bias = bias.data(), .activation = Activation::kSilu}, got);
    reference::Linear(weight, absl::MakeConstSpan(bias).first(outputs), Activation::kSilu, rounded,
                      want);
    EXPECT_TRUE(AllNear(got, want, tolerance));
    weights.Multiply(TestContext(), x, {.add = true}, got);
    reference::LinearAdd(weight, {}, Activation::kNone, rounded, want);
    EXPECT_TRUE(AllNear(got, want, 2 * tolerance));
    EXPECT_TRUE(got.GapsUntouched());
  }
};

TEST_P(QuantizedWeightsTest, MultipliesLikePlainLoopsOnEveryTarget) {
  ForEachTarget(
      [&] {
        for (const int64_t rows : {0, 1, 2, 3, 4, 7}) {
          for (const int64_t inputs : {1, 33, 320}) {
            for (const int64_t outputs : {1, 17, 100}) Check(rows, inputs, outputs);
          }
        }
        Check(16, 300, 130);
        Check(3, 2100, 70);  // more inputs than are summed at once
      },
      /*with_products=*/true);
}

TEST_P(QuantizedWeightsTest, MultipliesManyRowsLikePlainLoops) {
  ForEachTarget(
      [&] {
        for (const int64_t rows : {17, 100, 150}) Check(rows, 72, 70);
      },
      /*with_products=*/true);
  Check(1100, 40, 24);  // more than are computed at once
}

TEST_P(QuantizedWeightsTest, TakesColumnsOfWiderMatrices) {
  for (const int64_t rows : {1, 3, 130}) Check(rows, 40, 24, 5);
}

// Bit for bit.
TEST_P(QuantizedWeightsTest, GivesARowAloneWhatItGivesBesideOthers) {
  const QuantizedWeights weights(TestContext(), RandomMatrix(100, 300, GetParam()));
  constexpr int64_t kRows = QuantizedWeights::kMaxIntegerRows;
  const TestMatrix x(kRows, 300, 3);
  TestMatrix together(kRows, 100), alone(kRows, 100), with_one_thread(kRows, 100);
  weights.Multiply(TestContext(), x, {}, together);
  for (int64_t row = 0; row < kRows; ++row) {
    weights.Multiply(TestContext(), x.view().Rows(row, 1), {}, alone.view().Rows(row, 1));
  }
  EXPECT_TRUE(AllNear(together, alone, 0));
  WithOneThread([&](KernelContext& context) { weights.Multiply(context, x, {}, with_one_thread); });
  EXPECT_TRUE(AllNear(together, with_one_thread, 0));
}

TEST_P(QuantizedWeightsTest, InputThatIsNotFiniteGivesNaN) {
  const QuantizedWeights weights(TestContext(), RandomMatrix(20, 70, GetParam()));
  for (const float value :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const int64_t rows : {2, 140}) {
      TestMatrix x(rows, 70), y(rows, 20);
      x(1, 69) = value;
      weights.Multiply(TestContext(), x, {}, y);
      for (int64_t i = 0; i < 20; ++i) {
        EXPECT_TRUE(std::isnan(y(1, i)));
        EXPECT_TRUE(std::isfinite(y(0, i)));
      }
    }
  }
}

TEST_P(QuantizedWeightsTest, GathersRows) {
  const QuantizedMatrix matrix = RandomMatrix(150, 70, GetParam());
  const QuantizedWeights weights(TestContext(), matrix);
  const TestMatrix values = Dequantized(matrix);
  const std::vector<int32_t> ids = {149, 0, 17, 64, 17};
  TestMatrix got(5, 70, 2, 3), want(5, 70, 2);
  weights.Gather(TestContext(), ids, 1.0f, /*add=*/false, got);
  reference::Gather(values, ids, want);
  EXPECT_TRUE(AllNear(got, want, 0));
  weights.Gather(TestContext(), ids, 0.5f, /*add=*/true, got);
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t col = 0; col < 70; ++col) EXPECT_EQ(got(row, col), 1.5f * want(row, col));
  }
  EXPECT_TRUE(got.GapsUntouched());
}

INSTANTIATE_TEST_SUITE_P(Forms, QuantizedWeightsTest, ::testing::ValuesIn(kForms),
                         [](const auto& info) {
                           return absl::StrCat("int", info.param.bits,
                                               info.param.has_minimums ? "_minimums" : "");
                         });

}  // namespace
}  // namespace attendant::engine
