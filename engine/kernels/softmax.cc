#include "engine/kernels/softmax.h"

#include <cmath>
#include <limits>

#include "absl/log/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/softmax.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

// The largest value that is not NaN; -infinity if there is none.
float MaxOf(const float* x, size_t size) {
  const Floats d;
  const FloatVec lowest = hn::Neg(hn::Inf(d));
  FloatVec max = lowest;
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec v = LoadFloats(x + i, count);
    const auto valid = hn::And(hn::FirstN(d, count), hn::Eq(v, v));
    max = hn::Max(max, hn::IfThenElse(valid, v, lowest));
  });
  return hn::ReduceMax(d, max);
}

// sum(exp(x - shift)); NaN if any is.
float SumOfExp(const float* x, size_t size, float shift) {
  const Floats d;
  const FloatVec s = hn::Set(d, shift);
  FloatVec sum = hn::Zero(d);
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec e = Exp(hn::Sub(LoadFloats(x + i, count), s));
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, count), e));
  });
  return hn::ReduceSum(d, sum);
}

// The first index of `value`; 0 if there is none.
size_t IndexOf(const float* x, size_t size, float value) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec wanted = hn::Set(d, value);
  for (size_t i = 0; i < size; i += lanes) {
    const size_t count = HWY_MIN(lanes, size - i);
    const auto equal = hn::And(hn::FirstN(d, count), hn::Eq(LoadFloats(x + i, count), wanted));
    const intptr_t first = hn::FindFirstTrue(d, equal);
    if (first >= 0) return i + first;
  }
  return 0;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(MaxOf);
HWY_EXPORT(SumOfExp);
HWY_EXPORT(IndexOf);

}  // namespace

float LogSumExp(absl::Span<const float> x) {
  const float max = HWY_DYNAMIC_DISPATCH(MaxOf)(x.data(), x.size());
  // Infinite: nothing to scale by, and exp(x - x) would be NaN; but a NaN among the values is to be
  // seen.
  const float shift = std::isfinite(max) ? max : 0.0f;
  return shift + std::log(HWY_DYNAMIC_DISPATCH(SumOfExp)(x.data(), x.size(), shift));
}

int32_t ArgMax(absl::Span<const float> x) {
  DCHECK(!x.empty());
  const float max = HWY_DYNAMIC_DISPATCH(MaxOf)(x.data(), x.size());
  return static_cast<int32_t>(HWY_DYNAMIC_DISPATCH(IndexOf)(x.data(), x.size(), max));
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
