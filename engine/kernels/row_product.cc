#include "engine/kernels/row_product.h"

// This file gains from the level of AVX-512 that multiplies bfloat16, which Highway has under two
// names.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL)

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/log/check.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/prefetch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/row_product.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/activation-inl.h"
#include "engine/kernels/simd-inl.h"
#include "engine/kernels/unroll-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_CC_
#define ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_CC_
namespace attendant::engine {
namespace {

struct RowProduct {
  WeightPanels weights;
  const void* x;
  int64_t x_stride;
  const float* bias;
  Activation activation;
  bool add;
  Matrix y;
  bool prefetches;
};

// Outputs that are computed at once.
constexpr int64_t kTogether = 16;

}  // namespace
}  // namespace attendant::engine
#endif  // ATTENDANT_ENGINE_KERNELS_ROW_PRODUCT_CC_

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kLanes = hn::MaxLanes(Floats());

// sum + w x, where both are of type T; a bfloat16 vector holds pairs, whose products are summed.
template <typename T, typename W, typename X>
HWY_INLINE FloatVec Accumulate(W w, X x, FloatVec sum) {
  const Floats d;
  if constexpr (std::is_same_v<T, float>) {
    return hn::MulAdd(w, x, sum);
  } else {
#if HWY_NATIVE_DOT_BF16
    FloatVec unused = hn::Zero(d);
    return hn::ReorderWidenMulAccumulate(d, w, x, sum, unused);
#else
    return hn::MulOddAdd(d, w, x, hn::MulEvenAdd(d, w, x, sum));
#endif
  }
}

template <typename T>
HWY_INLINE auto LoadWeights(const T* from) {
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(Floats(), from);
  } else {
    const hn::Repartition<hwy::bfloat16_t, Floats> d;
    return hn::LoadU(d, reinterpret_cast<const hwy::bfloat16_t*>(from));
  }
}

// One value, or one pair, in every lane.
template <typename T>
HWY_INLINE auto Broadcast(const T* from) {
  if constexpr (std::is_same_v<T, float>) {
    return hn::Set(Floats(), *from);
  } else {
    const hn::Repartition<hwy::bfloat16_t, Floats> d;
    const hn::Rebind<uint32_t, Floats> du;
    uint32_t pair;
    std::memcpy(&pair, from, sizeof(pair));
    return hn::BitCast(d, hn::Set(du, pair));
  }
}

// How far weights are asked for ahead.
constexpr size_t kFetchedBytes = 4096;

// kRows rows by kVectors vectors of outputs of each of kPanels panels, from `column` of them on.
template <typename T, int kRows, int kVectors, int kPanels, bool kPrefetches>
HWY_NOINLINE void Tile(const RowProduct& p, int64_t panel, int64_t column) {
  constexpr int64_t kPair = std::is_same_v<T, float> ? 1 : 2;
  const Floats d;
  const WeightPanels& weights = p.weights;
  const T* w =
      reinterpret_cast<const T*>(weights.data) + panel * weights.panel_stride + column * kPair;
  const T* x = static_cast<const T*>(p.x);
  const int64_t step = weights.panel_width * kPair;
  const int64_t depth = (weights.in_features + kPair - 1) / kPair;
  FloatVec sum[kPanels][kRows][kVectors];
  Unroll<kPanels>([&](auto n) HWY_ATTR {
    Unroll<kRows>([&](auto r) HWY_ATTR {
      Unroll<kVectors>([&](auto v) HWY_ATTR { sum[n][r][v] = hn::Zero(d); });
    });
  });
  for (int64_t k = 0; k < depth; ++k, w += step, x += kPair) {
    Unroll<kPanels>([&](auto n) HWY_ATTR {
      Unroll<kVectors>([&](auto v) HWY_ATTR {
        const T* from = w + n * weights.panel_stride + v * kLanes * kPair;
        if (kPrefetches) hwy::Prefetch(reinterpret_cast<const std::byte*>(from) + kFetchedBytes);
        const auto weight = LoadWeights(from);
        Unroll<kRows>([&](auto r) HWY_ATTR {
          sum[n][r][v] = Accumulate<T>(weight, Broadcast(x + r * p.x_stride), sum[n][r][v]);
        });
      });
    });
  }
  Unroll<kPanels>([&](auto n) HWY_ATTR {
    const int64_t first = (panel + n) * weights.panel_width + column;
    Unroll<kVectors>([&](auto v) HWY_ATTR {
      const int64_t output = first + v * kLanes;
      if (output >= weights.out_features) return;
      const auto count =
          static_cast<size_t>(std::min<int64_t>(kLanes, weights.out_features - output));
      Unroll<kRows>([&](auto r) HWY_ATTR {
        float* out = p.y.row(r) + output;
        FloatVec value = sum[n][r][v];
        if (p.bias != nullptr) value = hn::Add(value, LoadFloats(p.bias + output, count));
        value = Activate(p.activation, value);
        if (p.add) value = hn::Add(value, LoadFloats(out, count));
        StoreFloats(value, out, count);
      });
    });
  });
}

