#include "engine/kernels/linear.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/kernels/reference.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

struct LinearCase {
  int64_t rows, inputs, outputs;
  Activation activation = Activation::kNone;
  bool bias = true;
  int64_t gap = 0;  // between rows of x and y
};

// What weights are packed in.
struct Form {
  DataType dtype;
  bool scale_per_output = false;
};

std::string FormName(const Form& form) {
  return absl::StrCat(DataTypeName(form.dtype), form.scale_per_output ? "_by_output" : "");
}

class LinearTest : public ::testing::TestWithParam<Form> {
 protected:
  static DataType Type() { return GetParam().dtype; }
  static int Bits() { return Type() == DataType::kInt8 ? 8 : Type() == DataType::kInt4 ? 4 : 0; }
  static bool ScalePerOutput() { return GetParam().scale_per_output; }
  static LinearOptions Options() {
    return {.dtype = Type(), .scale_per_output = ScalePerOutput(), .strict = true};
  }
  // To values that stay what they are in the layer's type.
  static void RoundWeight(TestMatrix& weight) {
    weight.Round(Type());
    if (ScalePerOutput()) return reference::RoundInRows(weight, weight);
    if (Bits() == 0) return;
    const auto quantized = Quantize(TestContext(), weight, Bits());
    ASSERT_OK(quantized);
    reference::Dequantize(*quantized, weight);
  }
  static void RoundInput(TestMatrix& x) {
    x.Round(Type());
    if (ScalePerOutput()) return reference::RoundInRows(x, x);
    if (Bits() != 0) reference::RoundInGroups(x, x);
  }
  // Many rows may be multiplied in bfloat16, both factors rounded by up to 2^-9: independent errors
  // of products below 1, of whose sum this is eight standard deviations.
  static double RoundingTolerance(const LinearCase& c) {
    if (Bits() == 0 || ScalePerOutput() || c.rows <= QuantizedWeights::kMaxIntegerRows) return 0;
    return 8 * 0x1p-9 * std::sqrt(static_cast<double>(c.inputs));
  }

  void Check(const LinearCase& c) {
    SCOPED_TRACE(absl::StrCat(c.rows, " x ", c.inputs, " x ", c.outputs, ", activation ",
                              c.activation, ", bias ", c.bias, ", gap ", c.gap));
    TestMatrix weight(c.outputs, c.inputs, 2), x(c.rows, c.inputs, 3, c.gap);
    RoundWeight(weight);
    RoundInput(x);
    std::vector<float> bias(c.bias ? c.outputs : 0);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = 0.01f * i - 0.5f;
    LinearOptions options = Options();
    options.activation = c.activation;
    ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, bias, options));
    EXPECT_EQ(linear.in_features(), c.inputs);
    EXPECT_EQ(linear.out_features(), c.outputs);

    TestMatrix got(c.rows, c.outputs, 4, c.gap), want(c.rows, c.outputs, 4, c.gap);
    // The products are exact in all types (inputs are rounded already), the sums are float;
    // activations are good to about 1e-6.
    const double tolerance = SumTolerance(c.inputs) + RoundingTolerance(c) + 4e-6;
    linear.Apply(TestContext(), x, got);
    reference::Linear(weight, bias, c.activation, x, want);
    EXPECT_TRUE(AllNear(got, want, tolerance));
    linear.ApplyAdd(TestContext(), x, got);
    reference::LinearAdd(weight, bias, c.activation, x, want);
    EXPECT_TRUE(AllNear(got, want, 2 * tolerance));
    EXPECT_TRUE(got.GapsUntouched());
    EXPECT_FALSE(linear.uses_reference_code());
  }
};

TEST_P(LinearTest, EqualsPlainLoopsForAwkwardShapes) {
  for (const int64_t rows : {0, 1, 2, 15, 16, 17}) {
    for (const int64_t inputs : {1, 7, 33, 64}) {
      for (const int64_t outputs : {1, 15, 65}) Check({rows, inputs, outputs});
    }
  }
}

