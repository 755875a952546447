#include "engine/kernels/norm.h"

#include <algorithm>
#include <cmath>

#include "absl/log/check.h"
#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

// The sum of (x - center)^2.
float SumOfSquares(const float* x, int64_t size, float center) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec c = hn::Set(d, center);
  FloatVec sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    const FloatVec x0 = hn::Sub(hn::LoadU(d, x + i), c);
    const FloatVec x1 = hn::Sub(hn::LoadU(d, x + i + lanes), c);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
  }
  for (; i < size; i += lanes) {
    const size_t count = HWY_MIN(lanes, size - i);
    FloatVec x0 = hn::Sub(LoadFloats(x + i, count), c);
    x0 = hn::IfThenElseZero(hn::FirstN(d, count), x0);
    sum0 = hn::MulAdd(x0, x0, sum0);
  }
  return hn::ReduceSum(d, hn::Add(sum0, sum1));
}

float Sum(const float* x, int64_t size) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  FloatVec sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    sum0 = hn::Add(sum0, hn::LoadU(d, x + i));
    sum1 = hn::Add(sum1, hn::LoadU(d, x + i + lanes));
  }
  for (; i < size; i += lanes) sum0 = hn::Add(sum0, LoadFloats(x + i, HWY_MIN(lanes, size - i)));
  return hn::ReduceSum(d, hn::Add(sum0, sum1));
}

void LayerNormRow(const float* x, const float* weight, const float* bias, int64_t size,
                  float epsilon, float* y) {
  const Floats d;
  const float mean = Sum(x, size) / static_cast<float>(size);
  const float variance = SumOfSquares(x, size, mean) / static_cast<float>(size);
  const FloatVec center = hn::Set(d, mean);
  const FloatVec scale = hn::Set(d, 1.0f / std::sqrt(variance + epsilon));
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec b = bias == nullptr ? hn::Zero(d) : LoadFloats(bias + i, count);
    const FloatVec normal = hn::Mul(hn::Sub(LoadFloats(x + i, count), center), scale);
    StoreFloats(hn::MulAdd(normal, LoadFloats(weight + i, count), b), y + i, count);
  });
}

void RmsNormRow(const float* x, const float* weight, int64_t size, float epsilon, float* y) {
  const Floats d;
  const float mean_square = SumOfSquares(x, size, 0.0f) / static_cast<float>(size);
  const FloatVec scale = hn::Set(d, 1.0f / std::sqrt(mean_square + epsilon));
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    StoreFloats(hn::Mul(hn::Mul(LoadFloats(x + i, count), scale), LoadFloats(weight + i, count)),
                y + i, count);
  });
}

void L2NormalizeRow(float* x, int64_t size) {
  const Floats d;
  // By the largest value first: squares of very large or small values leave the range of a float.
  FloatVec max = hn::Zero(d);
  ForEachVector(size, [&](size_t i, size_t count)
                          HWY_ATTR { max = hn::Max(max, hn::Abs(LoadFloats(x + i, count))); });
  const float largest = hn::ReduceMax(d, max);
  if (largest == 0.0f) return;
  const auto multiply = [&](float factor) HWY_ATTR {
    const FloatVec f = hn::Set(d, factor);
    ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
      StoreFloats(hn::Mul(LoadFloats(x + i, count), f), x + i, count);
    });
  };
  if (largest > 1e15f || largest < 1e-15f) {
    // In two steps: 1 / largest is not a normal float for the largest and smallest values.
    const float root = 1.0f / std::sqrt(largest);
    multiply(root);
    multiply(root);
  }
  multiply(1.0f / std::sqrt(SumOfSquares(x, size, 0.0f)));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(LayerNormRow);
HWY_EXPORT(RmsNormRow);
HWY_EXPORT(L2NormalizeRow);

// row(index) for each row, in parallel if they are worth it.
template <typename Row>
void ForEachRow(KernelContext& context, ConstMatrix x, const Row& row) {
  ParallelRanges(context, x.rows, std::max<int64_t>(1, 8192 / (x.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t index = begin; index < end; ++index) row(index);
                 });
}

}  // namespace

void NormRow(const Norm& norm, const float* x, float* y) {
  const auto size = static_cast<int64_t>(norm.weight.size());
  if (norm.kind == NormKind::kRmsNorm) {
    HWY_DYNAMIC_DISPATCH(RmsNormRow)(x, norm.weight.data(), size, norm.epsilon, y);
  } else {
    const float* bias = norm.bias.empty() ? nullptr : norm.bias.data();
    HWY_DYNAMIC_DISPATCH(LayerNormRow)(x, norm.weight.data(), bias, size, norm.epsilon, y);
  }
}

void ApplyNorm(KernelContext& context, const Norm& norm, ConstMatrix x, Matrix y) {
  DCHECK_EQ(x.rows, y.rows);
  DCHECK_EQ(x.cols, y.cols);
  DCHECK_EQ(norm.weight.size(), x.cols);
  DCHECK(norm.bias.empty() || norm.bias.size() == x.cols);
  ForEachRow(context, x, [&](int64_t row) { NormRow(norm, x.row(row), y.row(row)); });
}

void L2Normalize(KernelContext& context, Matrix x) {
  const auto normalize = HWY_DYNAMIC_POINTER(L2NormalizeRow);
  ForEachRow(context, x, [&](int64_t row) { normalize(x.row(row), x.cols); });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
