// The activations on vectors, inside one Highway target. Included by each kernel once for each
// target, after simd-inl.h, so the guard toggles.
#if defined(ATTENDANT_ENGINE_KERNELS_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTENDANT_ENGINE_KERNELS_ACTIVATION_INL_H_
#undef ATTENDANT_ENGINE_KERNELS_ACTIVATION_INL_H_
#else
#define ATTENDANT_ENGINE_KERNELS_ACTIVATION_INL_H_
#endif

#include "engine/kernels/activation.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {

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

HWY_INLINE FloatVec Activate(Activation activation, FloatVec x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return Activate<Activation::kRelu>(x);
    case Activation::kGeluErf:
      return Activate<Activation::kGeluErf>(x);
    case Activation::kGeluTanh:
      return Activate<Activation::kGeluTanh>(x);
    case Activation::kSilu:
      return Activate<Activation::kSilu>(x);
  }
  return x;
}

}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#endif  // ATTENDANT_ENGINE_KERNELS_ACTIVATION_INL_H_
