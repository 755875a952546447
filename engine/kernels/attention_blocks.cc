#include "engine/kernels/attention_blocks.h"

// This file gains from the levels of AVX-512 that have an instruction for rounding to bfloat16:
// AMD's and Intel's.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define HWY_WANT_AVX3_ZEN4

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention_blocks.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE void StoreRounded(FloatVec v, float* to, size_t count) { StoreFloats(v, to, count); }

// Where the machine rounds by itself, numbers below the normal ones become 0.
HWY_INLINE void StoreRounded(FloatVec v, uint16_t* to, size_t count) {
#if HWY_TARGET <= HWY_AVX3_ZEN4
  const Halves d;
  const auto halves = hn::BitCast(d, hn::DemoteTo(hn::Rebind<hwy::bfloat16_t, Floats>(), v));
  if (count == hn::Lanes(d)) {
    hn::StoreU(halves, d, to);
  } else {
    hn::StoreN(halves, d, to, count);
  }
#else
  StoreFloats(v, to, count);
#endif
}

template <typename T>
HWY_INLINE void Scale(const float* from, int64_t size, float scale, T* to) {
  const FloatVec s = hn::Set(Floats(), scale);
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    StoreRounded(hn::Mul(LoadFloats(from + i, count), s), to + i, count);
  });
}

// One head's part of rows that all heads share: too short for the machine to foresee the next.
template <typename T>
HWY_INLINE void ScaleAll(const float* from, int64_t from_stride, int64_t num_rows, int64_t size,
                         float scale, T* to, int64_t to_stride) {
  constexpr int64_t kAhead = 12;
  for (int64_t i = 0; i < num_rows; ++i) {
    if (i + kAhead < num_rows) {
      const float* next = from + (i + kAhead) * from_stride;
      for (int64_t j = 0; j < size; j += 16) hwy::Prefetch(next + j);
    }
    Scale(from + i * from_stride, size, scale, to + i * to_stride);
  }
}
void ScaleToFloat(const float* from, int64_t from_stride, int64_t num_rows, int64_t size,
                  float scale, float* to, int64_t to_stride) {
  ScaleAll(from, from_stride, num_rows, size, scale, to, to_stride);
}
void ScaleToHalf(const float* from, int64_t from_stride, int64_t num_rows, int64_t size,
                 float scale, uint16_t* to, int64_t to_stride) {
  ScaleAll(from, from_stride, num_rows, size, scale, to, to_stride);
}

void ConvertToFloat(const uint16_t* from, int64_t size, float* to) {
  ForEachVector(size, [&](size_t i, size_t count)
                          HWY_ATTR { StoreFloats(LoadFloats(from + i, count), to + i, count); });
}

// 4 x 4 words from rows a, b, c, e, as columns of `to`.
HWY_INLINE void TransposeTile(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                              const uint32_t* e, int64_t width, uint32_t* to) {
  const hn::FixedTag<uint32_t, 4> d;
  const hn::FixedTag<uint64_t, 2> d64;
  const auto va = hn::LoadU(d, a), vb = hn::LoadU(d, b);
  const auto vc = hn::LoadU(d, c), ve = hn::LoadU(d, e);
  const auto ab_low = hn::BitCast(d64, hn::InterleaveLower(d, va, vb));
  const auto ab_high = hn::BitCast(d64, hn::InterleaveUpper(d, va, vb));
  const auto ce_low = hn::BitCast(d64, hn::InterleaveLower(d, vc, ve));
  const auto ce_high = hn::BitCast(d64, hn::InterleaveUpper(d, vc, ve));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_low, ce_low)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_low, ce_low)), d, to + width);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_high, ce_high)), d, to + 2 * width);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_high, ce_high)), d, to + 3 * width);
}