// Few rows are multiplied by our own code.
TEST_P(LinearTest, EqualsPlainLoopsOnEveryTarget) {
  ForEachTarget(
      [&] {
        for (const int64_t rows : {1, 2, 3, 4}) {
          Check({rows, 70, 130, Activation::kSilu, true, 3});
          Check({rows, 34, 700, Activation::kGeluTanh, true});  // several panels at a time
          Check({rows, 32, 16, Activation::kNone, false});
        }
      },
      /*with_products=*/true);
}

TEST_P(LinearTest, EqualsPlainLoopsForEveryActivation) {
  for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGeluErf,
                                      Activation::kGeluTanh, Activation::kSilu}) {
    for (const bool bias : {false, true}) Check({9, 48, 40, activation, bias});
  }
}

// oneDNN multiplies float by packed bfloat16 wrongly beyond a depth of 512; we never ask for that.
TEST_P(LinearTest, EqualsPlainLoopsForGreatDepths) {
  for (const int64_t inputs : {511, 513, 769, 1536}) {
    for (const int64_t rows : {1, 5, 70}) Check({rows, inputs, 24});
  }
}

// Every way in which rows are cut into pieces.
TEST_P(LinearTest, EqualsPlainLoopsForManyRows) {
  for (const int64_t rows : {127, 128, 129, 191, 192, 1024, 1087, 1088, 1089, 2100})
    Check({rows, 16, 24});
  for (const int64_t rows : {5, 15, 16, 17, 33, 63, 65, 300, 1100}) Check({rows, 96, 200});
}

TEST_P(LinearTest, TakesColumnsOfWiderMatrices) {
  for (const int64_t rows : {1, 3, 70}) {
    Check({rows, 40, 24, Activation::kGeluErf, true, 5});
    Check({rows, 40, 24, Activation::kNone, false, 24});
  }
}

// A row's result does not depend on the rows beside it by more than the rounding of its sum.
TEST_P(LinearTest, GivesARowAloneWhatItGivesInABatch) {
  const TestMatrix weight(72, 96, 2), x(200, 96, 3);
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, Options()));
  // Rows of which there are many may be rounded once more.
  const double tolerance = SumTolerance(96) + RoundingTolerance({.rows = 200, .inputs = 96});
  TestMatrix together(200, 72), alone(200, 72);
  linear.Apply(TestContext(), x, together);
  for (int64_t row = 0; row < 200; ++row) {
    linear.Apply(TestContext(), x.view().Rows(row, 1), alone.view().Rows(row, 1));
  }
  EXPECT_TRUE(AllNear(together, alone, tolerance));
}

// What is computed on its way in has the bits that it has when a kernel wrote it before. Rows for
// each of the ways to multiply, and more than one piece of each.
TEST_P(LinearTest, ComputesItsInputAsTheKernelsDo) {
  constexpr int64_t kInputs = 96, kOutputs = 40;
  TestMatrix weight(kOutputs, kInputs, 2), scale(1, kInputs, 5), shift(1, kInputs, 6);
  RoundWeight(weight);
  const absl::Span<const float> scales(&scale(0, 0), kInputs), shifts(&shift(0, 0), kInputs);
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, Options()));
  const auto check = [&](int64_t rows) {
    SCOPED_TRACE(rows);
    const TestMatrix x(rows, kInputs, 3, 5), wide(rows, 2 * kInputs, 4, 5);
    TestMatrix normed(rows, kInputs), want(rows, kOutputs), got(rows, kOutputs);
    const auto expect = [&](const InputRows& computed, ConstMatrix before, absl::string_view what) {
      linear.Apply(TestContext(), before, want);
      linear.Apply(TestContext(), computed, got);
      EXPECT_TRUE(AllNear(got, want, 0)) << what;
    };
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
      const Norm norm{kind, scales,
                      kind == NormKind::kLayerNorm ? shifts : absl::Span<const float>(), 1e-5f};
      ApplyNorm(TestContext(), norm, x, normed);
      expect(InputRows::Normed(norm, x), normed, "normed");
      TestMatrix place = x;
      expect(InputRows::NormedInPlace(norm, place), normed, "normed in place");
      EXPECT_TRUE(AllNear(place, normed, 0));
      EXPECT_TRUE(place.GapsUntouched());
    }
    GatedActivation(TestContext(), wide, Activation::kSilu, normed);
    TestMatrix gate_up = wide;
    expect(InputRows::Gated(Activation::kSilu, gate_up), normed, "gated");
    EXPECT_TRUE(gate_up.GapsUntouched());
  };
  ForEachTarget(
      [&] {
        for (const int64_t rows : {0, 1, 3, 5, 20, 150}) check(rows);
      },
      /*with_products=*/true);
  for (const int64_t rows : {1100, 4200}) check(rows);
}

