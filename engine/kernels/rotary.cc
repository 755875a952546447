#include "engine/kernels/rotary.h"

#include <algorithm>

#include "absl/log/check.h"
#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/rotary.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

using Doubles = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<Doubles>;

// sin and cos of angles up to a million or so, within a unit of a float. In double: at position
// 8192 the rounding of an angle to float would already cost 5e-4.
HWY_INLINE void SinCos(DoubleVec angle, DoubleVec& sine, DoubleVec& cosine) {
  const Doubles d;
  // angle = n pi/2 + r with |r| <= pi/4
  const DoubleVec n = hn::Round(hn::Mul(angle, hn::Set(d, 0.63661977236758134308)));
  DoubleVec r = hn::NegMulAdd(n, hn::Set(d, 1.57079632673412561417), angle);
  r = hn::NegMulAdd(n, hn::Set(d, 6.07710050650619224932e-11), r);
  const DoubleVec r2 = hn::Mul(r, r);
  DoubleVec s = hn::Set(d, 1.0 / 362880);
  s = hn::MulAdd(s, r2, hn::Set(d, -1.0 / 5040));
  s = hn::MulAdd(s, r2, hn::Set(d, 1.0 / 120));
  s = hn::MulAdd(s, r2, hn::Set(d, -1.0 / 6));
  s = hn::MulAdd(hn::Mul(s, r2), r, r);
  DoubleVec c = hn::Set(d, -1.0 / 3628800);
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0 / 40320));
  c = hn::MulAdd(c, r2, hn::Set(d, -1.0 / 720));
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0 / 24));
  c = hn::MulAdd(c, r2, hn::Set(d, -0.5));
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0));
  // The quadrant, n mod 4: 0 (s, c), 1 (c, -s), 2 (-s, -c), 3 (-c, s).
  const DoubleVec quadrant =
      hn::NegMulAdd(hn::Floor(hn::Mul(n, hn::Set(d, 0.25))), hn::Set(d, 4.0), n);
  const auto is1 = hn::Eq(quadrant, hn::Set(d, 1.0));
  const auto is2 = hn::Eq(quadrant, hn::Set(d, 2.0));
  const auto is3 = hn::Eq(quadrant, hn::Set(d, 3.0));
  const auto odd = hn::Or(is1, is3);
  const DoubleVec sine_size = hn::IfThenElse(odd, c, s);
  const DoubleVec cosine_size = hn::IfThenElse(odd, s, c);
  sine = hn::IfThenElse(hn::Or(is2, is3), hn::Neg(sine_size), sine_size);
  cosine = hn::IfThenElse(hn::Or(is1, is2), hn::Neg(cosine_size), cosine_size);
}

// angles [2, size]: the cosines, then the sines, of one token. `size` is rounded up to whole
// vectors.
void FillAngles(int32_t position, const float* inverse_frequencies, int64_t num_pairs, float scale,
                float* cosines, float* sines) {
  const Doubles d;
  const hn::Rebind<float, Doubles> df;
  const size_t lanes = hn::Lanes(d);
  const DoubleVec p = hn::Set(d, static_cast<double>(position));
  const DoubleVec factor = hn::Set(d, static_cast<double>(scale));
  for (int64_t i = 0; i < num_pairs; i += lanes) {
    const size_t count = std::min<size_t>(lanes, num_pairs - i);
    DoubleVec sine, cosine;
    SinCos(hn::Mul(p, hn::PromoteTo(d, hn::LoadN(df, inverse_frequencies + i, count))), sine,
           cosine);
    hn::StoreN(hn::DemoteTo(df, hn::Mul(cosine, factor)), df, cosines + i, count);
    hn::StoreN(hn::DemoteTo(df, hn::Mul(sine, factor)), df, sines + i, count);
  }
}

void RotateHeads(float* x, int64_t num_heads, int64_t head_dim, const float* cosines,
                 const float* sines, int64_t num_pairs) {
  for (int64_t head = 0; head < num_heads; ++head, x += head_dim) {
    float* second = x + num_pairs;
    ForEachVector(num_pairs, [&](size_t i, size_t count) HWY_ATTR {
      const FloatVec a = LoadFloats(x + i, count);
      const FloatVec b = LoadFloats(second + i, count);
      const FloatVec c = LoadFloats(cosines + i, count);
      const FloatVec s = LoadFloats(sines + i, count);
      StoreFloats(hn::NegMulAdd(b, s, hn::Mul(a, c)), x + i, count);
      StoreFloats(hn::MulAdd(a, s, hn::Mul(b, c)), second + i, count);
    });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(FillAngles);
HWY_EXPORT(RotateHeads);

void ApplyRotary(KernelContext& context, Matrix x, int32_t num_heads,
                 absl::Span<const int32_t> positions, absl::Span<const float> inverse_frequencies,
                 float scale) {
  const int64_t num_pairs = inverse_frequencies.size();
  const int64_t head_dim = x.cols / num_heads;
  DCHECK_EQ(head_dim * num_heads, x.cols);
  DCHECK_LE(2 * num_pairs, head_dim);
  DCHECK_EQ(positions.size(), x.rows);
  const auto fill_angles = HWY_DYNAMIC_POINTER(FillAngles);
  const auto rotate_heads = HWY_DYNAMIC_POINTER(RotateHeads);
  auto* angles = reinterpret_cast<float*>(context.Scratch(x.rows * 2 * num_pairs * sizeof(float)));
  ParallelRanges(
      context, x.rows, std::max<int64_t>(1, 8192 / (x.cols + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          float* cosines = angles + row * 2 * num_pairs;
          float* sines = cosines + num_pairs;
          fill_angles(positions[row], inverse_frequencies.data(), num_pairs, scale, cosines, sines);
          rotate_heads(x.row(row), num_heads, head_dim, cosines, sines, num_pairs);
        }
      });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
