#include "engine/kernels/quantized_weights.h"

// This file gains from the later levels of AVX-512, which have an instruction for what it does,
// products of bytes, summed four by four; the first level has not.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_ZEN4 | HWY_AVX3_SPR)
#define HWY_WANT_AVX3_DL

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/prefetch.h"
#include "engine/kernels/tile_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/quantized_weights.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "engine/kernels/unroll-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_CC_
#define ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_CC_
namespace attendant::engine {
namespace {

constexpr int64_t kGroup = kQuantizationGroup;
constexpr int64_t kPanel = 64;  // rows of a panel
constexpr int64_t kStrip = 16;  // of which so many share a tile's registers, or a thread
constexpr int64_t kMaxTileStrips = kPanel / kStrip;

// Bytes of a panel's group: of its weights, and with what they are multiplied by.
constexpr size_t WeightBytes(int bits) { return kGroup * kPanel * bits / 8; }
constexpr size_t GroupBytes(int bits, bool has_minimums) {
  return WeightBytes(bits) + kPanel * sizeof(uint16_t) * (has_minimums ? 2 : 1);
}

// Rows of input, rounded to 8 bits.
struct RoundedRows {
  int64_t num_groups = 0;
  int8_t* values = nullptr;  // [rows, num_groups * 32], zeros behind the last
  float* scales = nullptr;   // [rows, num_groups]
  int32_t* sums = nullptr;   // [rows, num_groups]: of a group's values

  int8_t* row_values(int64_t row) const { return values + row * num_groups * kGroup; }
  float* row_scales(int64_t row) const { return scales + row * num_groups; }
  int32_t* row_sums(int64_t row) const { return sums + row * num_groups; }
};

// What one product's tiles have in common.
struct Product {
  const std::byte* panels;
  int64_t group_bytes;
  int64_t panel_bytes;
  int bits;
  int offset;
  bool has_minimums;
  int64_t num_groups;
  RoundedRows x;
  Epilogue epilogue;
  Matrix y;

  // A group of the panel that the strip is of.
  const std::byte* group(int64_t strip, int64_t group) const {
    return panels + strip / kMaxTileStrips * panel_bytes + group * group_bytes;
  }
  // Each of the strip's rows' own, of that group.
  const std::byte* weights(int64_t strip, int64_t group) const {
    return this->group(strip, group) + strip % kMaxTileStrips * kStrip * 4;
  }
  const uint16_t* scales(int64_t strip, int64_t group) const {
    return reinterpret_cast<const uint16_t*>(this->group(strip, group) + WeightBytes(bits)) +
           strip % kMaxTileStrips * kStrip;
  }
  const uint16_t* minimums(int64_t strip, int64_t group) const {
    return scales(strip, group) + kPanel;
  }
};

// Rows whose sums wait in a thread's memory while the weights that they share are in its cache.
constexpr int64_t kRowsTogether = 64;
// Groups of a panel that stay in the second cache for all of those rows. They are not made to fit
// the first: a machine foresees a long stream from the second, and short ones not at all.
constexpr int64_t kGroupsTogether = 64;

constexpr size_t kSumsBytes = kRowsTogether * kPanel * sizeof(float);

}  // namespace
}  // namespace attendant::engine
#endif  // ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_CC_

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

using Ints = hn::Rebind<int32_t, Floats>;
using IntVec = hn::Vec<Ints>;
using Bytes = hn::Repartition<uint8_t, Floats>;
using ByteVec = hn::Vec<Bytes>;
using SignedBytes = hn::Repartition<int8_t, Floats>;
using SignedByteVec = hn::Vec<SignedBytes>;

constexpr size_t kLanes = hn::MaxLanes(Floats());  // output features of a vector
static_assert(kLanes <= kStrip);
constexpr size_t kStripVectors = kStrip / kLanes;
// Rows of a tile, by the number of registers.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3_DL ? 4 : 2;

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// sum + the products of w and x, four by four.
template <int kBits>
HWY_INLINE IntVec Dot(ByteVec w, SignedByteVec x, IntVec sum) {
#if HWY_TARGET > HWY_AVX3_DL && HWY_TARGET != HWY_SSE2
  if constexpr (kBits == 4) {
    // Two products of at most 15 * 127 fit 16 bits.
    const hn::Repartition<int16_t, Floats> d16;
    const auto pairs = hn::SatWidenMulPairwiseAdd(d16, w, x);
    return hn::Add(sum, hn::WidenMulPairwiseAdd(Ints(), pairs, hn::Set(d16, 1)));
  }
#endif
  return hn::SumOfMulQuadAccumulate(Ints(), w, x, sum);
}