void Transpose(const uint32_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
               uint32_t* out) {
  // A cache line of every row, before the next: columns of `out` lie at a power of two from each
  // other, so few of them fit the cache at once.
  constexpr int64_t kLine = 16;
  const int64_t whole_rows = num_rows / 4 * 4, whole_size = size / 4 * 4;
  for (int64_t line = 0; line < whole_size; line += kLine) {
    const int64_t end = HWY_MIN(line + kLine, whole_size);
    for (int64_t j = 0; j < whole_rows; j += 4) {
      for (int64_t i = line; i < end; i += 4) {
        TransposeTile(rows[j] + i, rows[j + 1] + i, rows[j + 2] + i, rows[j + 3] + i, width,
                      out + i * width + j);
      }
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = i < whole_size ? whole_rows : 0; j < width; ++j) {
      out[i * width + j] = j < num_rows ? rows[j][i] : 0;
    }
  }
}

void Interleave(const uint16_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
                uint16_t* out) {
  const hn::ScalableTag<uint32_t> d;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  for (int64_t j = 0; j < width; j += 2, out += 2 * size) {
    if (j >= num_rows) {
      std::memset(out, 0, 2 * size * sizeof(uint16_t));
      continue;
    }
    const uint16_t* even = rows[j];
    const uint16_t* odd = j + 1 < num_rows ? rows[j + 1] : nullptr;
    auto* pairs = reinterpret_cast<uint32_t*>(out);
    ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
      const auto low = hn::PromoteTo(d, hn::LoadN(d16, even + i, count));
      const auto high =
          odd == nullptr ? hn::Zero(d) : hn::PromoteTo(d, hn::LoadN(d16, odd + i, count));
      hn::StoreN(hn::Or(low, hn::ShiftLeft<16>(high)), d, pairs + i, count);
    });
  }
}

// kRows rows of c, `count` columns, of at most two vectors.
template <int kRows>
HWY_INLINE void MultiplyTile(const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
                             int64_t ldc, int64_t k, size_t count, bool add) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const size_t count0 = HWY_MIN(lanes, count), count1 = count - count0;
  FloatVec c00 = hn::Zero(d), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00,
           c31 = c00;
  const auto step = [&](FloatVec b0, FloatVec b1, int64_t i) HWY_ATTR {
    const FloatVec a0 = hn::Set(d, a[i]);
    c00 = hn::MulAdd(a0, b0, c00);
    c01 = hn::MulAdd(a0, b1, c01);
    if constexpr (kRows > 1) {
      const FloatVec a1 = hn::Set(d, a[lda + i]);
      c10 = hn::MulAdd(a1, b0, c10);
      c11 = hn::MulAdd(a1, b1, c11);
      const FloatVec a2 = hn::Set(d, a[2 * lda + i]);
      c20 = hn::MulAdd(a2, b0, c20);
      c21 = hn::MulAdd(a2, b1, c21);
      const FloatVec a3 = hn::Set(d, a[3 * lda + i]);
      c30 = hn::MulAdd(a3, b0, c30);
      c31 = hn::MulAdd(a3, b1, c31);
    }
  };
  if (count == 2 * lanes) {
    for (int64_t i = 0; i < k; ++i)
      step(hn::LoadU(d, b + i * ldb), hn::LoadU(d, b + i * ldb + lanes), i);
  } else {
    for (int64_t i = 0; i < k; ++i) {
      step(LoadFloats(b + i * ldb, count0), LoadFloats(b + i * ldb + count0, count1), i);
    }
  }
  const auto store = [&](FloatVec v0, FloatVec v1, float* to) HWY_ATTR {
    if (add) {
      v0 = hn::Add(v0, LoadFloats(to, count0));
      v1 = hn::Add(v1, LoadFloats(to + count0, count1));
    }
    StoreFloats(v0, to, count0);
    StoreFloats(v1, to + count0, count1);
  };
  store(c00, c01, c);
  if constexpr (kRows > 1) {
    store(c10, c11, c + ldc);
    store(c20, c21, c + 2 * ldc);
    store(c30, c31, c + 3 * ldc);
  }
}

void Multiply(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
              int64_t m, int64_t n, int64_t k, bool add) {
  const int64_t step = 2 * LanesOf();
  for (int64_t j = 0; j < n; j += step) {
    const size_t count = HWY_MIN(step, n - j);
    int64_t i = 0;
    for (; i + 4 <= m; i += 4)
      MultiplyTile<4>(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, k, count, add);
    for (; i < m; ++i)
      MultiplyTile<1>(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, k, count, add);
  }
}

