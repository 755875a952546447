#include "engine/kernels/product.h"

#include <algorithm>

#include "absl/log/check.h"
#include "engine/kernels/attention_blocks.h"
#include "engine/kernels/parallel.h"

namespace attendant::engine {
namespace {

// So many rows and columns of b at a time, 256 KiB, which the second-level cache holds.
constexpr int64_t kBlock = 256;

// So many rows are worth a thread.
constexpr int64_t kGrain = 8;

}  // namespace

void Multiply(KernelContext& context, ConstMatrix a, ConstMatrix b, Matrix c) {
  CHECK_GE(a.cols, 1);
  CHECK_EQ(a.cols, b.rows);
  CHECK_EQ(c.rows, a.rows);
  CHECK_EQ(c.cols, b.cols);
  ParallelRanges(context, a.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t col = 0; col < b.cols; col += kBlock) {
      const int64_t width = std::min(kBlock, b.cols - col);
      for (int64_t depth = 0; depth < a.cols; depth += kBlock) {
        MultiplyBlock(a.row(begin) + depth, a.stride, b.row(depth) + col, b.stride,
                      c.row(begin) + col, c.stride, end - begin, width,
                      std::min(kBlock, a.cols - depth), /*add=*/depth > 0);
      }
    }
  });
}

}  // namespace attendant::engine
