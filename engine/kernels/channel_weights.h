#ifndef ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_H_
#define ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/packed_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/epilogue.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// Weights in 8 bits with one scale for each output, the greatest magnitude / 127: coarser than
// QuantizedWeights, and faster for many rows, since nothing is done between the
// first product of a sum and the last.
//
// Panels of 64 outputs, in which four neighbouring inputs of each output lie together,
// [in_features / 4][64][4]: what matrix registers (AMX) and dot products of bytes (VNNI) read.
//
// Products round each row of their input to 8 bits by a scale of its own, in the same manner (Yao
// et al., "ZeroQuant", 2022). Sums are exact, so that a row's product depends neither on the rows
// beside it, nor on the number of threads, nor on the machine.
class ChannelWeights {
 public:
  // weight [out_features, in_features]. INVALID_ARGUMENT if a value is infinite or NaN, or there
  // are more inputs than sums of 32 bits can hold (66,311).
  static absl::StatusOr<ChannelWeights> Create(KernelContext& context, ConstMatrix weight);
  // What packed() gave of a matrix of this shape. FAILED_PRECONDITION for another.
  static absl::StatusOr<ChannelWeights> FromPacked(int64_t out_features, int64_t in_features,
                                                   const PackedMatrix& packed);
  PackedMatrix packed() const { return {Layout(), buffer_}; }

  // y [rows, out_features] = activation(x [rows, in_features] Wᵀ + bias), or added to y; a row of x
  // that holds a value that is not finite gives NaN.
  void Multiply(KernelContext& context, const InputRows& x, const Epilogue& epilogue,
                Matrix y) const;

  // "int8/channel:AVX3_DL": the form of the weights, and the instruction set of the code.
  std::string implementation() const;
  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  size_t size_bytes() const { return buffer_.size_bytes(); }

 private:
  ChannelWeights(int64_t out_features, int64_t in_features);

  int64_t num_panels() const { return (out_features_ + 63) / 64; }
  size_t panels_bytes() const { return num_panels() * 64 * depth_; }
  std::string Layout() const;

  int64_t out_features_, in_features_;
  int64_t depth_;  // in_features, padded with zeros to whole matrix registers
  // The panels, and then of each output, padded to whole panels: its scale (float), then what is to
  // be taken from its sums (int32), since the input's values are 128 too large to be unsigned.
  PackedBytes buffer_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_CHANNEL_WEIGHTS_H_