HWY_INLINE SignedByteVec BroadcastFour(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof(four));
  return hn::BitCast(SignedBytes(), hn::Set(Ints(), four));
}

HWY_INLINE FloatVec LoadBinary16(const uint16_t* from) {
  const hn::Rebind<hwy::float16_t, Floats> d16;
  return hn::PromoteTo(Floats(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}

// The products of kRows rows from `row` and kStrips strips of a panel from `strip`, over the groups
// [begin, end), added to sums [kRows, kStrips * 16] with `sums_stride` values from one row to the
// next. `prefetches`: what the next panel has there is asked for meanwhile.
template <int kBits, bool kHasMinimums, int kRows, int kStrips>
HWY_NOINLINE void Tile(const Product& p, int64_t row, int64_t strip, int64_t begin, int64_t end,
                       bool prefetches, float* HWY_RESTRICT sums, int64_t sums_stride) {
  constexpr size_t kGroupBytes = GroupBytes(kBits, kHasMinimums);
  constexpr size_t kStepBytes = kPanel * 4;
  const Floats d;
  const Ints di;
  // The vectors of a strip, one after the other: a tile of more registers than there are helps
  // nobody.
  for (size_t part = 0; part < kStripVectors; ++part) {
    const std::byte* weights = p.weights(strip, begin) + part * kLanes * 4;
    float* const part_sums = sums + part * kLanes;
    FloatVec sum[kRows][kStrips];
    Unroll<kRows>([&](auto r) HWY_ATTR {
      Unroll<kStrips>([&](auto v) HWY_ATTR {
        sum[r][v] = hn::LoadU(d, part_sums + r * sums_stride + v * kStrip);
      });
    });
    for (int64_t group = begin; group < end; ++group, weights += kGroupBytes) {
      if (prefetches) {
        const std::byte* next = weights + p.panel_bytes;
        for (size_t line = 0; line < kGroupBytes; line += kStepBytes) {
          Unroll<kStrips>([&](auto v) HWY_ATTR {
            hwy::Prefetch(reinterpret_cast<const uint8_t*>(next + line + v * kStrip * 4));
          });
        }
      }
      IntVec acc[kRows][kStrips];
      Unroll<kRows>([&](auto r) HWY_ATTR {
        const IntVec start =
            kHasMinimums ? hn::Zero(di) : hn::Set(di, -p.offset * p.x.row_sums(row + r)[group]);
        Unroll<kStrips>([&](auto v) HWY_ATTR { acc[r][v] = start; });
      });
      const int8_t* x = p.x.row_values(row) + group * kGroup;
      const int64_t x_stride = p.num_groups * kGroup;
      // Not a loop: compilers copy all sums around it, which takes as long as the products.
      Unroll<kBits>([&](auto step) HWY_ATTR {
        const int8_t* four = x + step * 4;
        ByteVec w[kStrips];
        Unroll<kStrips>([&](auto v) HWY_ATTR {
          const std::byte* from = weights + step * kStepBytes + v * kStrip * 4;
          w[v] = hn::LoadU(Bytes(), reinterpret_cast<const uint8_t*>(from));
        });
        if constexpr (kBits == 8) {
          Unroll<kRows>([&](auto r) HWY_ATTR {
            const SignedByteVec values = BroadcastFour(four + r * x_stride);
            Unroll<kStrips>([&](auto v)
                                HWY_ATTR { acc[r][v] = Dot<kBits>(w[v], values, acc[r][v]); });
          });
        } else {
          const ByteVec mask = hn::Set(Bytes(), 0x0f);
          const hn::Repartition<uint16_t, Floats> d16;
          ByteVec high[kStrips];
          Unroll<kStrips>([&](auto v) HWY_ATTR {
            high[v] =
                hn::And(hn::BitCast(Bytes(), hn::ShiftRight<4>(hn::BitCast(d16, w[v]))), mask);
            w[v] = hn::And(w[v], mask);
          });
          Unroll<kRows>([&](auto r) HWY_ATTR {
            const SignedByteVec first = BroadcastFour(four + r * x_stride);
            const SignedByteVec second = BroadcastFour(four + r * x_stride + kGroup / 2);
            Unroll<kStrips>([&](auto v) HWY_ATTR {
              acc[r][v] = Dot<kBits>(w[v], first, acc[r][v]);
              acc[r][v] = Dot<kBits>(high[v], second, acc[r][v]);
            });
          });
        }
      });
      FloatVec scale[kStrips];
      Unroll<kStrips>([&](auto v) HWY_ATTR {
        scale[v] = LoadBinary16(p.scales(strip + v, group) + part * kLanes);
      });
      Unroll<kRows>([&](auto r) HWY_ATTR {
        const FloatVec factor = hn::Set(d, p.x.row_scales(row + r)[group]);
        Unroll<kStrips>([&](auto v) HWY_ATTR {
          sum[r][v] = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(scale[v], factor), sum[r][v]);
        });
      });
      if constexpr (kHasMinimums) {
        Unroll<kStrips>([&](auto v) HWY_ATTR {
          scale[v] = LoadBinary16(p.minimums(strip + v, group) + part * kLanes);
        });
        Unroll<kRows>([&](auto r) HWY_ATTR {
          const FloatVec of_group = hn::Set(
              d, p.x.row_scales(row + r)[group] * static_cast<float>(p.x.row_sums(row + r)[group]));
          Unroll<kStrips>([&](auto v)
                              HWY_ATTR { sum[r][v] = hn::MulAdd(scale[v], of_group, sum[r][v]); });
        });
      }
    }
    Unroll<kRows>([&](auto r) HWY_ATTR {
      Unroll<kStrips>([&](auto v) HWY_ATTR {
        hn::StoreU(sum[r][v], d, part_sums + r * sums_stride + v * kStrip);
      });
    });
  }
}

template <int kBits, bool kHasMinimums, int kStrips>
void MultiplyTiles(const Product& p, int64_t strip, float* HWY_RESTRICT sums) {
  constexpr int64_t kWidth = kStrips * kStrip;
  const int64_t feature = strip * kStrip;
  for (int64_t row = 0; row < p.y.rows; row += kRowsTogether) {
    const int64_t rows = std::min(p.y.rows - row, kRowsTogether);
    const Matrix y = p.y.Rows(row, rows).Cols(feature, std::min(kWidth, p.y.cols - feature));
    std::fill_n(sums, rows * kWidth, 0.0f);
    for (int64_t group = 0; group < p.num_groups; group += kGroupsTogether) {
      const int64_t end = std::min(p.num_groups, group + kGroupsTogether);
      const auto tile = [&](auto num_rows, int64_t r) HWY_ATTR {
        Tile<kBits, kHasMinimums, num_rows, kStrips>(p, row + r, strip, group, end,
                                                     !ForeseesStreams() && row + r == 0,
                                                     sums + r * kWidth, kWidth);
      };
      int64_t r = 0;
      for (; r + kTileRows <= rows; r += kTileRows) {
        if (end == p.num_groups) PrefetchToWrite(y.Rows(r, kTileRows));
        tile(Constant<kTileRows>(), r);
      }
      if (kTileRows > 2 && r + 2 <= rows) {
        tile(Constant<2>(), r);
        r += 2;
      }
      if (r < rows) tile(Constant<1>(), r);
    }
    ApplyEpilogue(p.epilogue, sums, kWidth, feature, y);
  }
}

template <int kBits, bool kHasMinimums>
void MultiplyRange(const Product& p, int64_t begin, int64_t end, float* sums) {
  while (begin < end) {
    const int64_t of_panel = std::min(end - begin, kMaxTileStrips - begin % kMaxTileStrips);
    if (of_panel == kMaxTileStrips) {
      MultiplyTiles<kBits, kHasMinimums, kMaxTileStrips>(p, begin, sums);
      begin += kMaxTileStrips;
    } else if (of_panel >= 2) {
      MultiplyTiles<kBits, kHasMinimums, 2>(p, begin, sums);
      begin += 2;
    } else {
      MultiplyTiles<kBits, kHasMinimums, 1>(p, begin, sums);
      begin += 1;
    }
  }
}

// The strips [begin, end); `sums` is the thread's own.
void MultiplyStrips(const Product& p, int64_t begin, int64_t end, float* sums) {
  if (p.bits == 8) {
    p.has_minimums ? MultiplyRange<8, true>(p, begin, end, sums)
                   : MultiplyRange<8, false>(p, begin, end, sums);
  } else {
    p.has_minimums ? MultiplyRange<4, true>(p, begin, end, sums)
                   : MultiplyRange<4, false>(p, begin, end, sums);
  }
}

// How a group of a row is rounded to 8 bits.
struct Rounding {
  const float* values = nullptr;  // 32 of them, zeros behind the last; or `padded`
  float scale = 0;                // NaN if a value is not finite, and then all are as good as 0
  float inverse = 0;
  float padded[kGroup] = {};
};

// Of the group number `group` of a row of `size` values.
HWY_INLINE void FindRounding(const float* x, int64_t size, int64_t group, Rounding& rounding) {
  const Floats d;
  const float* from = x + group * kGroup;
  if (const int64_t count = size - group * kGroup; count < kGroup) {
    std::fill(std::copy_n(from, count, rounding.padded), rounding.padded + kGroup, 0.0f);
    from = rounding.padded;
  }
  rounding.values = from;
  FloatVec largest = hn::Zero(d);
  auto finite = hn::Eq(largest, largest);
  for (size_t i = 0; i < kGroup; i += kLanes) {
    const FloatVec v = hn::LoadU(d, from + i);
    finite = hn::And(finite, hn::IsFinite(v));
    largest = hn::Max(largest, hn::Abs(v));
  }
  const float magnitude = hn::ReduceMax(d, largest);
  const bool is_finite = hn::AllTrue(d, finite);
  // Smaller ones are as good as 0, and their inverse may be infinite.
  const bool is_zero = !(magnitude >= 1e-30f) || !is_finite;
  rounding.inverse = is_zero ? 0.0f : 127.0f / magnitude;
  rounding.scale = !is_finite ? std::numeric_limits<float>::quiet_NaN()
                   : is_zero  ? 0.0f
                              : magnitude / 127.0f;
}

// Values of a group from `i` on, rounded.
HWY_INLINE IntVec Round(const Rounding& rounding, size_t i) {
  const Floats d;
  // A value that is not finite makes the scale NaN: what it is rounded to does not matter.
  const bool is_zero = rounding.inverse == 0;
  const FloatVec v = is_zero ? hn::Zero(d) : hn::LoadU(d, rounding.values + i);
  return hn::NearestInt(hn::Mul(v, hn::Set(d, rounding.inverse)));
}

// Rounds a row; `size` <= 32 * the number of groups.
void RoundRow(const float* x, int64_t size, const RoundedRows& to, int64_t row) {
  const Ints di;
  const hn::Rebind<int8_t, Floats> d8;
  int8_t* values = to.row_values(row);
  Rounding rounding;
  for (int64_t group = 0; group < to.num_groups; ++group, values += kGroup) {
    FindRounding(x, size, group, rounding);
    IntVec sum = hn::Zero(di);
    for (size_t i = 0; i < kGroup; i += kLanes) {
      const IntVec rounded = Round(rounding, i);
      sum = hn::Add(sum, rounded);
      hn::StoreU(hn::DemoteTo(d8, rounded), d8, values + i);
    }
    to.row_scales(row)[group] = rounding.scale;
    to.row_sums(row)[group] = hn::ReduceSum(di, sum);
  }
}

// The same values as bfloat16, to out [32 * num_groups].
void RoundRowWide(const float* x, int64_t size, int64_t num_groups, uint16_t* out) {
  const Floats d;
  Rounding rounding;
  for (int64_t group = 0; group < num_groups; ++group, out += kGroup) {
    FindRounding(x, size, group, rounding);
    const FloatVec scale = hn::Set(d, rounding.scale);
    for (size_t i = 0; i < kGroup; i += kLanes) {
      StoreFloats(hn::Mul(hn::ConvertTo(d, Round(rounding, i)), scale), out + i, kLanes);
    }
  }
}

// A panel as bfloat16 in pairs of rows: value (k, j) at (k / 2) * 128 + 2 * j + k % 2.
void Unpack(const Product& p, int64_t panel, uint16_t* out) {
  const Floats d;
  const Ints di;
  const hn::Rebind<uint32_t, Floats> du;
  const auto round = [&](FloatVec v) HWY_ATTR {  // to the upper half, ties to even
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    return hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
  };
  const FloatVec offset = hn::Set(d, static_cast<float>(-p.offset));
  for (int64_t group = 0; group < p.num_groups; ++group) {
    for (int64_t row = 0; row < kPanel; row += kLanes) {
      const int64_t strip = panel * kMaxTileStrips + row / kStrip, of_strip = row % kStrip;
      const auto* weights =
          reinterpret_cast<const uint8_t*>(p.weights(strip, group)) + of_strip * 4;
      const FloatVec scale = LoadBinary16(p.scales(strip, group) + of_strip);
      const FloatVec start = p.has_minimums ? LoadBinary16(p.minimums(strip, group) + of_strip)
                                            : hn::Mul(scale, offset);
      for (int step = 0; step < 8; ++step) {  // four values of each row
        const bool upper = p.bits == 4 && step >= 4;
        auto four =
            hn::BitCast(du, hn::LoadU(Bytes(), weights + (upper ? step - 4 : step) * kPanel * 4));
        if (upper) four = hn::ShiftRight<4>(four);
        const auto mask = hn::Set(du, p.bits == 4 ? 0xf : 0xff);
        const auto value = [&](auto bits) HWY_ATTR {
          const FloatVec q = hn::ConvertTo(d, hn::BitCast(di, hn::And(bits, mask)));
          return round(hn::MulAdd(q, scale, start));
        };
        const auto pair = [&](auto even, auto odd) HWY_ATTR {
          return hn::Or(hn::ShiftRight<16>(even), hn::And(odd, hn::Set(du, 0xffff0000u)));
        };
        auto* to = reinterpret_cast<uint32_t*>(out) + (group * 16 + step * 2) * kPanel + row;
        hn::StoreU(pair(value(four), value(hn::ShiftRight<8>(four))), du, to);
        hn::StoreU(pair(value(hn::ShiftRight<16>(four)), value(hn::ShiftRight<24>(four))), du,
                   to + kPanel);
      }
    }
  }
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(MultiplyStrips);
HWY_EXPORT(RoundRow);
HWY_EXPORT(RoundRowWide);
HWY_EXPORT(Unpack);
HWY_EXPORT(TargetName);

static_assert(kPanel == kTilePanel && kRowsTogether == kTileBlockRows);

// The largest finite binary16.
constexpr float kMaxBinary16 = 65504.0f;

// Where value `index` of a group lies in its part of a panel, of which `row` is a row.
struct Place {
  int64_t byte;
  int shift;
};
Place PlaceOf(int bits, int64_t row, int64_t index) {
  const int64_t step = index / 4;
  if (bits == 8) return {step * kPanel * 4 + row * 4 + index % 4, 0};
  return {step % 4 * kPanel * 4 + row * 4 + index % 4, step < 4 ? 0 : 4};
}

// The binary16 nearest to scale, but one that takes `magnitude` to no more than `largest`: below
// the normal numbers the nearest may be much smaller.
uint16_t ScaleFor(float magnitude, float largest) {
  uint16_t scale = FloatToFloat16(magnitude / largest);
  if (Float16ToFloat(scale) * (largest + 0.5f) < magnitude) ++scale;
  return scale;
}

void QuantizeGroup(const float* values, int64_t count, int bits, uint8_t* quants,
                   uint16_t& scale_bits) {
  // The value of greatest magnitude, with its sign: 4 bits reach from -8 to 7, and it is what -8
  // stands for.
  float extreme = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (std::abs(values[i]) > std::abs(extreme)) extreme = values[i];
  }
  const int offset = 1 << (bits - 1);
  scale_bits = ScaleFor(std::abs(extreme), bits == 8 ? 127.0f : 8.0f);
  if (bits == 4 && extreme > 0) scale_bits |= 0x8000;  // a negative scale
  const float scale = Float16ToFloat(scale_bits);
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  const float most = static_cast<float>(offset - 1), least = bits == 8 ? -most : -most - 1;
  for (int64_t i = 0; i < count; ++i) {
    // To nearest, ties to even: there is no place for more digits.
    const float rounded = (values[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
    const float q = std::clamp(rounded, least, most);
    quants[i] = static_cast<uint8_t>(static_cast<int>(q) + offset);
  }
}

}  // namespace

absl::StatusOr<QuantizedMatrix> Quantize(KernelContext& context, ConstMatrix weight, int bits) {
  CHECK(bits == 4 || bits == 8) << bits;
  QuantizedMatrix matrix{.bits = bits, .rows = weight.rows, .cols = weight.cols};
  const int64_t num_groups = matrix.num_groups();
  matrix.quants.resize(weight.rows * weight.cols);
  matrix.scales.resize(weight.rows * num_groups);
  const float limit = kMaxBinary16 * (bits == 8 ? 127.0f : 8.0f);
  std::atomic<bool> too_large = false;
  ParallelRanges(context, weight.rows, std::max<int64_t>(1, 16384 / weight.cols),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     for (int64_t group = 0; group < num_groups; ++group) {
                       const int64_t first = group * kGroup;
                       const int64_t count = std::min(kGroup, weight.cols - first);
                       const float* values = weight.row(row) + first;
                       for (int64_t i = 0; i < count; ++i) {
                         if (!(std::abs(values[i]) <= limit)) too_large = true;
                       }
                       if (too_large) return;
                       QuantizeGroup(values, count, bits,
                                     matrix.quants.data() + row * weight.cols + first,
                                     matrix.scales[row * num_groups + group]);
                     }
                   }
                 });
  if (too_large) {
    return absl::InvalidArgumentError(absl::StrCat("a weight's magnitude is beyond ", limit,
                                                   ", the most that ", bits, " bits can hold"));
  }
  return matrix;
}

