#include "engine/kernels/channel_weights.h"

// As in quantized_weights.cc: products of bytes are the later levels of AVX-512.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_ZEN4 | HWY_AVX3_SPR)
#define HWY_WANT_AVX3_DL

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/prefetch.h"
#include "engine/kernels/tile_product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/channel_weights.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/activation-inl.h"
#include "engine/kernels/simd-inl.h"
#include "engine/kernels/unroll-inl.h"
#include "hwy/highway.h"

#ifndef ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_CC_
#define ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_CC_
namespace attendant::engine {
namespace {

constexpr int64_t kPanel = kTilePanel;

// What the blocks of one product have in common.
struct ChannelProduct {
  const int8_t* panels;
  int64_t depth;
  const float* scales;          // of the outputs
  const int32_t* compensation;  // of the outputs
  const uint8_t* x;             // [rows, x_stride], 128 too large
  int64_t x_stride;
  const float* x_scales;  // [rows]
  Epilogue epilogue;
  Matrix y;

  const int8_t* panel(int64_t index) const { return panels + index * kPanel * depth; }
};

}  // namespace
}  // namespace attendant::engine
#endif  // ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_CC_

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

using Ints = hn::Rebind<int32_t, Floats>;
using IntVec = hn::Vec<Ints>;
using Bytes = hn::Repartition<uint8_t, Floats>;
using SignedBytes = hn::Repartition<int8_t, Floats>;
using SignedByteVec = hn::Vec<SignedBytes>;

constexpr size_t kLanes = hn::MaxLanes(Floats());  // outputs of a vector
// Rows and vectors of a tile, by the number of registers.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3_DL ? 4 : 2;
constexpr int kTileVectors = 4;
static_assert(kPanel % (kLanes * kTileVectors) == 0);

// The sums of kRows rows from `row` and a panel, to sums [kRows, kPanel].
template <int kRows>
HWY_INLINE void Tile(const ChannelProduct& p, int64_t row, const int8_t* panel,
                     int32_t* HWY_RESTRICT sums) {
  const Ints di;
  for (size_t part = 0; part < kPanel; part += kLanes * kTileVectors) {
    const int8_t* weights = panel + part * 4;
    const uint8_t* x = p.x + row * p.x_stride;
    IntVec acc[kRows][kTileVectors];
    Unroll<kRows>([&](auto r) HWY_ATTR {
      Unroll<kTileVectors>([&](auto v) HWY_ATTR { acc[r][v] = hn::Zero(di); });
    });
    // Four steps at a time: compilers copy all sums around the loop. The depth is a multiple of 64.
    for (int64_t k = 0; k < p.depth; k += 16, weights += kPanel * 16) {
      Unroll<4>([&](auto step) HWY_ATTR {
        SignedByteVec w[kTileVectors];
        Unroll<kTileVectors>([&](auto v) HWY_ATTR {
          w[v] = hn::LoadU(SignedBytes(), weights + step * kPanel * 4 + v * kLanes * 4);
        });
        Unroll<kRows>([&](auto r) HWY_ATTR {
          int32_t four;
          std::memcpy(&four, x + r * p.x_stride + k + step * 4, sizeof(four));
          const auto broadcast = hn::BitCast(Bytes(), hn::Set(di, four));
          Unroll<kTileVectors>([&](auto v) HWY_ATTR {
            acc[r][v] = hn::SumOfMulQuadAccumulate(di, broadcast, w[v], acc[r][v]);
          });
        });
      });
    }
    Unroll<kRows>([&](auto r) HWY_ATTR {
      Unroll<kTileVectors>([&](auto v) HWY_ATTR {
        hn::StoreU(acc[r][v], di, sums + r * kPanel + part + v * kLanes);
      });
    });
  }
}

// sums [rows, kPanel] of the rows from `row` and one panel.
void SumBlock(const ChannelProduct& p, int64_t row, int64_t rows, int64_t panel, int32_t* sums) {
  const int8_t* weights = p.panel(panel);
  const int64_t feature = panel * kPanel;
  const Matrix y = p.y.Rows(row, rows).Cols(feature, std::min(kPanel, p.y.cols - feature));
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    PrefetchToWrite(y.Rows(r, kTileRows));
    Tile<kTileRows>(p, row + r, weights, sums + r * kPanel);
  }
  if (kTileRows > 2 && r + 2 <= rows) {
    Tile<2>(p, row + r, weights, sums + r * kPanel);
    r += 2;
  }
  if (r < rows) Tile<1>(p, row + r, weights, sums + r * kPanel);
}

