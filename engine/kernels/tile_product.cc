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

// Of a product; strides and depth in bytes.
struct Block {
  int64_t rows, columns, depth;
  int64_t x_stride, weights_stride, sums_stride;
  bool add;
};

// 32 columns of the weights of one step: what two registers are loaded from.
ATTENDANT_TILES inline void Fetch(const std::byte* weights, int64_t stride) {
  for (int64_t row = 0; row < 16; ++row) {
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * stride), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(weights + row * stride + 64), _MM_HINT_T0);
  }
}

// 32 rows, or 16 of them, and 32 columns: registers 0 to 3 are sums, 4 and 5 input, 6 and 7
// weights.
template <Values kValues, int kRows, bool kFetches>
ATTENDANT_TILES inline void MultiplyPart(const Block& block, const std::byte* x,
                                         const std::byte* weights, const std::byte* next,
                                         std::byte* sums) {
  std::byte* lower_sums = sums + 16 * block.sums_stride;
  if (block.add) {
    _tile_loadd(0, sums, block.sums_stride);
    _tile_loadd(1, sums + 64, block.sums_stride);
    if constexpr (kRows == 32) {
      _tile_loadd(2, lower_sums, block.sums_stride);
      _tile_loadd(3, lower_sums + 64, block.sums_stride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < block.depth; k += kStep) {
    const std::byte* w = weights + k / 4 * block.weights_stride;
    _tile_loadd(4, x + k, block.x_stride);
    _tile_loadd(6, w, block.weights_stride);
    _tile_loadd(7, w + 64, block.weights_stride);
    if constexpr (kRows == 32) _tile_loadd(5, x + 16 * block.x_stride + k, block.x_stride);
    if constexpr (kFetches) Fetch(next + k / 4 * block.weights_stride, block.weights_stride);
    if constexpr (kValues == Values::kBytes) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      if constexpr (kRows == 32) {
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      }
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kRows == 32) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  }
  _tile_stored(0, sums, block.sums_stride);
  _tile_stored(1, sums + 64, block.sums_stride);
  if constexpr (kRows == 32) {
    _tile_stored(2, lower_sums, block.sums_stride);
    _tile_stored(3, lower_sums + 64, block.sums_stride);
  }
}

template <Values kValues>
void Multiply(const Block& block, const void* x, const void* weights, const void* next,
              void* sums) {
  constexpr int64_t kColumns = 32;
  DCHECK_EQ(block.rows % 16, 0);
  DCHECK_EQ(block.columns % kColumns, 0);
  DCHECK_EQ(block.depth % kStep, 0);
  for (int64_t column = 0; column < block.columns; column += kColumns) {
    // Machines do not foresee what matrix registers are loaded from. The last rows fetch what the
    // first will want then: the next columns, or the next weights.
    const auto* w = static_cast<const std::byte*>(weights) + column * 4;
    const std::byte* wanted =
        column + kColumns < block.columns ? w + kColumns * 4 : static_cast<const std::byte*>(next);
    for (int64_t row = 0; row < block.rows;) {
      const std::byte* from = static_cast<const std::byte*>(x) + row * block.x_stride;
      std::byte* to = static_cast<std::byte*>(sums) + row * block.sums_stride + column * 4;
      const int64_t count = block.rows - row >= 32 ? 32 : 16;
      row += count;
      const bool fetches = row == block.rows && wanted != nullptr;
      if (count == 32) {
        fetches ? MultiplyPart<kValues, 32, true>(block, from, w, wanted, to)
                : MultiplyPart<kValues, 32, false>(block, from, w, nullptr, to);
      } else {
        fetches ? MultiplyPart<kValues, 16, true>(block, from, w, wanted, to)
                : MultiplyPart<kValues, 16, false>(block, from, w, nullptr, to);
      }
    }
  }
}

// Of a panel; x_stride and depth in bytes.
Block PanelBlock(int64_t x_stride, int64_t rows, int64_t depth) {
  constexpr int64_t kRowBytes = kTilePanel * 4;  // of weights, and of sums
  return {.rows = rows,
          .columns = kTilePanel,
          .depth = depth,
          .x_stride = x_stride,
          .weights_stride = kRowBytes,
          .sums_stride = kRowBytes,
          .add = false};
}

}  // namespace

bool HasTiles() {
  // Machines that have them have that vector instruction set as well; tests take it away. What the
  // context chose is asked, not the processor, whose answer (CPUID) takes a hypervisor some 10 us.
  static const size_t index = [] {
    hwy::ChosenTarget target;
    target.Update(HWY_AVX3_DL);
    return target.GetIndex();
  }();
  return Onednn::HasTiles() && hwy::GetChosenTarget().GetIndex() <= index;  // the best is 0
}

TileScope::TileScope() { SetUp(); }
TileScope::~TileScope() { Release(); }

void MultiplyTiles(const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const int8_t* weights, const int8_t* next, int32_t* sums) {
  Multiply<Values::kBytes>(PanelBlock(x_stride, rows, depth), x, weights, next, sums);
}
void MultiplyTiles(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const uint16_t* weights, const uint16_t* next, float* sums) {
  Multiply<Values::kHalves>(PanelBlock(2 * x_stride, rows, 2 * depth), x, weights, next, sums);
}
void MultiplyTiles(const TileBlock& block, const uint16_t* x, const uint16_t* weights,
                   float* sums) {
  Multiply<Values::kHalves>({.rows = block.rows,
                             .columns = block.columns,
                             .depth = 2 * block.depth,
                             .x_stride = 2 * block.x_stride,
                             .weights_stride = 4 * block.weights_width,
                             .sums_stride = 4 * block.sums_stride,
                             .add = block.add},
                            x, weights, nullptr, sums);
}

#else  // other processors

bool HasTiles() { return false; }
TileScope::TileScope() { LOG(FATAL) << "no matrix registers"; }
TileScope::~TileScope() = default;
void MultiplyTiles(const uint8_t*, int64_t, int64_t, int64_t, const int8_t*, const int8_t*,
                   int32_t*) {}
void MultiplyTiles(const uint16_t*, int64_t, int64_t, int64_t, const uint16_t*, const uint16_t*,
                   float*) {}
void MultiplyTiles(const TileBlock&, const uint16_t*, const uint16_t*, float*) {}

#endif

}  // namespace attendant::engine