QuantizedWeights::QuantizedWeights(const Form& form)
    : bits_(form.bits),
      offset_(form.has_minimums ? 0 : 1 << (form.bits - 1)),
      has_minimums_(form.has_minimums),
      out_features_(form.out_features),
      in_features_(form.in_features),
      num_groups_((form.in_features + kGroup - 1) / kGroup),
      num_panels_((form.out_features + kPanel - 1) / kPanel) {
  CHECK(bits_ == 4 || bits_ == 8) << bits_;
  group_bytes_ = GroupBytes(bits_, has_minimums_);
  panel_bytes_ = num_groups_ * group_bytes_;
}

// The number at the end is for whoever changes the layout, or the values that Quantize chooses.
std::string QuantizedWeights::Layout() const {
  return absl::StrCat("int", bits_, has_minimums_ ? " with minimums" : "", " [", out_features_,
                      ", ", in_features_, "], panels of ", kPanel, ", 2");
}

absl::StatusOr<QuantizedWeights> QuantizedWeights::FromPacked(const Form& form,
                                                              const PackedMatrix& packed) {
  QuantizedWeights weights(form);
  RETURN_IF_ERROR(
      CheckLayout(packed, weights.Layout(), weights.num_panels_ * weights.panel_bytes_));
  weights.buffer_ = packed.bytes;
  return weights;
}

