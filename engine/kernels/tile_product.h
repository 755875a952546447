#ifndef ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_
#define ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_

// Products in the matrix registers of AMX (Intel, "Architecture Instruction Set Extensions
// Programming Reference", chapter 3), and how products of many rows are shared between threads.
// Private to this folder.

#include <algorithm>
#include <cstdint>
#include <optional>

#include "engine/kernels/kernel_context.h"
#include "engine/kernels/parallel.h"

namespace attendant::engine {

// Whether this machine has such registers, for bytes and bfloat16, and the system lets us use them.
bool HasTiles();

// Sets up the calling thread's matrix registers for as long as it lives; only one at a time in a
// thread, and nothing of oneDNN's meanwhile.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Outputs of a panel of weights, and the most rows of a block.
inline constexpr int64_t kTilePanel = 64;
inline constexpr int64_t kTileBlockRows = 64;

// sums [rows, 64] = x [rows, depth] W: of bytes without and with a sign, exactly; or of bfloat16.
//
//   x        x_stride values from one row to the next
//   rows     a multiple of 16, at most kTileBlockRows
//   depth    a multiple of 64, or of 32 for bfloat16
//   weights  [depth / 4][64][4]; or [depth / 2][64][2]
//   next     weights like these that will be wanted next, to be fetched meanwhile; or null
void MultiplyTiles(const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const int8_t* weights, const int8_t* next, int32_t* sums);
void MultiplyTiles(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const uint16_t* weights, const uint16_t* next, float* sums);

// A product of bfloat16 of any shape that registers divide.
struct TileBlock {
  int64_t rows = 0;                       // a multiple of 16
  int64_t columns = 0;                    // a multiple of 32
  int64_t depth = 0;                      // a multiple of 32
  int64_t x_stride = 0, sums_stride = 0;  // values from one row to the next
  int64_t weights_width = 0;              // values of a whole row of weights, at least `columns`
  bool add = false;                       // to what is in sums
};
// sums [rows, columns] = x [rows, depth] W, or added to them; weights [depth / 2][width][2].
void MultiplyTiles(const TileBlock& block, const uint16_t* x, const uint16_t* weights, float* sums);

// body(thread, row, count, panel, next_panel) for each block of rows and each panel, once: rows
// [row, row + count), and which panel the thread will take next, or -1. A product takes
// `panel_bytes` of weights for each panel. in_tiles: matrix registers are set up meanwhile.
template <typename Body>
void ParallelBlocks(KernelContext& context, int64_t num_rows, int64_t num_panels,
                    int64_t panel_bytes, bool in_tiles, const Body& body) {
  // With so many blocks of rows for each thread, a thread has rows of its own: what it writes is
  // what it reads next, in its own cache. With fewer it has weights of its own, which are more to
  // read then.
  constexpr int64_t kManyBlocksPerThread = 4;
  // Weights of more bytes come from memory for every task, and so are shared by several blocks.
  constexpr int64_t kCacheBytes = int64_t{8} << 20;
  constexpr int64_t kBlocksForMemory = 4;
  // So many that a thread that another program holds up costs little.
  constexpr int64_t kTasksPerThread = 6;
  // For fewer bytes of weights, times the rows, a task costs more than it brings.
  constexpr int64_t kGrainBytes = 65536;

  const int64_t num_blocks = (num_rows + kTileBlockRows - 1) / kTileBlockRows;
  const bool by_rows = num_blocks >= kManyBlocksPerThread * context.num_threads();
  const int64_t blocks_of_rows = num_panels * panel_bytes > kCacheBytes ? kBlocksForMemory : 1;
  const int64_t blocks_at_once = by_rows ? blocks_of_rows : num_blocks;
  const int64_t row_ranges = (num_blocks + blocks_at_once - 1) / blocks_at_once;
  const int64_t wanted_tasks = kTasksPerThread * context.num_threads();
  const int64_t product_bytes = std::min(num_rows, blocks_at_once * kTileBlockRows) * panel_bytes;
  const int64_t panels_at_once =
      std::clamp(num_panels * row_ranges / wanted_tasks,
                 std::min(num_panels, 1 + kGrainBytes / product_bytes), num_panels);
  const int64_t parts = (num_panels + panels_at_once - 1) / panels_at_once;
  ParallelShares(context, row_ranges * parts, [&](int64_t task, int thread) {
    const int64_t first_row = task / parts * blocks_at_once * kTileBlockRows;
    const int64_t end_row = std::min(num_rows, first_row + blocks_at_once * kTileBlockRows);
    const int64_t first = task % parts * panels_at_once;
    const int64_t end = std::min(num_panels, first + panels_at_once);
    std::optional<TileScope> scope;
    if (in_tiles) scope.emplace();
    for (int64_t panel = first; panel < end; ++panel) {
      for (int64_t row = first_row; row < end_row; row += kTileBlockRows) {
        const bool is_last = row + kTileBlockRows >= end_row && panel + 1 < end;
        body(thread, row, std::min(kTileBlockRows, end_row - row), panel, is_last ? panel + 1 : -1);
      }
    }
  });
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_