void AddBias(const float* bias, int64_t stride, int64_t size, float* scores) {
  if (stride == 1) {
    ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
      StoreFloats(hn::Add(LoadFloats(scores + i, count), LoadFloats(bias + i, count)), scores + i,
                  count);
    });
  } else {
    for (int64_t i = 0; i < size; ++i) scores[i] += bias[i * stride];
  }
}

// The largest of size >= 1 values.
HWY_INLINE float Largest(const float* x, int64_t size) {
  const Floats d;
  const int64_t lanes = hn::Lanes(d);
  if (size < lanes) {
    float largest = x[0];
    for (int64_t i = 1; i < size; ++i) largest = HWY_MAX(largest, x[i]);
    return largest;
  }
  FloatVec largest = hn::LoadU(d, x + size - lanes);  // overlaps the rest
  FloatVec other = largest;
  int64_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    largest = hn::Max(largest, hn::LoadU(d, x + i));
    other = hn::Max(other, hn::LoadU(d, x + i + lanes));
  }
  if (i + lanes <= size) largest = hn::Max(largest, hn::LoadU(d, x + i));
  largest = hn::Max(largest, other);
  return hn::ReduceMax(d, largest);
}

// 2^x for x <= 0 within 1.02e-4 of itself, and 1 for 0; at most 2^-126 below that; NaN for NaN.
HWY_INLINE FloatVec RoughExp2(FloatVec x) {
  const Floats d;
#if HWY_TARGET <= HWY_AVX3
  // x less its floor; the other instruction takes the floor by itself.
  constexpr int kFloor = 0x09;
  const FloatVec f{_mm512_reduce_ps(x.raw, kFloor)};
  FloatVec p = hn::MulAdd(hn::Set(d, 0.0770671974f), f, hn::Set(d, 0.227644822f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.695116825f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return FloatVec{_mm512_scalef_ps(p.raw, x.raw)};
#else
  const hn::Rebind<uint32_t, Floats> du;
  // A sum with it has the nearest integer, plus the bias of exponents, in its lowest bits.
  const FloatVec shifter = hn::Set(d, 0x1.8p23f + 127.0f);
  x = hn::Max(hn::Set(d, -126.0f), x);  // in this order NaN stays
  const FloatVec shifted = hn::Add(x, shifter);
  const FloatVec f = hn::Sub(x, hn::Sub(shifted, shifter));
  FloatVec p = hn::MulAdd(hn::Set(d, 0.05500893f), f, hn::Set(d, 0.24221095f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.69328290f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::Mul(p, hn::BitCast(d, power));
#endif
}

// weights = exp(scores - shift), shift >= scores; returns their sum.
template <typename T>
HWY_INLINE float ExpAndSum(const float* scores, int64_t size, float shift, T* weights) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec s = hn::Set(d, shift), log2_e = hn::Set(d, 1.44269504f);
  const auto exp = [&](FloatVec score) HWY_ATTR {
    const FloatVec x = hn::Sub(score, s);
    if constexpr (std::is_same_v<T, float>) return ExpOfNegative(x);
    return RoughExp2(hn::Mul(x, log2_e));
  };
  FloatVec sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  const auto step = [&](size_t i, FloatVec& sum) HWY_ATTR {
    const FloatVec e = exp(hn::LoadU(d, scores + i));
    sum = hn::Add(sum, e);
    StoreRounded(e, weights + i, lanes);
  };
  size_t i = 0;
  const auto end = static_cast<size_t>(size);
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    step(i, sum0);
    step(i + lanes, sum1);
  }
  if (i + lanes <= end) {
    step(i, sum0);
    i += lanes;
  }
  if (i < end) {
    const size_t count = end - i;
    FloatVec e = exp(LoadFloats(scores + i, count));
    e = hn::IfThenElseZero(hn::FirstN(d, count), e);
    sum1 = hn::Add(sum1, e);
    StoreRounded(e, weights + i, count);
  }
  return hn::ReduceSum(d, hn::Add(sum0, sum1));
}

template <typename T>
HWY_INLINE void Update(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                       const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                       T* weights) {
  for (int64_t row = 0; row < num_rows; ++row) {
    float* s = scores + row * stride;
    T* w = weights + row * stride;
    const int64_t begin = ranges[row].begin, end = ranges[row].end;
    const float old_largest = state.largest[row];
    float largest = old_largest;
    if (begin < end) {
      if (bias.data != nullptr) {
        const float* b = bias.data + row * bias.query_stride + begin * bias.key_stride;
        AddBias(b, bias.key_stride, end - begin, s + begin);
      }
      largest = HWY_MAX(old_largest, Largest(s + begin, end - begin));
    }
    if (begin >= end ||
        largest == -std::numeric_limits<float>::infinity()) {  // nothing seen yet, or nothing new
      std::memset(w, 0, width * sizeof(T));
      continue;
    }
    const float sum = ExpAndSum(s + begin, end - begin, largest, w + begin);
    if (begin > 0) std::memset(w, 0, begin * sizeof(T));
    if (end < width) std::memset(w + end, 0, (width - end) * sizeof(T));
    if (largest != old_largest && state.sum[row] != 0.0f) {
      const float correction = std::exp(old_largest - largest);
      float* values = state.values + row * state.head_dim;
      Scale(values, state.head_dim, correction, values);
      state.sum[row] *= correction;
    }
    state.sum[row] += sum;
    state.largest[row] = largest;
  }
}
void UpdateFloat(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                 const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                 float* weights) {
  Update(scores, stride, width, num_rows, ranges, bias, state, weights);
}
void UpdateHalf(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                uint16_t* weights) {
  Update(scores, stride, width, num_rows, ranges, bias, state, weights);
}

void Finish(const RunningSoftmax& state, int64_t num_rows, float* out, int64_t out_stride) {
  for (int64_t row = 0; row < num_rows; ++row) {
    const float sum = state.sum[row];
    Scale(state.values + row * state.head_dim, state.head_dim, sum == 0.0f ? 0.0f : 1.0f / sum,
          out + row * out_stride);
  }
}

void FillWeights(const float* scores, int64_t width, KeyRange range, const float* bias,
                 int64_t bias_stride, float largest, float sum, float* weights) {
  std::memset(weights, 0, width * sizeof(float));
  if (range.begin >= range.end || sum == 0.0f) return;
  const int64_t size = range.end - range.begin;
  float* w = weights + range.begin;
  std::memcpy(w, scores + range.begin, size * sizeof(float));
  if (bias != nullptr) AddBias(bias + range.begin * bias_stride, bias_stride, size, w);
  ExpAndSum(w, size, largest, w);
  Scale(w, size, 1.0f / sum, w);
}

// The sums of the lanes of a, b, c, d, at to[0], to[1], to[2], to[3].
HWY_INLINE void StoreSums(FloatVec a, FloatVec b, FloatVec c, FloatVec e, float* to) {
  const Floats d;
#if HWY_HAVE_SCALABLE
  to[0] = hn::ReduceSum(d, a);
  to[1] = hn::ReduceSum(d, b);
  to[2] = hn::ReduceSum(d, c);
  to[3] = hn::ReduceSum(d, e);
#else
  // Within each block of 128 bits first, all four together; then the blocks.
  const hn::RepartitionToWide<Floats> d64;
  const auto pairs = [&](FloatVec x, FloatVec y) HWY_ATTR {
    return hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, x, y), hn::InterleaveUpper(d, x, y)));
  };
  const auto ab = pairs(a, b), ce = pairs(c, e);
  const FloatVec sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, ab, ce)),
                                hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce)));
  const auto fold = [](const auto& self, auto tag, auto v) HWY_ATTR {
    if constexpr (HWY_MAX_LANES_D(decltype(tag)) == 4) {
      return v;
    } else {
      const hn::Half<decltype(tag)> half;
      return self(self, half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    }
  };
  hn::StoreU(fold(fold, d, sums), hn::FixedTag<float, 4>(), to);
#endif
}