PackedMatrix QuantizedWeights::packed() const { return {Layout(), buffer_}; }

QuantizedWeights::QuantizedWeights(KernelContext& context, const QuantizedMatrix& matrix)
    : QuantizedWeights(Form{matrix.bits, matrix.has_minimums(), matrix.rows, matrix.cols}) {
  CHECK_EQ(static_cast<int64_t>(matrix.quants.size()), matrix.rows * matrix.cols);
  CHECK_EQ(static_cast<int64_t>(matrix.scales.size()), matrix.rows * num_groups_);
  CHECK(!has_minimums_ || matrix.minimums.size() == matrix.scales.size());
  AlignedBuffer buffer(num_panels_ * panel_bytes_);

  ParallelRanges(context, num_panels_, 1, [&](int64_t begin, int64_t end) {
    std::memset(buffer.data() + begin * panel_bytes_, 0, (end - begin) * panel_bytes_);
    for (int64_t row = begin * kPanel; row < std::min(end * kPanel, out_features_); ++row) {
      const uint8_t* quants = matrix.quants.data() + row * in_features_;
      std::byte* to = buffer.data() + row / kPanel * panel_bytes_;
      for (int64_t group = 0; group < num_groups_; ++group, to += group_bytes_) {
        uint8_t q[kGroup];
        const int64_t count = std::min(kGroup, in_features_ - group * kGroup);
        std::copy_n(quants + group * kGroup, count, q);
        std::fill(q + count, q + kGroup, offset_);
        if (bits_ == 4) {
          for (int64_t i = 0; i < kGroup / 2; ++i) q[i] |= q[i + kGroup / 2] << 4;
        }
        for (int step = 0; step < bits_; ++step)
          std::memcpy(to + (step * kPanel + row % kPanel) * 4, q + step * 4, 4);
        auto* scales = reinterpret_cast<uint16_t*>(to + WeightBytes(bits_)) + row % kPanel;
        const int64_t from = row * num_groups_ + group;
        scales[0] = matrix.scales[from];
        if (has_minimums_) scales[kPanel] = matrix.minimums[from];
      }
    }
  });
  buffer_ = PackedBytes(std::move(buffer));
}