// In bfloat16, from layer to layer: the very values that the next would round its input to.
TEST_P(LinearTest, HandsOverWhatTheNextLayerWouldRound) {
  for (const int64_t middle : {128, 129}) {
    const TestMatrix first_weight(middle, 96, 2), second_weight(40, middle, 5);
    LinearOptions options = Options();
    options.activation = Activation::kGeluErf;
    const std::vector<float> bias(middle, 0.25f);
    ASSERT_OK_AND_ASSIGN(const Linear first,
                         Linear::Create(TestContext(), first_weight, bias, options));
    ASSERT_OK_AND_ASSIGN(const Linear second,
                         Linear::Create(TestContext(), second_weight, {}, Options()));
    for (const int64_t rows : {1, 4, 5, 70, 200, 1100}) {
      SCOPED_TRACE(absl::StrCat(rows, " rows of ", middle));
      const bool multiplies_bfloat16 = Type() == DataType::kBFloat16 && CpuMultipliesBFloat16();
      const bool expected = multiplies_bfloat16 && first.UsesOnednn(rows);
      ASSERT_EQ(first.HandsOverBFloat16(second, rows), expected);
      if (!expected) continue;
      const TestMatrix x(rows, 96, 3);
      TestMatrix between(rows, middle), want(rows, 40, 4), got = want, got_between = between;
      first.Apply(TestContext(), x, between);
      second.ApplyAdd(TestContext(), between, want);
      std::vector<uint16_t> rounded(rows * middle);
      const BFloat16Matrix rounded_view(rounded.data(), rows, middle);
      first.ApplyToBFloat16(TestContext(), x, rounded_view);
      second.ApplyAdd(TestContext(), InputRows::BFloat16(rounded_view), got);
      for (int64_t i = 0; i < rows * middle; ++i) {
        got_between(i / middle, i % middle) = BFloat16ToFloat(rounded[i]);
      }
      between.Round(DataType::kBFloat16);
      EXPECT_TRUE(AllNear(got_between, between, 0));
      EXPECT_TRUE(AllNear(got, want, 0));
      EXPECT_FALSE(first.uses_reference_code());
      EXPECT_FALSE(second.uses_reference_code());
    }
  }
}

TEST_P(LinearTest, RoundsInputToItsType) {
  // In bfloat16, 1 + 2^-9 rounds to 1.
  TestMatrix weight(8, 8), x(1, 8), y(1, 8);
  for (int64_t i = 0; i < 8; ++i) {
    x(0, i) = i == 0 ? 1.0f + 0x1p-9f : 0.0f;
    weight(i, 0) = 1.0f;
  }
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, Options()));
  linear.Apply(TestContext(), x, y);
  const bool rounds = Type() == DataType::kBFloat16 && CpuMultipliesBFloat16();
  if (Type() == DataType::kFloat32 || rounds) {
    EXPECT_EQ(y(0, 3), rounds ? 1.0f : 1.0f + 0x1p-9f);
  }
}

