#include "tests/engine/kernels/kernel_testing.h"

#include <omp.h>

#include <cmath>
#include <limits>
#include <random>

#include "engine/base/float_conversion.h"
#include "hwy/targets.h"

namespace attendant::engine {

KernelContext& TestContext() {
  static KernelContext& context = *new KernelContext(2, /*pin_threads=*/false);
  return context;
}

void WithOneThread(const std::function<void(KernelContext&)>& body) {
  {
    KernelContext context(1, /*pin_threads=*/false);
    body(context);
  }
  omp_set_num_threads(TestContext().num_threads());
}

void ForEachTarget(const std::function<void()>& body, bool with_products) {
  std::vector<int64_t> targets = {HWY_SSE2, HWY_AVX2, HWY_AVX3};
  if (with_products) targets.insert(targets.end(), {HWY_AVX3_DL, HWY_AVX3_ZEN4, HWY_AVX3_SPR});
  for (const int64_t target : targets) {
    hwy::SetSupportedTargetsForTest(0);
    if ((hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    // Of two sets the better has the lower bit.
    const int64_t up_to_it = hwy::SupportedTargets() & ~(target - 1);
    hwy::SetSupportedTargetsForTest(up_to_it);
    hwy::GetChosenTarget().Update(up_to_it);
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TestMatrix::TestMatrix(int64_t rows, int64_t cols, uint32_t seed, int64_t gap)
    : rows_(rows),
      cols_(cols),
      stride_(cols + gap),
      values_(1 + rows * stride_, std::numeric_limits<float>::quiet_NaN()) {
  std::mt19937 random(seed);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      (*this)(row, col) = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
    }
  }
}

void TestMatrix::Round(DataType dtype) {
  if (dtype != DataType::kBFloat16) return;
  for (float& value : values_) value = BFloat16ToFloat(FloatToBFloat16(value));
}

bool TestMatrix::GapsUntouched() const {
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t col = cols_; col < stride_; ++col) {
      if (!std::isnan((*this)(row, col))) return false;
    }
  }
  return std::isnan(values_[0]);
}

::testing::AssertionResult AllNear(ConstMatrix got, ConstMatrix want, double tolerance) {
  for (int64_t row = 0; row < want.rows; ++row) {
    for (int64_t col = 0; col < want.cols; ++col) {
      const double difference = std::abs(double{got.row(row)[col]} - want.row(row)[col]);
      if (difference <= tolerance) continue;
      return ::testing::AssertionFailure()
             << "row " << row << " column " << col << ": " << got.row(row)[col] << " instead of "
             << want.row(row)[col] << ", tolerance " << tolerance;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace attendant::engine