namespace {

// Scratch memory, cut into aligned pieces.
class Pieces {
 public:
  template <typename T>
  int64_t Add(int64_t count) {
    const int64_t begin = end_;
    end_ = (begin + count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return begin;
  }
  int64_t size_bytes() const { return end_; }

 private:
  int64_t end_ = 0;
};

// Places for `rows` rounded rows; `scratch` is null while sizes are counted.
struct RoundedRowsPlace {
  RoundedRowsPlace(Pieces& pieces, int64_t rows, int64_t num_groups)
      : num_groups(num_groups),
        values(pieces.Add<int8_t>(rows * num_groups * kGroup)),
        scales(pieces.Add<float>(rows * num_groups)),
        sums(pieces.Add<int32_t>(rows * num_groups)) {}

  RoundedRows In(std::byte* scratch) const {
    return {.num_groups = num_groups,
            .values = reinterpret_cast<int8_t*>(scratch + values),
            .scales = reinterpret_cast<float*>(scratch + scales),
            .sums = reinterpret_cast<int32_t*>(scratch + sums)};
  }

  int64_t num_groups, values, scales, sums;
};

void RoundRows(KernelContext& context, const InputRows& x, std::byte* buffers,
               const RoundedRows& to) {
  const auto round_row = HWY_DYNAMIC_POINTER(RoundRow);
  ParallelRanges(context, x.rows(), x.grain(), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row)
      round_row(x.Row(row, thread, buffers), x.cols(), to, row);
  });
}