TEST_P(LinearTest, RefusesWeightsThatItsTypeCannotHold) {
  TestMatrix weight(3, 40);
  weight(1, 35) = 1e30f;
  const auto linear = Linear::Create(TestContext(), weight, {}, Options());
  if (Bits() == 0 || ScalePerOutput()) {
    EXPECT_OK(linear);
  } else {
    EXPECT_THAT(linear.status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("beyond")));
  }
}

TEST_P(LinearTest, RefusesEmptyLayersAndWrongBiases) {
  const TestMatrix weight(3, 4);
  const std::vector<float> bias(2);
  EXPECT_THAT(Linear::Create(TestContext(), weight, bias, Options()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 values for 3")));
  EXPECT_THAT(Linear::Create(TestContext(), weight.view().Rows(0, 0), {}, Options()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(LinearTest, PacksWeightsWithoutACopyBesides) {
  const TestMatrix weight(256, 512);
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, Options()));
  if (ScalePerOutput()) {
    EXPECT_EQ(linear.packed_bytes(), 256 * (512 + sizeof(float) + sizeof(int32_t)));
    return;
  }
  // Groups of 32 have a scale of 2 bytes.
  const size_t group_bytes = Type() == DataType::kInt4                                  ? 16 + 2
                             : Type() == DataType::kInt8                                ? 32 + 2
                             : Type() == DataType::kBFloat16 && CpuMultipliesBFloat16() ? 64
                                                                                        : 128;
  EXPECT_EQ(linear.packed_bytes(), 256 * 512 / 32 * group_bytes);
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest,
                         ::testing::Values(Form{DataType::kFloat32}, Form{DataType::kBFloat16},
                                           Form{DataType::kInt8}, Form{DataType::kInt8, true},
                                           Form{DataType::kInt4}),
                         [](const auto& info) { return FormName(info.param); });

// Its sums are integers: whatever multiplies them, the results are the same bits.
TEST(ChannelWeightsTest, GivesARowTheSameBitsAloneInABatchAndOnEveryTarget) {
  constexpr int64_t kRows = 150, kInputs = 200, kOutputs = 190;
  const TestMatrix weight(kOutputs, kInputs, 2), x(kRows, kInputs, 3);
  TestMatrix want(kRows, kOutputs);
  const LinearOptions options{.dtype = DataType::kInt8, .scale_per_output = true};
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, options));
  linear.Apply(TestContext(), x, want);
  ForEachTarget(
      [&] {
        for (const int64_t rows : {1, 2, 7, 9, 64, 100, 150}) {
          SCOPED_TRACE(rows);
          TestMatrix got(rows, kOutputs, 5);
          linear.Apply(TestContext(), x.view().Rows(kRows - rows, rows), got);
          EXPECT_TRUE(AllNear(got, want.view().Rows(kRows - rows, rows), 0));
        }
      },
      /*with_products=*/true);
}

TEST(ChannelWeightsTest, GivesNanForARowThatHoldsOne) {
  const TestMatrix weight(20, 70, 2);
  TestMatrix x(3, 70, 3), y(3, 20);
  x(0, 3) = std::numeric_limits<float>::infinity();
  x(2, 69) = std::numeric_limits<float>::quiet_NaN();
  const LinearOptions options{.dtype = DataType::kInt8, .scale_per_output = true};
  ASSERT_OK_AND_ASSIGN(const Linear linear, Linear::Create(TestContext(), weight, {}, options));
  linear.Apply(TestContext(), x, y);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::isnan(y(0, i)));
    EXPECT_TRUE(std::isfinite(y(1, i)));
    EXPECT_TRUE(std::isnan(y(2, i)));
  }
}

TEST(ChannelWeightsTest, RefusesWeightsThatItCannotHold) {
  const LinearOptions options{.dtype = DataType::kInt8, .scale_per_output = true};
  TestMatrix weight(3, 40);
  weight(2, 39) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Linear::Create(TestContext(), weight, {}, options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("infinite")));
  const TestMatrix wide(1, 66312);
  EXPECT_THAT(Linear::Create(TestContext(), wide, {}, options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 66311")));
}

}  // namespace
}  // namespace attendant::engine