template <typename T, int kRows, bool kPrefetches>
void MultiplyRange(const RowProduct& p, int64_t begin, int64_t end) {
  constexpr int kVectors = 4;
  constexpr int64_t kWide = kVectors * kLanes;
  // As many sums as there are registers for: of each row, and of panels side by side, which are
  // streams of memory. Of those a core reads several faster than one, unless it foresees them.
  constexpr int kSums = kLanes == 16 ? 16 : 8;
  constexpr int kPanels = kPrefetches ? std::max(1, kSums / kVectors / kRows) : 1;
  const int64_t width = p.weights.panel_width;
  const int64_t last = end * kTogether;
  for (int64_t output = begin * kTogether; output < last;) {
    const int64_t panel = output / width, column = output % width;
    if (column == 0 && width % kWide == 0 && last - output >= kPanels * width) {
      for (int64_t wide = 0; wide < width; wide += kWide)
        Tile<T, kRows, kVectors, kPanels, kPrefetches>(p, panel, wide);
      output += kPanels * width;
    } else if (std::min(width - column, last - output) >= kWide) {
      Tile<T, kRows, kVectors, 1, kPrefetches>(p, panel, column);
      output += kWide;
    } else {
      Tile<T, kRows, kTogether / kLanes, 1, kPrefetches>(p, panel, column);
      output += kTogether;
    }
  }
}

template <typename T, bool kPrefetches>
void MultiplyRangeOf(const RowProduct& p, int64_t begin, int64_t end) {
  switch (p.y.rows) {
    case 1:
      return MultiplyRange<T, 1, kPrefetches>(p, begin, end);
    case 2:
      return MultiplyRange<T, 2, kPrefetches>(p, begin, end);
    case 3:
      return MultiplyRange<T, 3, kPrefetches>(p, begin, end);
    default:
      return MultiplyRange<T, 4, kPrefetches>(p, begin, end);
  }
}

// The outputs [begin, end), in units of kTogether.
void MultiplyOutputs(const RowProduct& p, int64_t begin, int64_t end) {
  const bool is_float = p.weights.dtype == DataType::kFloat32;
  if (p.prefetches) {
    is_float ? MultiplyRangeOf<float, true>(p, begin, end)
             : MultiplyRangeOf<uint16_t, true>(p, begin, end);
  } else {
    is_float ? MultiplyRangeOf<float, false>(p, begin, end)
             : MultiplyRangeOf<uint16_t, false>(p, begin, end);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(MultiplyOutputs);

void MultiplyRows(KernelContext& context, const WeightPanels& weights, const void* x,
                  int64_t x_stride, const float* bias, Activation activation, bool add, Matrix y) {
  DCHECK_LE(y.rows, kMaxProductRows);
  DCHECK_EQ(y.cols, weights.out_features);
  if (y.rows == 0) return;
  const RowProduct product{weights, x, x_stride, bias, activation, add, y, !ForeseesStreams()};
  const auto multiply = HWY_DYNAMIC_POINTER(MultiplyOutputs);
  // For less than some 32 KB of weights each, a second thread costs more than it brings.
  const int64_t unit_bytes = weights.in_features * kTogether * SizeOf(weights.dtype);
  ParallelRanges(context, (weights.out_features + kTogether - 1) / kTogether,
                 std::max<int64_t>(1, 32768 / unit_bytes),
                 [&](int64_t begin, int64_t end) { multiply(product, begin, end); });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
