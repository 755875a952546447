// Activations, norms, rotary positions, embeddings, softmax: each against its plain-loop twin, for
// every vector length, over sizes around it.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/embedding.h"
#include "engine/kernels/norm.h"
#include "engine/kernels/reference.h"
#include "engine/kernels/rotary.h"
#include "engine/kernels/round_to_bfloat16.h"
#include "engine/kernels/softmax.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"

namespace attendant::engine {
namespace {

constexpr int64_t kSizes[] = {1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 127, 384};
constexpr int64_t kRows[] = {0, 1, 2, 5};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// body(rows, size, gap) for every combination, on every target.
template <typename Body>
void ForEachShape(const Body& body) {
  ForEachTarget([&] {
    for (const int64_t rows : kRows) {
      for (const int64_t size : kSizes) {
        SCOPED_TRACE(absl::StrCat(rows, " x ", size));
        body(rows, size, /*gap=*/0);
        body(rows, size, /*gap=*/3);
      }
    }
  });
}

TEST(ActivationTest, GatesLikePlainLoops) {
  for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGeluErf,
                                      Activation::kGeluTanh, Activation::kSilu}) {
    ForEachShape([&](int64_t rows, int64_t size, int64_t gap) {
      TestMatrix gate_up(rows, 2 * size, 1, gap), got(rows, size, 2, gap), want(rows, size);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t col = 0; col < size; ++col) gate_up(row, col) *= 8;
      }
      GatedActivation(TestContext(), gate_up, activation, got);
      reference::GatedActivation(gate_up, activation, want);
      EXPECT_TRUE(AllNear(got, want,
                          2e-6));  // the error function is good to 1.5e-7, times a gate of up to 8
      EXPECT_TRUE(got.GapsUntouched());
    });
  }
}

TEST(ActivationTest, GatesInPlace) {
  TestMatrix gate_up(3, 40), want(3, 20);
  reference::GatedActivation(gate_up, Activation::kSilu, want);
  GatedActivation(TestContext(), gate_up, Activation::kSilu, gate_up.view().Cols(0, 20));
  EXPECT_TRUE(AllNear(gate_up.view().Cols(0, 20), want, 1e-6));
}

TEST(ActivationTest, LargeGatesNeitherOverflowNorTurnIntoNaN) {
  ForEachTarget([] {
    for (const Activation activation :
         {Activation::kGeluErf, Activation::kGeluTanh, Activation::kSilu}) {
      TestMatrix gate_up(1, 12), got(1, 6);
      const float gates[] = {-1e30f, -200.0f, -88.5f, 88.5f, 200.0f, 1e30f};
      for (int64_t i = 0; i < 6; ++i) {
        gate_up(0, i) = gates[i];
        gate_up(0, 6 + i) = 1.0f;
      }
      GatedActivation(TestContext(), gate_up, activation, got);
      for (int64_t i = 0; i < 3; ++i) EXPECT_NEAR(got(0, i), 0.0f, 1e-35f) << gates[i];
      for (int64_t i = 3; i < 6; ++i) EXPECT_EQ(got(0, i), gates[i]);
    }
  });
}

TEST(ActivationTest, NaNStaysNaN) {
  ForEachTarget([] {
    for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGeluErf,
                                        Activation::kGeluTanh, Activation::kSilu}) {
      TestMatrix gate_up(1, 2), got(1, 1);
      gate_up(0, 0) = kNaN;
      GatedActivation(TestContext(), gate_up, activation, got);
      EXPECT_TRUE(std::isnan(got(0, 0)));
    }
    TestMatrix x(1, 1);
    x(0, 0) = kNaN;
    Tanh(TestContext(), x);
    EXPECT_TRUE(std::isnan(x(0, 0)));
  });
}

