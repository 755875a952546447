// What the kernels of this folder share inside one Highway target. Included by each kernel once for
// each target, after hwy/highway.h, so the guard toggles.
#if defined(ATTENDANT_ENGINE_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTENDANT_ENGINE_KERNELS_SIMD_INL_H_
#undef ATTENDANT_ENGINE_KERNELS_SIMD_INL_H_
#else
#define ATTENDANT_ENGINE_KERNELS_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using FloatVec = hn::Vec<Floats>;
using Halves = hn::Rebind<uint16_t, Floats>;  // as many bfloat16 as Floats has floats

// Of a lambda that runs for each vector: called, it would fetch its constants and captures anew
// each time, and what is large and called twice, as by ForEachVector, compilers call.
#define ATTENDANT_INLINE_ATTR HWY_ATTR __attribute__((always_inline))

HWY_INLINE size_t LanesOf() { return hn::Lanes(Floats()); }

// body(i, lanes) for each whole vector of [0, size), then once for what is left.
template <typename Body>
HWY_INLINE void ForEachVector(size_t size, const Body& body) {
  const size_t lanes = LanesOf();
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) body(i, lanes);
  if (i < size) body(i, size - i);
}

// The first `count` of a vector's values; the others are 0.
HWY_INLINE FloatVec LoadFloats(const float* from, size_t count) {
  const Floats d;
  return count == hn::Lanes(d) ? hn::LoadU(d, from) : hn::LoadN(d, from, count);
}

HWY_INLINE void StoreFloats(FloatVec v, float* to, size_t count) {
  const Floats d;
  if (count == hn::Lanes(d)) {
    hn::StoreU(v, d, to);
  } else {
    hn::StoreN(v, d, to, count);
  }
}

// bfloat16 -> float, exact.
HWY_INLINE FloatVec Widen(hn::Vec<Halves> v) {
  const hn::Rebind<uint32_t, Floats> d;
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(d, v)));
}

HWY_INLINE FloatVec LoadFloats(const uint16_t* from, size_t count) {
  const Halves d;
  return Widen(count == hn::Lanes(d) ? hn::LoadU(d, from) : hn::LoadN(d, from, count));
}

// float -> bfloat16, to nearest, ties to even; a NaN stays one. On every target the same bits as
// FloatToBFloat16.
HWY_INLINE hn::Vec<Halves> RoundToHalves(FloatVec v) {
  const hn::Rebind<uint32_t, Floats> d;
  const auto bits = hn::BitCast(d, v);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fff))));
  const auto is_nan = hn::RebindMask(d, hn::IsNaN(v));
  return hn::TruncateTo(Halves(), hn::IfThenElse(is_nan, hn::Or(upper, hn::Set(d, 0x40)), rounded));
}

HWY_INLINE void StoreFloats(FloatVec v, uint16_t* to, size_t count) {
  const Halves d;
  if (count == hn::Lanes(d)) {
    hn::StoreU(RoundToHalves(v), d, to);
  } else {
    hn::StoreN(RoundToHalves(v), d, to, count);
  }
}

// For exp(x): n, and the polynomial that approximates exp(r), where x = n ln 2 + r with
// |r| <= ln 2 / 2, so that exp(x) = 2^n exp(r) within 2 units in the last place.
HWY_INLINE FloatVec ReduceExp(FloatVec x, FloatVec& n) {
  const Floats d;
  n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  FloatVec r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  // Of the least relative error, 1.05e-7, among those that begin with 1 + r.
  const FloatVec one = hn::Set(d, 1.0f);
  FloatVec p = hn::Set(d, 8.312526184e-3f);
  p = hn::MulAdd(p, r, hn::Set(d, 4.189011561e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6667114461e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.9999231775e-1f));
  return hn::MulAdd(hn::MulAdd(p, r, one), r, one);
}

// 2^e, into the bits of a float's exponent.
template <typename V>
HWY_INLINE FloatVec PowerOf2(V e) {
  const hn::Rebind<int32_t, Floats> di;
  return hn::BitCast(Floats(), hn::ShiftLeft<23>(hn::Add(e, hn::Set(di, 127))));
}

// p 2^n for whole n of the range of exponents.
HWY_INLINE FloatVec TimesPowerOf2(FloatVec p, FloatVec n) {
#if HWY_TARGET <= HWY_AVX3
  return FloatVec{_mm512_scalef_ps(p.raw, n.raw)};
#else
  return hn::Mul(p, PowerOf2(hn::ConvertTo(hn::Rebind<int32_t, Floats>(), n)));
#endif
}

// exp(x) for x <= 0: 1 for 0, 0 below -87.3, NaN for NaN; else within (2 + |x|) 1.2e-7 of itself,
// as x / ln 2 is rounded.
HWY_INLINE FloatVec ExpOfNegative(FloatVec x) {
  const Floats d;
  const FloatVec least = hn::Set(d, -87.33654f);
  const FloatVec y = hn::Mul(x, hn::Set(d, 1.44269504f));
  // 2^y = 2^n 2^f, where the polynomials, which begin with 1, were fitted to 2^f within 9e-8 of
  // itself.
#if HWY_TARGET <= HWY_AVX3
  constexpr int kFloor = 0x09;  // f is y less its floor, which the last instruction takes by itself
  const FloatVec f{_mm512_reduce_ps(y.raw, kFloor)};
  FloatVec p = hn::MulAdd(hn::Set(d, 1.86713005e-3f), f, hn::Set(d, 9.01702978e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.57999127e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.40164444e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.93151295e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const __mmask16 is_not_less = _mm512_cmp_ps_mask(x.raw, least.raw, _CMP_NLT_UQ);
  return FloatVec{_mm512_maskz_scalef_ps(is_not_less, p.raw, y.raw)};
#else
  const FloatVec n = hn::Round(y);
  const FloatVec f = hn::Sub(y, n);
  FloatVec p = hn::MulAdd(hn::Set(d, 1.32647273e-3f), f, hn::Set(d, 9.67151299e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.55073358e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.40222424e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.93147004e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, least), TimesPowerOf2(p, n));
#endif
}

// exp(x): 0 below -87.3, infinity above 88.7, NaN for NaN.
HWY_INLINE FloatVec Exp(FloatVec x) {
  const Floats d;
  const FloatVec too_large = hn::Set(d, 88.72283f);
  FloatVec n;
  const FloatVec p = ReduceExp(hn::Min(x, too_large), n);
#if HWY_TARGET <= HWY_AVX3
  FloatVec result = TimesPowerOf2(p, n);
#else
  // In two halves, as 2^128 is not a float.
  const hn::Rebind<int32_t, Floats> di;
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  FloatVec result = hn::Mul(hn::Mul(p, PowerOf2(half)), PowerOf2(hn::Sub(exponent, half)));
#endif
  result = hn::IfThenElse(hn::Gt(x, too_large), hn::Inf(d), result);
  result = hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33654f)), result);
  return hn::IfThenElse(hn::IsNaN(x), x, result);
}

}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#endif  // ATTENDANT_ENGINE_KERNELS_SIMD_INL_H_
