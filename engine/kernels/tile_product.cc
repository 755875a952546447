#include "engine/kernels/tile_product.h"

#include "absl/log/check.h"
#include "engine/kernels/onednn.h"
#include "hwy/targets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace attendant::engine {

#if defined(__x86_64__)
namespace {

#define ATTENDANT_TILES __attribute__((target("amx-tile,amx-int8")))

// Of the instruction LDTILECFG.
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

constexpr int64_t kRow = 64 * 4;  // bytes of four inputs, of all 64 outputs; or of a row of sums

// Half of a panel's rows of one step: what two registers are loaded from.
ATTENDANT_TILES inline void Fetch(const int8_t* weights) {
  for (int64_t row = 0; row < 16; ++row) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * kRow), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * kRow + 64), _MM_HINT_T0);
  }
}

// 32 rows and 32 outputs: registers 0 to 3 are sums, 4 and 5 input, 6 and 7 weights.
template <bool kFetches>
ATTENDANT_TILES inline void Multiply32(const uint8_t* x, int64_t x_stride, int64_t depth,
                                       const int8_t* weights, const int8_t* next, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth; k += 64) {
    const int8_t* w = weights + k / 4 * kRow;
    _tile_loadd(4, x + k, x_stride);
    _tile_loadd(6, w, kRow);
    _tile_loadd(7, w + 64, kRow);
    _tile_loadd(5, x + 16 * x_stride + k, x_stride);
    if constexpr (kFetches) Fetch(next + k / 4 * kRow);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + 16, kRow);
  _tile_stored(2, sums + 16 * 64, kRow);
  _tile_stored(3, sums + 16 * 64 + 16, kRow);
}

// 16 rows and 32 outputs.
template <bool kFetches>
ATTENDANT_TILES inline void Multiply16(const uint8_t* x, int64_t x_stride, int64_t depth,
                                       const int8_t* weights, const int8_t* next, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t k = 0; k < depth; k += 64) {
    const int8_t* w = weights + k / 4 * kRow;
    _tile_loadd(4, x + k, x_stride);
    _tile_loadd(6, w, kRow);
    _tile_loadd(7, w + 64, kRow);
    if constexpr (kFetches) Fetch(next + k / 4 * kRow);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + 16, kRow);
}

}  // namespace

bool HasByteTiles() {
  // Machines that have them have that vector instruction set as well; tests take it away.
  return Onednn::HasTiles() && (hwy::SupportedTargets() & HWY_AVX3_DL) != 0;
}

TileScope::TileScope() { SetUp(); }
TileScope::~TileScope() { Release(); }

ATTENDANT_TILES void MultiplyTiles(const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                                   const int8_t* weights, const int8_t* next, int32_t* sums) {
  DCHECK_EQ(rows % 16, 0);
  DCHECK_EQ(depth % 64, 0);
  for (int half = 0; half < 2; ++half) {
    // Machines do not foresee what matrix registers are loaded from. The last rows fetch what the
    // first will want then: the other half, or the next weights.
    const int8_t* w = weights + half * 128;
    const int8_t* wanted = half == 0 ? weights + 128 : next;
    for (int64_t row = 0; row < rows;) {
      const uint8_t* from = x + row * x_stride;
      int32_t* to = sums + row * 64 + half * 32;
      const int64_t count = rows - row >= 32 ? 32 : 16;
      row += count;
      const bool fetches = row == rows && wanted != nullptr;
      if (count == 32) {
        fetches ? Multiply32<true>(from, x_stride, depth, w, wanted, to)
                : Multiply32<false>(from, x_stride, depth, w, nullptr, to);
      } else {
        fetches ? Multiply16<true>(from, x_stride, depth, w, wanted, to)
                : Multiply16<false>(from, x_stride, depth, w, nullptr, to);
      }
    }
  }
}

#else  // other processors

bool HasByteTiles() { return false; }
TileScope::TileScope() = default;
TileScope::~TileScope() = default;
void MultiplyTiles(const uint8_t*, int64_t, int64_t, int64_t, const int8_t*, const int8_t*,
                   int32_t*) {
  LOG(FATAL) << "no matrix registers";
}

#endif

}  // namespace attendant::engine