TEST(ActivationTest, TanhLikePlainLoops) {
  ForEachShape([](int64_t rows, int64_t size, int64_t gap) {
    TestMatrix got(rows, size, 1, gap);
    for (int64_t row = 0; row < rows; ++row) got(row, 0) = row % 2 == 0 ? 1e-6f : -40.0f;
    TestMatrix want = got;
    Tanh(TestContext(), got);
    reference::Tanh(want);
    EXPECT_TRUE(AllNear(got, want, 4 * 0x1p-24));
    EXPECT_TRUE(got.GapsUntouched());
  });
}

TEST(NormTest, LayerNormLikePlainLoops) {
  ForEachShape([](int64_t rows, int64_t size, int64_t gap) {
    TestMatrix x(rows, size, 1, gap), got(rows, size, 2, gap), want(rows, size);
    const TestMatrix weight(1, size, 3), bias(1, size, 4);
    const absl::Span<const float> w(weight.view().data, size), b(bias.view().data, size);
    for (const bool has_bias : {false, true}) {
      const Norm norm{NormKind::kLayerNorm, w, has_bias ? b : absl::Span<const float>(), 1e-5f};
      ApplyNorm(TestContext(), norm, x, got);
      reference::LayerNorm(x, w, norm.bias, 1e-5f, want);
      // Normal values are at most sqrt(size); sums of `size` terms.
      EXPECT_TRUE(AllNear(got, want, SumTolerance(size) * std::sqrt(size) + 1e-6));
    }
    EXPECT_TRUE(got.GapsUntouched());
    ApplyNorm(TestContext(), {NormKind::kLayerNorm, w, b, 1e-5f}, x, x);
    EXPECT_TRUE(AllNear(x, got, 0));
  });
}

// The mean of squares minus the square of the mean would lose everything here.
TEST(NormTest, LayerNormOfValuesFarFromZero) {
  ForEachTarget([] {
    TestMatrix x(1, 64), got(1, 64), want(1, 64);
    for (int64_t i = 0; i < 64; ++i) x(0, i) = 10000.0f + static_cast<float>(i % 2);
    const std::vector<float> ones(64, 1.0f);
    ApplyNorm(TestContext(), {NormKind::kLayerNorm, ones, {}, 1e-5f}, x, got);
    reference::LayerNorm(x, ones, {}, 1e-5f, want);
    EXPECT_TRUE(AllNear(got, want, 1e-3));
  });
}

TEST(NormTest, RmsNormLikePlainLoops) {
  ForEachShape([](int64_t rows, int64_t size, int64_t gap) {
    TestMatrix x(rows, size, 1, gap), got(rows, size, 2, gap), want(rows, size);
    const TestMatrix weight(1, size, 3);
    const absl::Span<const float> w(weight.view().data, size);
    const Norm norm{NormKind::kRmsNorm, w, {}, 1e-6f};
    ApplyNorm(TestContext(), norm, x, got);
    reference::RmsNorm(x, w, 1e-6f, want);
    EXPECT_TRUE(AllNear(got, want, SumTolerance(size) * std::sqrt(size)));
    EXPECT_TRUE(got.GapsUntouched());
    ApplyNorm(TestContext(), norm, x, x);
    EXPECT_TRUE(AllNear(x, got, 0));
  });
}

TEST(NormTest, L2NormalizeLikePlainLoopsAtAnyScale) {
  ForEachShape([](int64_t rows, int64_t size, int64_t gap) {
    for (const float scale : {1.0f, 1e-30f, 1e30f, 1e-42f, 0.0f}) {
      TestMatrix got(rows, size, 1, gap);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t col = 0; col < size; ++col) got(row, col) *= scale;
      }
      TestMatrix want = got;
      L2Normalize(TestContext(), got);
      reference::L2Normalize(want);
      EXPECT_TRUE(AllNear(got, want, SumTolerance(size))) << scale;
      EXPECT_TRUE(got.GapsUntouched());
    }
  });
}

