#ifndef ATTENDANT_ENGINE_KERNELS_INPUT_ROWS_H_
#define ATTENDANT_ENGINE_KERNELS_INPUT_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/norm.h"

namespace attendant::engine {

// The rows that a linear layer reads: as they lie in memory, or computed from what does. A layer
// that rounds its input computes each row in the thread that rounds it, right before, so that the
// row is in that thread's first cache and no loop over all of them comes in between.
//
// What is computed has the same bits as the kernel named has, called first. A view, as Matrix: it
// refers to memory, and parameters, that must outlive it.
class InputRows {
 public:
  // Any matrix is rows.
  template <typename T, std::enable_if_t<std::is_convertible_v<const T&, ConstMatrix>, int> = 0>
  InputRows(const T& x) : x_(x), cols_(x_.cols) {}

  // ApplyNorm's of x [rows, cols], whose parameters have as many values as x has columns. The
  // second writes them over x: whatever reads the input leaves x normed.
  static InputRows Normed(const Norm& norm, ConstMatrix x);
  static InputRows NormedInPlace(const Norm& norm, Matrix x);

  // GatedActivation's of gate_up [rows, 2 * cols], whose first columns may be written over.
  static InputRows Gated(Activation activation, Matrix gate_up);

  // What Linear::ApplyToBFloat16 wrote, contiguous, for the layer it is handed over to.
  static InputRows BFloat16(ConstBFloat16Matrix x);

  int64_t rows() const { return x_.rows; }
  int64_t cols() const { return cols_; }
  InputRows Rows(int64_t first, int64_t count) const;

  // The values [cols] of a row, once for each row, by the thread of the context's team of that
  // number. `buffers` has buffer_bytes, aligned as Scratch.
  const float* Row(int64_t index, int thread, std::byte* buffers) const;
  int64_t buffer_bytes(const KernelContext& context) const {
    return context.num_threads() * row_bytes();
  }

  // Null but for rows that are bfloat16, which have neither Row nor All.
  const uint16_t* bfloat16() const { return bfloat16_; }

  // How many rows are at least worth a second thread, where each is computed and then rounded.
  int64_t grain() const;

  // All rows, instead of Row, all_stride values apart. `buffer` has all_bytes, aligned as Scratch.
  ConstMatrix All(KernelContext& context, std::byte* buffer) const;
  int64_t all_bytes() const;
  int64_t all_stride() const { return kind_ == Kind::kNormed ? cols_ : x_.stride; }

 private:
  enum class Kind : uint8_t { kAsTheyAre, kNormed, kNormedInPlace, kGated, kBFloat16 };

  InputRows(Kind kind, ConstMatrix x, float* written, int64_t cols)
      : kind_(kind), x_(x), written_(written), cols_(cols) {}
  // Of a buffer for one; 0 if rows need none.
  int64_t row_bytes() const;

  Kind kind_ = Kind::kAsTheyAre;
  Activation activation_ = Activation::kNone;
  ConstMatrix x_;
  float* written_ = nullptr;  // x_.data, where it may be written
  const uint16_t* bfloat16_ = nullptr;
  int64_t cols_;
  Norm norm_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_INPUT_ROWS_H_