// For fewer bytes of weights each, times the rows, a second thread costs more than it brings.
constexpr int64_t kGrainBytes = 32768;

}  // namespace

// For fewer rows, unpacking the weights takes longer than matrix registers save.
constexpr int64_t kMinTileRows = 128;
static_assert(kMinTileRows > QuantizedWeights::kMaxIntegerRows);

void QuantizedWeights::Multiply(KernelContext& context, const InputRows& x,
                                const Epilogue& epilogue, Matrix y) const {
  DCHECK_EQ(x.cols(), in_features_);
  DCHECK_EQ(y.cols, out_features_);
  DCHECK_EQ(x.rows(), y.rows);
  // Rows come in pieces, so that scratch memory is bounded.
  constexpr int64_t kMaxRows = 1024;
  for (int64_t row = 0; row < x.rows(); row += kMaxRows) {
    const int64_t rows = std::min(x.rows() - row, kMaxRows);
    const InputRows from = x.Rows(row, rows);
    const Matrix to = y.Rows(row, rows);
    const bool in_tiles = rows >= kMinTileRows && MultiplyInTiles(context, from, epilogue, to);
    if (!in_tiles) MultiplyIntegers(context, from, epilogue, to);
  }
}

void QuantizedWeights::MultiplyIntegers(KernelContext& context, const InputRows& x,
                                        const Epilogue& epilogue, Matrix y) const {
  Pieces pieces;
  const RoundedRowsPlace place(pieces, x.rows(), num_groups_);
  const int64_t sums = pieces.Add<std::byte>(context.num_threads() * kSumsBytes);
  const int64_t buffers = pieces.Add<std::byte>(x.buffer_bytes(context));
  std::byte* scratch = context.Scratch(pieces.size_bytes());
  const Product product{.panels = buffer_.data(),
                        .group_bytes = group_bytes_,
                        .panel_bytes = panel_bytes_,
                        .bits = bits_,
                        .offset = offset_,
                        .has_minimums = has_minimums_,
                        .num_groups = num_groups_,
                        .x = place.In(scratch),
                        .epilogue = epilogue,
                        .y = y};
  RoundRows(context, x, scratch + buffers, product.x);
  const auto multiply = HWY_DYNAMIC_POINTER(MultiplyStrips);
  const int64_t num_strips = (out_features_ + kStrip - 1) / kStrip;
  const int64_t grain =
      std::max<int64_t>(1, kGrainBytes * kMaxTileStrips / (x.rows() * panel_bytes_));
  ParallelRanges(context, num_strips, grain, [&](int64_t begin, int64_t end, int thread) {
    multiply(product, begin, end, reinterpret_cast<float*>(scratch + sums + thread * kSumsBytes));
  });
}