TEST(RotaryTest, RotatesLikePlainLoopsFarOut) {
  ForEachTarget([] {
    for (const int64_t head_dim : {2, 5, 12, 20, 64, 128}) {
      for (const int64_t num_pairs : {int64_t{0}, int64_t{1}, head_dim / 4, head_dim / 2}) {
        SCOPED_TRACE(absl::StrCat("head_dim ", head_dim, ", pairs ", num_pairs));
        std::vector<float> frequencies(num_pairs);
        for (int64_t i = 0; i < num_pairs; ++i)
          frequencies[i] = std::pow(10000.0f, -static_cast<float>(i) / num_pairs);
        const std::vector<int32_t> positions = {0, 1, 7, 8192, 131071, 1000000};
        TestMatrix got(positions.size(), 3 * head_dim, 1, 3);
        TestMatrix want = got;
        ApplyRotary(TestContext(), got, 3, positions, frequencies, 1.25f);
        reference::ApplyRotary(want, 3, positions, frequencies, 1.25f);
        EXPECT_TRUE(AllNear(got, want, 5e-7));  // two roundings of products up to 1.25
        EXPECT_TRUE(got.GapsUntouched());
      }
    }
  });
}

TEST(EmbeddingTest, GathersAndAdds) {
  ForEachShape([](int64_t rows, int64_t size, int64_t gap) {
    for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
      TestMatrix values(7, size, 1, gap);
      const EmbeddingTable table(values, dtype);
      EXPECT_EQ(table.size_bytes(), 7 * size * SizeOf(dtype));
      values.Round(dtype);
      std::vector<int32_t> ids(rows);
      for (int64_t row = 0; row < rows; ++row) ids[row] = static_cast<int32_t>((row * 5 + 6) % 7);
      TestMatrix got(rows, size, 2, gap), want(rows, size, 2, gap);
      table.Gather(TestContext(), ids, got);
      reference::Gather(values, ids, want);
      EXPECT_TRUE(AllNear(got, want, 0));
      table.GatherAdd(TestContext(), ids, got);
      reference::GatherAdd(values, ids, want);
      EXPECT_TRUE(AllNear(got, want, 0));
      EXPECT_TRUE(got.GapsUntouched());
    }
  });
}

TEST(RoundToBFloat16Test, GivesTheSameBitsAsTheScalarFunction) {
  ForEachTarget([] {
    std::vector<float> x;
    for (const float special :
         {0.0f, -0.0f, kInfinity, -kInfinity, kNaN, -kNaN, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f,
          std::numeric_limits<float>::max(), 1e-45f, 1e-39f}) {
      x.push_back(special);
    }
    const TestMatrix random(1, 100);
    for (int64_t i = 0; i < 100; ++i) x.push_back(random(0, i));
    for (size_t size = 0; size <= x.size(); ++size) {
      std::vector<uint16_t> got(size + 1, 7);
      RoundToBFloat16(TestContext(), ConstMatrix(x.data(), 1, size), nullptr, got.data());
      for (size_t i = 0; i < size; ++i) EXPECT_EQ(got[i], FloatToBFloat16(x[i])) << x[i];
      EXPECT_EQ(got[size], 7);
    }
  });
}

TEST(SoftmaxTest, LogSumExpLikePlainLoops) {
  ForEachTarget([] {
    for (const int64_t size : kSizes) {
      TestMatrix x(1, size);
      for (int64_t i = 0; i < size; ++i) x(0, i) *= 30;
      const absl::Span<const float> span(x.view().data, size);
      EXPECT_NEAR(LogSumExp(span), reference::LogSumExp(span), 4e-6);  // of results up to 36
    }
  });
}