// Moves the sums of a block to y, 64 outputs or fewer; kWhole: so many that all vectors are whole.
template <Activation kActivation, bool kWhole>
HWY_INLINE void Finish(const ChannelProduct& p, int64_t row, int64_t rows, int64_t panel,
                       const int32_t* HWY_RESTRICT sums) {
  const Floats d;
  const Ints di;
  const int64_t feature = panel * kPanel;
  const size_t width = std::min(kPanel, p.y.cols - feature);
  const int64_t y_stride = p.y.stride;
  const float* HWY_RESTRICT row_scales = p.x_scales + row;
  const float* all_bias = p.epilogue.bias;
  const bool add = p.epilogue.add;
  // What all rows share stays in registers.
  for (size_t part = 0; part < width; part += kTileVectors * kLanes) {
    IntVec compensation[kTileVectors];
    FloatVec scale[kTileVectors], bias[kTileVectors];
    size_t counts[kTileVectors];  // of the outputs that there are
    Unroll<kTileVectors>([&](auto v) HWY_ATTR {
      const size_t i = part + v * kLanes, place = feature + i;
      counts[v] = i >= width ? 0 : std::min(kLanes, width - i);
      compensation[v] = hn::LoadU(di, p.compensation + place);
      scale[v] = hn::LoadU(d, p.scales + place);
      const bool has_bias = all_bias != nullptr && counts[v] > 0;
      bias[v] = has_bias ? hn::LoadU(d, all_bias + place) : hn::Zero(d);
    });
    float* out = p.y.row(row) + feature + part;
    const int32_t* sum = sums + part;
    for (int64_t r = 0; r < rows; ++r, out += y_stride, sum += kPanel) {
      const FloatVec row_scale = hn::Set(d, row_scales[r]);
      Unroll<kTileVectors>([&](auto v) ATTENDANT_INLINE_ATTR {
        const size_t count = kWhole ? kLanes : counts[v];
        if (!kWhole && count == 0) return;
        const IntVec exact = hn::Sub(hn::LoadU(di, sum + v * kLanes), compensation[v]);
        FloatVec y = Activate<kActivation>(
            hn::MulAdd(hn::ConvertTo(d, exact), hn::Mul(row_scale, scale[v]), bias[v]));
        float* to = out + v * kLanes;
        if constexpr (kWhole) {
          if (add) y = hn::Add(y, hn::LoadU(d, to));
          hn::StoreU(y, d, to);
        } else {
          if (add) y = hn::Add(y, LoadFloats(to, count));
          StoreFloats(y, to, count);
        }
      });
    }
  }
}

template <Activation kActivation>
HWY_INLINE void Finish(const ChannelProduct& p, int64_t row, int64_t rows, int64_t panel,
                       const int32_t* sums) {
  const bool is_whole = (panel + 1) * kPanel <= p.y.cols;
  is_whole ? Finish<kActivation, true>(p, row, rows, panel, sums)
           : Finish<kActivation, false>(p, row, rows, panel, sums);
}

void FinishBlock(const ChannelProduct& p, int64_t row, int64_t rows, int64_t panel,
                 const int32_t* sums) {
  switch (p.epilogue.activation) {
    case Activation::kNone:
      return Finish<Activation::kNone>(p, row, rows, panel, sums);
    case Activation::kRelu:
      return Finish<Activation::kRelu>(p, row, rows, panel, sums);
    case Activation::kGeluErf:
      return Finish<Activation::kGeluErf>(p, row, rows, panel, sums);
    case Activation::kGeluTanh:
      return Finish<Activation::kGeluTanh>(p, row, rows, panel, sums);
    case Activation::kSilu:
      return Finish<Activation::kSilu>(p, row, rows, panel, sums);
  }
}

// The greatest magnitude of a row; infinite or NaN if a value is.
HWY_INLINE float Magnitude(const float* x, int64_t size) {
  // As integers, of which those that stand for what is not finite are the greatest.
  const Floats d;
  const hn::Rebind<uint32_t, Floats> du;
  const auto bits = [&](FloatVec v) HWY_ATTR { return hn::BitCast(du, hn::Abs(v)); };
  auto largest = hn::Zero(du), other = largest;
  int64_t i = 0;
  constexpr auto kStep = static_cast<int64_t>(kLanes);
  for (; i + 2 * kStep <= size; i += 2 * kStep) {
    largest = hn::Max(largest, bits(hn::LoadU(d, x + i)));
    other = hn::Max(other, bits(hn::LoadU(d, x + i + kStep)));
  }
  for (; i < size; i += kStep) {
    largest = hn::Max(largest, bits(LoadFloats(x + i, std::min(kStep, size - i))));
  }
  return std::bit_cast<float>(hn::ReduceMax(du, hn::Max(largest, other)));
}