template <typename T>
HWY_INLINE void Dots(const float* queries, int64_t num_queries, const T* keys, int64_t num_keys,
                     int64_t size, float* scores, int64_t stride) {
  const Floats d;
  const int64_t lanes = hn::Lanes(d);
  int64_t j = 0;
  for (; j + 4 <= num_keys; j += 4) {
    const T* key = keys + j * size;
    for (int64_t r = 0; r < num_queries; ++r) {
      const float* query = queries + r * size;
      FloatVec s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      const auto step = [&](int64_t i, size_t count) HWY_ATTR {
        const FloatVec q = LoadFloats(query + i, count);
        s0 = hn::MulAdd(q, LoadFloats(key + i, count), s0);
        s1 = hn::MulAdd(q, LoadFloats(key + size + i, count), s1);
        s2 = hn::MulAdd(q, LoadFloats(key + 2 * size + i, count), s2);
        s3 = hn::MulAdd(q, LoadFloats(key + 3 * size + i, count), s3);
      };
      int64_t i = 0;
      for (; i + lanes <= size; i += lanes) step(i, lanes);
      if (i < size) step(i, size - i);
      StoreSums(s0, s1, s2, s3, scores + r * stride + j);
    }
  }
  for (; j < num_keys; ++j) {
    for (int64_t r = 0; r < num_queries; ++r) {
      FloatVec sum = hn::Zero(d);
      for (int64_t i = 0; i < size; i += lanes) {
        const size_t count = HWY_MIN(lanes, size - i);
        sum = hn::MulAdd(LoadFloats(queries + r * size + i, count),
                         LoadFloats(keys + j * size + i, count), sum);
      }
      scores[r * stride + j] = hn::ReduceSum(d, sum);
    }
  }
}
void DotsFloat(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
               int64_t size, float* scores, int64_t stride) {
  Dots(queries, num_queries, keys, num_keys, size, scores, stride);
}
void DotsHalf(const float* queries, int64_t num_queries, const uint16_t* keys, int64_t num_keys,
              int64_t size, float* scores, int64_t stride) {
  Dots(queries, num_queries, keys, num_keys, size, scores, stride);
}

