#ifndef ATTENDANT_TESTS_BENCHMARKS_BENCHMARK_DATA_H_
#define ATTENDANT_TESTS_BENCHMARKS_BENCHMARK_DATA_H_

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/log/check.h"
#include "engine/base/cpu_topology.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// One context for the program: as many threads as the server would take, pinned.
inline KernelContext& BenchmarkContext() {
  static KernelContext& context = *new KernelContext(DefaultNumThreads());
  return context;
}

// A contiguous matrix of random values in [-1, 1), in such memory as the engine keeps activations
// in.
class RandomMatrix {
 public:
  RandomMatrix(int64_t rows, int64_t cols, uint32_t seed = 1)
      : rows_(rows), cols_(cols), values_(rows * cols * sizeof(float)) {
    std::mt19937 random(seed);
    float* values = view().data;
    for (int64_t i = 0; i < rows * cols; ++i) {
      values[i] = static_cast<float>(random()) * 0x1p-31f - 1.0f;
    }
  }

  operator Matrix() { return {reinterpret_cast<float*>(values_.data()), rows_, cols_}; }
  operator ConstMatrix() const {
    return {reinterpret_cast<const float*>(values_.data()), rows_, cols_};
  }
  Matrix view() { return *this; }

 private:
  int64_t rows_, cols_;
  AlignedBuffer values_;
};

// A benchmark of a kernel that computes wrongly means nothing.
inline void CheckNear(ConstMatrix got, ConstMatrix want, double tolerance) {
  for (int64_t row = 0; row < want.rows; ++row) {
    for (int64_t col = 0; col < want.cols; ++col) {
      CHECK_LE(std::abs(double{got.row(row)[col]} - want.row(row)[col]), tolerance)
          << "row " << row << " column " << col;
    }
  }
}

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_BENCHMARKS_BENCHMARK_DATA_H_
