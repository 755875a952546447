#include "engine/kernels/activation.h"

#include <algorithm>

#include "absl/log/check.h"
#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/activation.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

// x / (1 + exp(-a))
HWY_INLINE FloatVec TimesSigmoid(FloatVec x, FloatVec a) {
  const Floats d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), Exp(hn::Neg(a))));
}

HWY_INLINE FloatVec GeluTanhVector(FloatVec x) {
  // (1 + tanh u) / 2 = 1 / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
  const Floats d;
  const FloatVec cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.044715f), hn::Set(d, 1.0f));
  return TimesSigmoid(x, hn::Mul(hn::Mul(x, cubic), hn::Set(d, 1.5957691216f)));
}

HWY_INLINE FloatVec GeluErfVector(FloatVec x) {
  // erf by Abramowitz and Stegun 7.1.26, within 1.5e-7.
  const Floats d;
  const FloatVec z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f));
  const FloatVec t =
      hn::Div(hn::Set(d, 1.0f), hn::MulAdd(z, hn::Set(d, 0.3275911f), hn::Set(d, 1.0f)));
  FloatVec p = hn::Set(d, 1.061405429f);
  p = hn::MulAdd(p, t, hn::Set(d, -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.254829592f));
  const FloatVec complement =
      hn::Mul(hn::Mul(p, t), Exp(hn::Neg(hn::Mul(z, z))));  // 1 - erf(|x| / sqrt 2)
  // x >= 0: x (2 - complement) / 2; x < 0: x complement / 2
  const FloatVec twice =
      hn::IfThenElse(hn::Lt(x, hn::Zero(d)), complement, hn::Sub(hn::Set(d, 2.0f), complement));
  return hn::Mul(hn::Mul(x, hn::Set(d, 0.5f)), twice);
}

template <Activation kActivation>
HWY_INLINE FloatVec Activate(FloatVec x) {
  if constexpr (kActivation == Activation::kRelu)
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(Floats())), x);
  if constexpr (kActivation == Activation::kGeluErf) return GeluErfVector(x);
  if constexpr (kActivation == Activation::kGeluTanh) return GeluTanhVector(x);
  if constexpr (kActivation == Activation::kSilu) return TimesSigmoid(x, x);
  return x;
}

template <Activation kActivation>
HWY_INLINE void Gate(const float* gate, const float* up, int64_t size, float* out) {
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec activated = Activate<kActivation>(LoadFloats(gate + i, count));
    StoreFloats(hn::Mul(activated, LoadFloats(up + i, count)), out + i, count);
  });
}

void GateRow(Activation activation, const float* gate, const float* up, int64_t size, float* out) {
  switch (activation) {
    case Activation::kNone:
      return Gate<Activation::kNone>(gate, up, size, out);
    case Activation::kRelu:
      return Gate<Activation::kRelu>(gate, up, size, out);
    case Activation::kGeluErf:
      return Gate<Activation::kGeluErf>(gate, up, size, out);
    case Activation::kGeluTanh:
      return Gate<Activation::kGeluTanh>(gate, up, size, out);
    case Activation::kSilu:
      return Gate<Activation::kSilu>(gate, up, size, out);
  }
}

void TanhRow(float* x, int64_t size) {
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec v = LoadFloats(x + i, count);
    StoreFloats(hn::IfThenElse(hn::IsNaN(v), v, hn::Tanh(Floats(), v)), x + i, count);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(GateRow);
HWY_EXPORT(TanhRow);

void GatedActivation(KernelContext& context, ConstMatrix gate_up, Activation activation,
                     Matrix out) {
  DCHECK_EQ(gate_up.rows, out.rows);
  DCHECK_EQ(gate_up.cols, 2 * out.cols);
  const auto gate_row = HWY_DYNAMIC_POINTER(GateRow);
  ParallelRanges(context, out.rows, std::max<int64_t>(1, 4096 / (out.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     gate_row(activation, gate_up.row(row), gate_up.row(row) + out.cols, out.cols,
                              out.row(row));
                   }
                 });
}

void Tanh(KernelContext& context, Matrix x) {
  const auto tanh_row = HWY_DYNAMIC_POINTER(TanhRow);
  ParallelRanges(context, x.rows, std::max<int64_t>(1, 4096 / (x.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) tanh_row(x.row(row), x.cols);
                 });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
