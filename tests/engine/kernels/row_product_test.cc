#include "engine/kernels/row_product.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/kernels/reference.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"

namespace attendant::engine {
namespace {

template <typename T>
T Convert(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return FloatToBFloat16(value);
  }
}

// The panels of the header, written down as it says.
template <typename T>
std::vector<T> Panels(ConstMatrix weight, int64_t width, int64_t stride) {
  constexpr int64_t kPair = std::is_same_v<T, float> ? 1 : 2;
  const int64_t num_panels = (weight.rows + width - 1) / width;
  std::vector<T> panels(num_panels * stride);
  for (int64_t row = 0; row < weight.rows; ++row) {
    for (int64_t col = 0; col < weight.cols; ++col) {
      panels[row / width * stride + col / kPair * width * kPair + row % width * kPair +
             col % kPair] = Convert<T>(weight.row(row)[col]);
    }
  }
  return panels;
}

template <typename T>
void Check(int64_t rows, int64_t inputs, int64_t outputs, int64_t width) {
  SCOPED_TRACE(absl::StrCat(rows, " x ", inputs, " x ", outputs, " in panels of ", width));
  constexpr DataType kType = std::is_same_v<T, float> ? DataType::kFloat32 : DataType::kBFloat16;
  TestMatrix weight(outputs, inputs, 1), x(rows, inputs, 2);
  weight.Round(kType);
  x.Round(kType);
  const int64_t stride = (inputs + 2) * width;
  const std::vector<T> panels = Panels<T>(weight, width, stride);
  const int64_t x_stride = inputs + 6;
  std::vector<T> input(rows * x_stride, Convert<T>(1e30f));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < inputs; ++col) {
      input[row * x_stride + col] = Convert<T>(x(row, col));
    }
  }
  const TestMatrix bias(1, outputs, 3);
  TestMatrix got(rows, outputs, 4, 3), want(rows, outputs, 4, 3);
  const WeightPanels weights{.dtype = kType,
                             .data = reinterpret_cast<const std::byte*>(panels.data()),
                             .in_features = inputs,
                             .out_features = outputs,
                             .panel_width = width,
                             .panel_stride = stride};
  const double tolerance = SumTolerance(inputs) + 4e-6;
  MultiplyRows(TestContext(), weights, input.data(), x_stride, bias.view().data,
               Activation::kGeluErf, /*add=*/false, got);
  reference::Linear(weight, absl::MakeConstSpan(bias.view().data, outputs), Activation::kGeluErf, x,
                    want);
  EXPECT_TRUE(AllNear(got, want, tolerance));
  MultiplyRows(TestContext(), weights, input.data(), x_stride, nullptr, Activation::kNone,
               /*add=*/true, got);
  reference::LinearAdd(weight, {}, Activation::kNone, x, want);
  EXPECT_TRUE(AllNear(got, want, 2 * tolerance));
  EXPECT_TRUE(got.GapsUntouched());
}

TEST(RowProductTest, EqualsPlainLoopsOnEveryTarget) {
  ForEachTarget(
      [] {
        for (const int64_t rows : {0, 1, 2, 3, 4}) {
          for (const int64_t width : {16, 32, 48, 64}) {
            for (const int64_t outputs : {1, 64, 129}) {
              Check<float>(rows, 34, outputs, width);
              Check<uint16_t>(rows, 34, outputs, width);
            }
          }
          Check<float>(rows, 600, 100, 64);
          Check<uint16_t>(rows, 600, 100, 64);
        }
      },
      /*with_products=*/true);
}

}  // namespace
}  // namespace attendant::engine