// to [depth]: the row in 8 bits, 128 too large; 128 behind the last. Returns its scale.
float RoundRow(const float* x, int64_t size, int64_t depth, uint8_t* to) {
  const Floats d;
  const hn::Rebind<uint8_t, Floats> d8;
  const float magnitude = Magnitude(x, size);
  // Smaller ones are as good as 0, and their inverse may be infinite.
  if (!(magnitude >= 1e-30f) || std::isinf(magnitude)) {
    std::memset(to, 128, depth);
    return std::isfinite(magnitude) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const FloatVec inverse = hn::Set(d, 127.0f / magnitude);
  const IntVec offset = hn::Set(Ints(), 128);
  const hn::Rebind<uint32_t, Floats> du;
  ForEachVector(size, [&](size_t i, size_t count) ATTENDANT_INLINE_ATTR {
    const IntVec rounded = hn::NearestInt(hn::Mul(LoadFloats(x + i, count), inverse));
    const auto bytes = hn::TruncateTo(d8, hn::BitCast(du, hn::Add(rounded, offset)));
    if (count == kLanes) {
      hn::StoreU(bytes, d8, to + i);
    } else {
      hn::StoreN(bytes, d8, to + i, count);
    }
  });
  std::memset(to + size, 128, depth - size);
  return magnitude / 127.0f;
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(SumBlock);
HWY_EXPORT(FinishBlock);
HWY_EXPORT(RoundRow);
HWY_EXPORT(TargetName);

constexpr int64_t kSumsBytes = kTileBlockRows * kPanel * sizeof(int32_t);
constexpr int64_t kMaxInputs = std::numeric_limits<int32_t>::max() / (255 * 127);

// Fewer rows are multiplied by our own code: matrix registers have 16.
constexpr int64_t kMinTileRows = 9;

// What a panel's outputs have beside their weights: a scale, and what is taken from their sums.
constexpr size_t kPanelOutputBytes = kPanel * (sizeof(float) + sizeof(int32_t));

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace

ChannelWeights::ChannelWeights(int64_t out_features, int64_t in_features)
    : out_features_(out_features), in_features_(in_features), depth_(RoundUp(in_features, 64)) {}

// The number at the end is for whoever changes the layout, or the values that Create chooses.
std::string ChannelWeights::Layout() const {
  return absl::StrCat("int8 [", out_features_, ", ", in_features_, "], a scale for each row, ",
                      "panels of ", kPanel, ", 1");
}

absl::StatusOr<ChannelWeights> ChannelWeights::FromPacked(int64_t out_features, int64_t in_features,
                                                          const PackedMatrix& packed) {
  ChannelWeights weights(out_features, in_features);
  RETURN_IF_ERROR(CheckLayout(packed, weights.Layout(),
                              weights.panels_bytes() + weights.num_panels() * kPanelOutputBytes));
  weights.buffer_ = packed.bytes;
  return weights;
}

absl::StatusOr<ChannelWeights> ChannelWeights::Create(KernelContext& context, ConstMatrix weight) {
  if (weight.cols > kMaxInputs) {
    return absl::InvalidArgumentError(absl::StrCat(
        weight.cols, " inputs, but with a scale for each output at most ", kMaxInputs));
  }
  ChannelWeights packed(weight.rows, weight.cols);
  AlignedBuffer buffer(packed.panels_bytes() + packed.num_panels() * kPanelOutputBytes);
  auto* scales = reinterpret_cast<float*>(buffer.data() + packed.panels_bytes());
  auto* compensation = reinterpret_cast<int32_t*>(scales + packed.num_panels() * kPanel);
  std::atomic<bool> all_finite = true;
  ParallelRanges(context, packed.num_panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      std::byte* panel = buffer.data() + index * kPanel * packed.depth_;
      std::memset(panel, 0, kPanel * packed.depth_);
      for (int64_t i = 0; i < kPanel; ++i) {
        const int64_t output = index * kPanel + i;
        scales[output] = 0;
        compensation[output] = 0;
        if (output >= weight.rows) continue;
        const float* values = weight.row(output);
        float magnitude = 0;
        for (int64_t k = 0; k < weight.cols; ++k) {
          if (!std::isfinite(values[k])) all_finite = false;
          magnitude = std::max(magnitude, std::abs(values[k]));
        }
        if (!(magnitude >= 1e-30f) || !all_finite) continue;
        const float inverse = 127.0f / magnitude;
        int32_t sum = 0;
        for (int64_t k = 0; k < weight.cols; ++k) {
          // To nearest, ties to even: there is no place for more digits.
          const float rounded = (values[k] * inverse + 0x1.8p23f) - 0x1.8p23f;
          const auto q = static_cast<int32_t>(rounded);
          panel[k / 4 * kPanel * 4 + i * 4 + k % 4] = static_cast<std::byte>(q);
          sum += q;
        }
        scales[output] = magnitude / 127.0f;
        compensation[output] = 128 * sum;
      }
    }
  });
  if (!all_finite) return absl::InvalidArgumentError("a weight is infinite or NaN");
  packed.buffer_ = PackedBytes(std::move(buffer));
  return packed;
}

