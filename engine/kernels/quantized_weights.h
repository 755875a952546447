#ifndef ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_H_
#define ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/packed_matrix.h"
#include "engine/base/quantized_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/epilogue.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// The matrix in integers of `bits` (4 or 8) that is nearest to `weight`, or nearly: each group's
// scale is the smallest that reaches its value of greatest magnitude. INVALID_ARGUMENT if a value
// is too large for a binary16 scale (8.3e6 in 8 bits, 5.2e5 in 4).
absl::StatusOr<QuantizedMatrix> Quantize(KernelContext& context, ConstMatrix weight, int bits);

// A matrix of small integers as products read it, from its first byte to its last: panels of 64
// rows (output features), [groups of 32]. A group has four neighbouring values of each row
// together, [8][64][4]; in 4 bits [4][64][4], where the upper halves of the bytes are values 16 to
// 31 of the group and the lower ones 0 to 15. Behind them are its scales, [64] in binary16, and its
// minimums. The rows of the last panel that the matrix has not are zeros.
//
// Products round their input to 8 bits as well, each group of 32 of a row by its own scale, the
// greatest magnitude / 127; sums within a group are then exact, and those over groups are float.
// A row's product depends neither on the rows beside it nor on the number of threads - but for
// more than kMaxIntegerRows rows on machines with matrix registers for bfloat16 (AMX), where what
// was rounded to 8 bits is then multiplied in bfloat16, which has 8 bits and their scale.
class QuantizedWeights {
 public:
  static constexpr int64_t kMaxIntegerRows = 16;

  struct Form {
    int bits = 8;
    bool has_minimums = false;
    int64_t out_features = 0;
    int64_t in_features = 0;
  };

  QuantizedWeights(KernelContext& context, const QuantizedMatrix& matrix);
  // What packed() gave of a matrix of this form. FAILED_PRECONDITION for another.
  static absl::StatusOr<QuantizedWeights> FromPacked(const Form& form, const PackedMatrix& packed);
  PackedMatrix packed() const;

  // y [rows, out_features] = activation(x [rows, in_features] Wᵀ + bias), or added to y.
  void Multiply(KernelContext& context, const InputRows& x, const Epilogue& epilogue,
                Matrix y) const;

  // out [ids, in_features] = factor * W[ids], or added to out.
  void Gather(KernelContext& context, absl::Span<const int32_t> ids, float factor, bool add,
              Matrix out) const;

  // "int8:AVX3_DL": the form of the weights, and the instruction set of the code.
  std::string implementation() const;
  int bits() const { return bits_; }
  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  size_t size_bytes() const { return buffer_.size_bytes(); }

 private:
  explicit QuantizedWeights(const Form& form);  // without its bytes
  std::string Layout() const;
  void MultiplyIntegers(KernelContext& context, const InputRows& x, const Epilogue& epilogue,
                        Matrix y) const;
  // False if the machine has no code for it.
  bool MultiplyInTiles(KernelContext& context, const InputRows& x, const Epilogue& epilogue,
                       Matrix y) const;

  int bits_;
  int offset_;
  bool has_minimums_;
  int64_t out_features_, in_features_;
  int64_t num_groups_, num_panels_;
  int64_t group_bytes_, panel_bytes_;
  PackedBytes buffer_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_QUANTIZED_WEIGHTS_H_