bool QuantizedWeights::MultiplyInTiles(KernelContext& context, const InputRows& x,
                                       const Epilogue& epilogue, Matrix y) const {
  if (!HasTiles()) return false;
  const int64_t depth = num_groups_ * kGroup;
  // What is behind the last row does not matter.
  const int64_t padded_rows = (x.rows() + 15) / 16 * 16;
  const int threads = context.num_threads();
  Pieces pieces;
  const int64_t wide_rows = pieces.Add<uint16_t>(padded_rows * depth);
  Pieces own;
  const int64_t wide_panel = own.Add<uint16_t>(depth * kPanel);
  const int64_t sums = own.Add<std::byte>(kSumsBytes);
  const int64_t buffers = pieces.Add<std::byte>(x.buffer_bytes(context));
  const int64_t of_threads = pieces.Add<std::byte>(threads * own.size_bytes());
  std::byte* scratch = context.Scratch(pieces.size_bytes());

  const Product product{.panels = buffer_.data(),
                        .group_bytes = group_bytes_,
                        .panel_bytes = panel_bytes_,
                        .bits = bits_,
                        .offset = offset_,
                        .has_minimums = has_minimums_,
                        .num_groups = num_groups_,
                        .epilogue = epilogue,
                        .y = y};
  auto* wide = reinterpret_cast<uint16_t*>(scratch + wide_rows);
  std::memset(wide + x.rows() * depth, 0, (padded_rows - x.rows()) * depth * sizeof(uint16_t));
  const auto round_row = HWY_DYNAMIC_POINTER(RoundRowWide);
  ParallelRanges(context, x.rows(), x.grain(), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row)
      round_row(x.Row(row, thread, scratch + buffers), x.cols(), num_groups_, wide + row * depth);
  });

  const auto unpack = HWY_DYNAMIC_POINTER(Unpack);
  ParallelShares(context, num_panels_, [&](int64_t panel, int thread) {
    std::byte* mine = scratch + of_threads + thread * own.size_bytes();
    auto* weights = reinterpret_cast<uint16_t*>(mine + wide_panel);
    auto* tile_sums = reinterpret_cast<float*>(mine + sums);
    unpack(product, panel, weights);
    const TileScope scope;
    for (int64_t row = 0; row < x.rows(); row += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, x.rows() - row);
      MultiplyTiles(wide + row * depth, depth, (rows + 15) / 16 * 16, depth, weights, nullptr,
                    tile_sums);
      const int64_t feature = panel * kPanel;
      ApplyEpilogue(epilogue, tile_sums, kPanel, feature,
                    y.Rows(row, rows).Cols(feature, std::min(kPanel, y.cols - feature)));
    }
  });
  return true;
}

