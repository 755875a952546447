#ifndef ATTENDANT_TESTS_ENGINE_KERNELS_KERNEL_TESTING_H_
#define ATTENDANT_TESTS_ENGINE_KERNELS_KERNEL_TESTING_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"
#include "gtest/gtest.h"

namespace attendant::engine {

// The context of the tests: two threads, not pinned, since tests run beside each other.
KernelContext& TestContext();
// The same with one thread; made anew, as there is one OpenMP team.
void WithOneThread(const std::function<void(KernelContext&)>& body);

// Runs `body` as if on machines of one vector instruction set after the other: those that all our
// kernels have code for and this machine runs; with `with_products` also those that only kernels
// that multiply bytes and bfloat16 know.
void ForEachTarget(const std::function<void()>& body, bool with_products = false);

// A matrix of random values in [-1, 1), rows `stride` apart and off any alignment, with NaN in the
// gaps so that a kernel that reads or writes them is found. Always the same for the same sizes and
// seed.
class TestMatrix {
 public:
  TestMatrix(int64_t rows, int64_t cols, uint32_t seed = 1, int64_t gap = 0);

  Matrix view() { return {values_.data() + 1, rows_, cols_, stride_}; }
  ConstMatrix view() const { return {values_.data() + 1, rows_, cols_, stride_}; }
  operator Matrix() { return view(); }
  operator ConstMatrix() const { return view(); }
  float& operator()(int64_t row, int64_t col) { return values_[1 + row * stride_ + col]; }
  float operator()(int64_t row, int64_t col) const { return values_[1 + row * stride_ + col]; }

  // Rounds every value to what `dtype` can hold.
  void Round(DataType dtype);
  // Whether the gaps still hold what they held.
  bool GapsUntouched() const;

 private:
  int64_t rows_, cols_, stride_;
  std::vector<float> values_;
};

// |got - want| <= tolerance for every value; and a NaN is equal to nothing.
::testing::AssertionResult AllNear(ConstMatrix got, ConstMatrix want, double tolerance);

// eps of a float's rounding, 2^-24, times the number of roundings that a sum of `terms` products of
// values in [-1, 1) can suffer, times those products' sum; the constant 2 is for what follows the
// sum.
inline double SumTolerance(int64_t terms) { return 2 * 0x1p-24 * static_cast<double>(terms + 8); }

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_KERNELS_KERNEL_TESTING_H_
