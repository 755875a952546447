#include "engine/kernels/tile_product.h"

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "engine/kernels/onednn.h"
#include "hwy/targets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace attendant::engine {

#if defined(__x86_64__)
namespace {

#define ATTENDANT_TILES __attribute__((target("amx-tile,amx-int8,amx-bf16")))

// Of the instruction LDTILECFG: eight registers of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

ATTENDANT_TILES void SetUp() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}
ATTENDANT_TILES void Release() { _tile_release(); }

// Bytes and bfloat16 differ in one instruction only: 64 bytes of a row of x, and as many of each of
// 16 outputs, are a step.
enum class Values { kBytes, kHalves };

constexpr int64_t kStep = 64;
constexpr int64_t kRow = kTilePanel * 4;  // bytes of a row of weights, and of a row of sums
constexpr int64_t kSums = kTilePanel;     // values of a row of sums

// Half of a panel's rows of one step: what two registers are loaded from.
ATTENDANT_TILES inline void Fetch(const std::byte* weights) {
  for (int64_t row = 0; row < 16; ++row) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * kRow), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * kRow + 64), _MM_HINT_T0);
  }
}

// 32 rows and 32 outputs: registers 0 to 3 are sums, 4 and 5 input, 6 and 7 weights.
template <Values kValues, bool kFetches>
ATTENDANT_TILES inline void Multiply32(const std::byte* x, int64_t x_stride, int64_t depth,
                                       const std::byte* weights, const std::byte* next,
                                       int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth; k += kStep) {
    const std::byte* w = weights + k / 4 * kRow;
    _tile_loadd(4, x + k, x_stride);
    _tile_loadd(6, w, kRow);
    _tile_loadd(7, w + 64, kRow);
    _tile_loadd(5, x + 16 * x_stride + k, x_stride);
    if constexpr (kFetches) Fetch(next + k / 4 * kRow);
    if constexpr (kValues == Values::kBytes) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + 16, kRow);
  _tile_stored(2, sums + 16 * kSums, kRow);
  _tile_stored(3, sums + 16 * kSums + 16, kRow);
}

// 16 rows and 32 outputs.
template <Values kValues, bool kFetches>
ATTENDANT_TILES inline void Multiply16(const std::byte* x, int64_t x_stride, int64_t depth,
                                       const std::byte* weights, const std::byte* next,
                                       int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t k = 0; k < depth; k += kStep) {
    const std::byte* w = weights + k / 4 * kRow;
    _tile_loadd(4, x + k, x_stride);
    _tile_loadd(6, w, kRow);
    _tile_loadd(7, w + 64, kRow);
    if constexpr (kFetches) Fetch(next + k / 4 * kRow);
    if constexpr (kValues == Values::kBytes) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + 16, kRow);
}

// Strides and depth in bytes.
template <Values kValues>
void Multiply(const void* x, int64_t x_stride, int64_t rows, int64_t depth, const void* weights,
              const void* next, void* sums) {
  DCHECK_EQ(rows % 16, 0);
  DCHECK_EQ(depth % kStep, 0);
  const auto* panel = static_cast<const std::byte*>(weights);
  for (int half = 0; half < 2; ++half) {
    // Machines do not foresee what matrix registers are loaded from. The last rows fetch what the
    // first will want then: the other half, or the next weights.
    const std::byte* w = panel + half * 128;
    const std::byte* wanted = half == 0 ? panel + 128 : static_cast<const std::byte*>(next);
    for (int64_t row = 0; row < rows;) {
      const std::byte* from = static_cast<const std::byte*>(x) + row * x_stride;
      int32_t* to = static_cast<int32_t*>(sums) + row * kSums + half * 32;
      const int64_t count = rows - row >= 32 ? 32 : 16;
      row += count;
      const bool fetches = row == rows && wanted != nullptr;
      if (count == 32) {
        fetches ? Multiply32<kValues, true>(from, x_stride, depth, w, wanted, to)
                : Multiply32<kValues, false>(from, x_stride, depth, w, nullptr, to);
      } else {
        fetches ? Multiply16<kValues, true>(from, x_stride, depth, w, wanted, to)
                : Multiply16<kValues, false>(from, x_stride, depth, w, nullptr, to);
      }
    }
  }
}

}  // namespace

bool HasTiles() {
  // Machines that have them have that vector instruction set as well; tests take it away.
  return Onednn::HasTiles() && (hwy::SupportedTargets() & HWY_AVX3_DL) != 0;
}

TileScope::TileScope() { SetUp(); }
TileScope::~TileScope() { Release(); }

void MultiplyTiles(const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const int8_t* weights, const int8_t* next, int32_t* sums) {
  Multiply<Values::kBytes>(x, x_stride, rows, depth, weights, next, sums);
}
void MultiplyTiles(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const uint16_t* weights, const uint16_t* next, float* sums) {
  Multiply<Values::kHalves>(x, 2 * x_stride, rows, 2 * depth, weights, next, sums);
}

#else  // other processors

bool HasTiles() { return false; }
TileScope::TileScope() { LOG(FATAL) << "no matrix registers"; }
TileScope::~TileScope() = default;
void MultiplyTiles(const uint8_t*, int64_t, int64_t, int64_t, const int8_t*, const int8_t*,
                   int32_t*) {}
void MultiplyTiles(const uint16_t*, int64_t, int64_t, int64_t, const uint16_t*, const uint16_t*,
                   float*) {}

#endif

}  // namespace attendant::engine