// Up to four vectors of one row of sums stay in registers while the values pass by.
template <typename T>
HWY_INLINE void Weighted(const float* weights, int64_t stride, int64_t num_rows, const T* values,
                         int64_t num_values, int64_t size, float* sums) {
  const Floats d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* w = weights + row * stride;
    float* to = sums + row * size;
    int64_t i = 0;
    for (; i + 4 * lanes <= size; i += 4 * lanes) {
      FloatVec s0 = hn::LoadU(d, to + i), s1 = hn::LoadU(d, to + i + lanes);
      FloatVec s2 = hn::LoadU(d, to + i + 2 * lanes), s3 = hn::LoadU(d, to + i + 3 * lanes);
      for (int64_t j = 0; j < num_values; ++j) {
        const T* v = values + j * size + i;
        const FloatVec weight = hn::Set(d, w[j]);
        s0 = hn::MulAdd(weight, LoadFloats(v, lanes), s0);
        s1 = hn::MulAdd(weight, LoadFloats(v + lanes, lanes), s1);
        s2 = hn::MulAdd(weight, LoadFloats(v + 2 * lanes, lanes), s2);
        s3 = hn::MulAdd(weight, LoadFloats(v + 3 * lanes, lanes), s3);
      }
      hn::StoreU(s0, d, to + i);
      hn::StoreU(s1, d, to + i + lanes);
      hn::StoreU(s2, d, to + i + 2 * lanes);
      hn::StoreU(s3, d, to + i + 3 * lanes);
    }
    for (; i < size; i += lanes) {
      const size_t count = HWY_MIN(lanes, size - i);
      FloatVec s = LoadFloats(to + i, count);
      for (int64_t j = 0; j < num_values; ++j) {
        s = hn::MulAdd(hn::Set(d, w[j]), LoadFloats(values + j * size + i, count), s);
      }
      StoreFloats(s, to + i, count);
    }
  }
}
void WeightedFloat(const float* weights, int64_t stride, int64_t num_rows, const float* values,
                   int64_t num_values, int64_t size, float* sums) {
  Weighted(weights, stride, num_rows, values, num_values, size, sums);
}
void WeightedHalf(const float* weights, int64_t stride, int64_t num_rows, const uint16_t* values,
                  int64_t num_values, int64_t size, float* sums) {
  Weighted(weights, stride, num_rows, values, num_values, size, sums);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(ScaleToFloat);
HWY_EXPORT(ScaleToHalf);
HWY_EXPORT(ConvertToFloat);
HWY_EXPORT(Transpose);
HWY_EXPORT(Interleave);
HWY_EXPORT(Multiply);
HWY_EXPORT(UpdateFloat);
HWY_EXPORT(UpdateHalf);
HWY_EXPORT(Finish);
HWY_EXPORT(FillWeights);
HWY_EXPORT(DotsFloat);
HWY_EXPORT(DotsHalf);
HWY_EXPORT(WeightedFloat);
HWY_EXPORT(WeightedHalf);

}  // namespace