TEST(SoftmaxTest, LogSumExpOfExtremes) {
  ForEachTarget([] {
    EXPECT_EQ(LogSumExp({}), -kInfinity);
    EXPECT_EQ(LogSumExp({-kInfinity, -kInfinity}), -kInfinity);
    EXPECT_EQ(LogSumExp({1.0f, kInfinity}), kInfinity);
    EXPECT_EQ(LogSumExp({-kInfinity, 3.0f}), 3.0f);
    EXPECT_NEAR(LogSumExp({3e38f, 3e38f}), 3e38f, 1e32f);
    EXPECT_NEAR(LogSumExp({-1e4f, -1e4f}), -1e4f + std::log(2.0f), 1e-3f);
    EXPECT_TRUE(std::isnan(LogSumExp({1.0f, kNaN})));
  });
}

TEST(SoftmaxTest, ArgMaxLikeAPlainLoop) {
  ForEachTarget([] {
    for (const int64_t size : kSizes) {
      if (size == 0) continue;
      TestMatrix x(1, size);
      const absl::Span<const float> span(x.view().data, size);
      EXPECT_EQ(ArgMax(span), reference::ArgMax(span));
      for (int64_t i = 0; i < size; ++i) x(0, i) -= 30;
      EXPECT_EQ(ArgMax(span), reference::ArgMax(span))
          << "negative, beside what is behind the last";
      for (int64_t i = 0; i < size; ++i) {
        std::vector<float> with_nan(span.begin(), span.end());
        with_nan[i] = kNaN;
        with_nan[size - 1] = kNaN;
        EXPECT_EQ(ArgMax(with_nan), i);
      }
    }
  });
}

TEST(SoftmaxTest, ArgMaxIsTheFirstOfEquals) {
  ForEachTarget([] {
    for (const int64_t size : kSizes) {
      for (int64_t best = 0; best < size; ++best) {
        std::vector<float> x(size, -2.0f);
        x[best] = 5.0f;
        x[size - 1] = 5.0f;
        EXPECT_EQ(ArgMax(x), best);
      }
    }
    EXPECT_EQ(ArgMax({-kInfinity, -kInfinity}), 0);
    EXPECT_EQ(ArgMax({kInfinity, kNaN, kNaN}), 1);
    EXPECT_EQ(ArgMax({1.0f, -kInfinity, 2.0f, kInfinity, kInfinity}), 3);
    EXPECT_EQ(ArgMax({-5.0f}), 0);
  });
}

TEST(SoftmaxTest, SubtractLikeAPlainLoop) {
  ForEachTarget([] {
    for (const int64_t size : kSizes) {
      TestMatrix x(1, size);
      std::vector<float> want(size);
      for (int64_t i = 0; i < size; ++i) want[i] = x(0, i) - 0.7f;
      Subtract(absl::MakeSpan(x.view().data, size), 0.7f);
      for (int64_t i = 0; i < size; ++i) EXPECT_EQ(x(0, i), want[i]);
    }
  });
}

TEST(SoftmaxTest, FindSumAboveIsTheFirst) {
  ForEachTarget([] {
    for (const int64_t size : kSizes) {
      std::vector<float> x(size, 0.25f);
      EXPECT_EQ(FindSumAbove(x, -1.0f, -0.75f), size) << "equal is not above";
      EXPECT_EQ(FindSumAbove(x, -1.0f, -kInfinity), 0);
      for (int64_t first = 0; first < size; ++first) {
        std::vector<float> later = x;
        later[first] = 0.5f;
        later[size - 1] = 0.5f;
        EXPECT_EQ(FindSumAbove(later, -1.0f, -0.75f), first);
      }
    }
    EXPECT_EQ(FindSumAbove({}, 0.0f, -kInfinity), 0);
    EXPECT_EQ(FindSumAbove({-kInfinity, kNaN, -3e38f}, 1.0f, -kInfinity), 2);
    // What is added to a large number is lost, as in the plain sum.
    EXPECT_EQ(FindSumAbove({0.25f, 2.0f}, 0x1p24f, 0x1p24f), 1);
  });
}

}  // namespace
}  // namespace attendant::engine