std::string QuantizedWeights::implementation() const {
  return absl::StrCat("int", bits_, ":", HWY_DYNAMIC_DISPATCH(TargetName)());
}

void QuantizedWeights::Gather(KernelContext& context, absl::Span<const int32_t> ids, float factor,
                              bool add, Matrix out) const {
  DCHECK_EQ(static_cast<int64_t>(ids.size()), out.rows);
  DCHECK_EQ(out.cols, in_features_);
  ParallelRanges(context, out.rows, std::max<int64_t>(1, 4096 / (out.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     DCHECK(ids[i] >= 0 && ids[i] < out_features_);
                     const std::byte* panel = buffer_.data() + ids[i] / kPanel * panel_bytes_;
                     const int64_t row = ids[i] % kPanel;
                     float* to = out.row(i);
                     for (int64_t col = 0; col < in_features_; ++col) {
                       const std::byte* group = panel + col / kGroup * group_bytes_;
                       const auto* scales =
                           reinterpret_cast<const uint16_t*>(group + WeightBytes(bits_)) + row;
                       const float scale = Float16ToFloat(scales[0]);
                       const Place place = PlaceOf(bits_, row, col % kGroup);
                       const int byte = static_cast<int>(group[place.byte]);
                       const int q = (byte >> place.shift) & ((1 << bits_) - 1);
                       float value = scale * static_cast<float>(q - offset_);
                       if (has_minimums_) value += Float16ToFloat(scales[kPanel]);
                       to[col] = add ? to[col] + factor * value : factor * value;
                     }
                   }
                 });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
