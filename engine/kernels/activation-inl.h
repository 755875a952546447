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
  // x (1 + erf(x / sqrt 2)) / 2 = x (1/2 + x p(t)), t = 2 x^2 / 25 - 1, where p was fitted for
  // |x| < 5, t of [-1, 1], so that the result is within 2e-6; beyond, erf is +-1.
  const Floats d;
  const FloatVec t = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.08f), hn::Set(d, -1.0f));
  // Even and odd powers apart: two chains of products are waited for at once.
  const FloatVec t2 = hn::Mul(t, t);
  FloatVec even = hn::Set(d, 0.0004992545f), odd = hn::Set(d, -0.0015221465f);
  even = hn::MulAdd(even, t2, hn::Set(d, 0.0019900086f));
  odd = hn::MulAdd(odd, t2, hn::Set(d, -0.0028988705f));
  even = hn::MulAdd(even, t2, hn::Set(d, 0.0061725951f));
  odd = hn::MulAdd(odd, t2, hn::Set(d, -0.0109857256f));
  even = hn::MulAdd(even, t2, hn::Set(d, 0.0164963398f));
  odd = hn::MulAdd(odd, t2, hn::Set(d, -0.0233328026f));
  even = hn::MulAdd(even, t2, hn::Set(d, 0.0314261429f));
  odd = hn::MulAdd(odd, t2, hn::Set(d, -0.0404334329f));
  even = hn::MulAdd(even, t2, hn::Set(d, 0.0515214503f));
  odd = hn::MulAdd(odd, t2, hn::Set(d, -0.0702966377f));
  even = hn::MulAdd(even, t2, hn::Set(d, 0.1413637847f));
  const FloatVec p = hn::MulAdd(odd, t, even);
  const FloatVec half = hn::Set(d, 0.5f);
  const auto beyond = hn::Gt(hn::Abs(x), hn::Set(d, 5.0f));
  const FloatVec q = hn::IfThenElse(beyond, hn::CopySign(half, x), hn::Mul(x, p));
  return hn::Mul(x, hn::Add(half, q));
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