void ChannelWeights::Multiply(KernelContext& context, const InputRows& x, const Epilogue& epilogue,
                              Matrix y) const {
  DCHECK_EQ(x.cols(), in_features_);
  DCHECK_EQ(y.cols, out_features_);
  DCHECK_EQ(x.rows(), y.rows);
  if (x.rows() == 0) return;
  // Rows come in pieces, so that scratch memory is bounded.
  constexpr int64_t kMaxRows = 4096;
  if (x.rows() > kMaxRows) {
    for (int64_t row = 0; row < x.rows(); row += kMaxRows) {
      const int64_t rows = std::min(x.rows() - row, kMaxRows);
      Multiply(context, x.Rows(row, rows), epilogue, y.Rows(row, rows));
    }
    return;
  }
  // Rows a power of two apart would share few places of the cache.
  const int64_t stride = depth_ % 512 == 0 ? depth_ + 64 : depth_;
  const int64_t padded_rows = RoundUp(x.rows(), 16);
  const int64_t scales_bytes = RoundUp(x.rows() * static_cast<int64_t>(sizeof(float)), 64);
  const int64_t rows_bytes = padded_rows * stride;
  const int64_t sums_bytes = context.num_threads() * kSumsBytes;
  std::byte* scratch =
      context.Scratch(rows_bytes + scales_bytes + sums_bytes + x.buffer_bytes(context));
  std::byte* buffers = scratch + rows_bytes + scales_bytes + sums_bytes;
  auto* rows = reinterpret_cast<uint8_t*>(scratch);
  auto* row_scales = reinterpret_cast<float*>(scratch + rows_bytes);
  const auto* scales = reinterpret_cast<const float*>(buffer_.data() + panels_bytes());
  const ChannelProduct product{
      .panels = reinterpret_cast<const int8_t*>(buffer_.data()),
      .depth = depth_,
      .scales = scales,
      .compensation = reinterpret_cast<const int32_t*>(scales + num_panels() * kPanel),
      .x = rows,
      .x_stride = stride,
      .x_scales = row_scales,
      .epilogue = epilogue,
      .y = y};

  const auto round_row = HWY_DYNAMIC_POINTER(RoundRow);
  ParallelRanges(context, x.rows(), x.grain(), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) {
      row_scales[row] =
          round_row(x.Row(row, thread, buffers), x.cols(), depth_, rows + row * stride);
    }
  });

  const bool in_tiles = x.rows() >= kMinTileRows && HasTiles();
  const auto sum_block = HWY_DYNAMIC_POINTER(SumBlock);
  const auto finish_block = HWY_DYNAMIC_POINTER(FinishBlock);
  ParallelBlocks(
      context, x.rows(), num_panels(), kPanel * depth_, in_tiles,
      [&](int thread, int64_t row, int64_t count, int64_t panel, int64_t next) {
        auto* sums =
            reinterpret_cast<int32_t*>(scratch + rows_bytes + scales_bytes + thread * kSumsBytes);
        if (in_tiles) {
          MultiplyTiles(rows + row * stride, stride, RoundUp(count, 16), depth_,
                        product.panel(panel), next < 0 ? nullptr : product.panel(next), sums);
        } else {
          sum_block(product, row, count, panel, sums);
        }
        finish_block(product, row, count, panel, sums);
      });
}

std::string ChannelWeights::implementation() const {
  return absl::StrCat("int8/channel:", HWY_DYNAMIC_DISPATCH(TargetName)());
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
