#ifndef ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_
#define ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_

// Products of bytes in the matrix registers of AMX (Intel, "Advanced Matrix Extensions", chapter 3
// of its ISA extensions reference). Private to this folder.

#include <cstdint>

namespace attendant::engine {

// Whether this machine has such registers, and the system lets us use them.
bool HasByteTiles();

// Sets up the calling thread's matrix registers for as long as it lives; only one at a time in a
// thread, and nothing of oneDNN's meanwhile.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// sums [rows, 64] = x [rows, depth] W, of bytes without and with a sign, exactly.
//
//   x        x_stride bytes from one row to the next
//   rows     a multiple of 16, at most 64
//   depth    a multiple of 64
//   weights  [depth / 4][64][4]
//   next     weights like these that will be wanted next, to be fetched meanwhile; or null
void MultiplyTiles(const uint8_t* x, int64_t x_stride, int64_t rows, int64_t depth,
                   const int8_t* weights, const int8_t* next, int32_t* sums);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_TILE_PRODUCT_H_
