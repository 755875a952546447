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

// The largest value; NaN if any is, -infinity if there is none.
float MaxOrNan(const float* x, size_t size) {
  const Floats d;
  FloatVec max = hn::Neg(hn::Inf(d));
  auto is_number = hn::Eq(max, max);
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec v = LoadFloats(x + i, count);
    is_number = hn::And(is_number, hn::Eq(v, v));  // zeros behind the last are
    max = hn::IfThenElse(hn::FirstN(d, count), hn::Max(max, v), max);
  });
  return hn::AllTrue(d, is_number) ? hn::ReduceMax(d, max)
                                   : std::numeric_limits<float>::quiet_NaN();
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

// The first index of `value`, which may be NaN; 0 if there is none.
size_t IndexOf(const float* x, size_t size, float value) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec wanted = hn::Set(d, value);
  const bool wants_nan = std::isnan(value);
  for (size_t i = 0; i < size; i += lanes) {
    const size_t count = HWY_MIN(lanes, size - i);
    const FloatVec v = LoadFloats(x + i, count);
    const auto equal = wants_nan ? hn::IsNaN(v) : hn::Eq(v, wanted);
    const intptr_t first = hn::FindFirstTrue(d, hn::And(hn::FirstN(d, count), equal));
    if (first >= 0) return i + first;
  }
  return 0;
}

void SubtractFrom(float* x, size_t size, float value) {
  const Floats d;
  const FloatVec subtracted = hn::Set(d, value);
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    StoreFloats(hn::Sub(LoadFloats(x + i, count), subtracted), x + i, count);
  });
}

// The first index whose value plus `added` is greater than `bound`; size if there is none.
size_t IndexOfSumAbove(const float* x, size_t size, float added, float bound) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec a = hn::Set(d, added), b = hn::Set(d, bound);
  for (size_t i = 0; i < size; i += lanes) {
    const size_t count = HWY_MIN(lanes, size - i);
    const auto above =
        hn::And(hn::FirstN(d, count), hn::Gt(hn::Add(a, LoadFloats(x + i, count)), b));
    const intptr_t first = hn::FindFirstTrue(d, above);
    if (first >= 0) return i + first;
  }
  return size;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(MaxOf);
HWY_EXPORT(MaxOrNan);
HWY_EXPORT(SumOfExp);
HWY_EXPORT(IndexOf);
HWY_EXPORT(SubtractFrom);
HWY_EXPORT(IndexOfSumAbove);

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
  const float max = HWY_DYNAMIC_DISPATCH(MaxOrNan)(x.data(), x.size());
  return static_cast<int32_t>(HWY_DYNAMIC_DISPATCH(IndexOf)(x.data(), x.size(), max));
}

void Subtract(absl::Span<float> x, float value) {
  HWY_DYNAMIC_DISPATCH(SubtractFrom)(x.data(), x.size(), value);
}

int64_t FindSumAbove(absl::Span<const float> x, float added, float bound) {
  return static_cast<int64_t>(
      HWY_DYNAMIC_DISPATCH(IndexOfSumAbove)(x.data(), x.size(), added, bound));
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