void ScaleRow(const float* from, int64_t size, float scale, float* to) {
  HWY_DYNAMIC_DISPATCH(ScaleToFloat)(from, 0, 1, size, scale, to, 0);
}
void ScaleRow(const float* from, int64_t size, float scale, uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(ScaleToHalf)(from, 0, 1, size, scale, to, 0);
}
void ScaleRows(const float* from, int64_t from_stride, int64_t num_rows, int64_t size, float scale,
               float* to, int64_t to_stride) {
  HWY_DYNAMIC_DISPATCH(ScaleToFloat)(from, from_stride, num_rows, size, scale, to, to_stride);
}
void ScaleRows(const float* from, int64_t from_stride, int64_t num_rows, int64_t size, float scale,
               uint16_t* to, int64_t to_stride) {
  HWY_DYNAMIC_DISPATCH(ScaleToHalf)(from, from_stride, num_rows, size, scale, to, to_stride);
}
void ConvertRow(const uint16_t* from, int64_t size, float* to) {
  HWY_DYNAMIC_DISPATCH(ConvertToFloat)(from, size, to);
}
void TransposeRows(const uint32_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
                   uint32_t* out) {
  HWY_DYNAMIC_DISPATCH(Transpose)(rows, num_rows, size, width, out);
}
void InterleaveRows(const uint16_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
                    uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(Interleave)(rows, num_rows, size, width, out);
}
void MultiplyBlock(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                   int64_t m, int64_t n, int64_t k, bool add) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, lda, b, ldb, c, ldc, m, n, k, add);
}
void UpdateSoftmax(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                   const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                   float* weights) {
  HWY_DYNAMIC_DISPATCH(UpdateFloat)(scores, stride, width, num_rows, ranges, bias, state, weights);
}
void UpdateSoftmax(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                   const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                   uint16_t* weights) {
  HWY_DYNAMIC_DISPATCH(UpdateHalf)(scores, stride, width, num_rows, ranges, bias, state, weights);
}
void FinishSoftmax(const RunningSoftmax& state, int64_t num_rows, float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Finish)(state, num_rows, out, out_stride);
}
void FinalWeights(const float* scores, int64_t width, KeyRange range, const float* bias,
                  int64_t bias_stride, float largest, float sum, float* weights) {
  HWY_DYNAMIC_DISPATCH(FillWeights)(scores, width, range, bias, bias_stride, largest, sum, weights);
}
void DotRows(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
             int64_t size, float* scores, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(DotsFloat)(queries, num_queries, keys, num_keys, size, scores, stride);
}
void DotRows(const float* queries, int64_t num_queries, const uint16_t* keys, int64_t num_keys,
             int64_t size, float* scores, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(DotsHalf)(queries, num_queries, keys, num_keys, size, scores, stride);
}
void AddWeighted(const float* weights, int64_t stride, int64_t num_rows, const float* values,
                 int64_t num_values, int64_t size, float* sums) {
  HWY_DYNAMIC_DISPATCH(WeightedFloat)(weights, stride, num_rows, values, num_values, size, sums);
}
void AddWeighted(const float* weights, int64_t stride, int64_t num_rows, const uint16_t* values,
                 int64_t num_values, int64_t size, float* sums) {
  HWY_DYNAMIC_DISPATCH(WeightedHalf)(weights, stride, num_rows, values, num_values, size, sums);
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
