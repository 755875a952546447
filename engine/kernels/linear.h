#ifndef ATTENDANT_ENGINE_KERNELS_LINEAR_H_
#define ATTENDANT_ENGINE_KERNELS_LINEAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/base/packed_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/quantized_weights.h"

namespace attendant::engine {

// The faster of kFloat32 and kBFloat16 on this machine.
DataType DefaultDataType();

// What the parts of a model that are not weights - attention, the cache - are computed and kept in
// where its weights are of `weights`: the same, or DefaultDataType() for integers.
DataType ActivationType(DataType weights);

// What decides how weights are packed, beside their shape and type.
struct Packing {
  std::string library;          // and its version: "oneDNN 3.7.2"
  std::string instruction_set;  // that it uses on this machine: "avx512_core_amx"
};
Packing CurrentPacking();

struct LinearOptions {
  // What weights are stored and multiplied in; sums are float. kFloat32; kBFloat16 (activations are
  // then rounded to bfloat16 on their way in, as well), which is taken for kFloat32 on a machine
  // that does not multiply bfloat16; kInt8 or kInt4, with a scale for every 32 weights of an
  // output, and activations rounded to 8 bits (quantized_weights.h).
  DataType dtype = DataType::kFloat32;

  // Of kInt8 only: one scale for each output instead, and for each row of activations
  // (channel_weights.h). Coarser, and faster for many rows.
  bool scale_per_output = false;

  // Applied to the sum, bias included.
  Activation activation = Activation::kNone;

  // Refuse (INTERNAL) rather than warn when oneDNN has only reference code for the product.
  bool strict = false;
};

// A linear layer whose weights were packed once, into the layout that the machine's matrix
// instructions want. y = activation(x Wᵀ + b).
class Linear {
 public:
  // weight [out_features, in_features], as checkpoints store it; bias [out_features] or empty. Both
  // are copied. INVALID_ARGUMENT if a dimension is 0, the bias does not match, or a weight is too
  // large for its type.
  static absl::StatusOr<Linear> Create(KernelContext& context, ConstMatrix weight,
                                       absl::Span<const float> bias, const LinearOptions& options);
  // The same with weights that are packed already, and may be shared; they decide the type.
  static absl::StatusOr<Linear> Create(std::shared_ptr<const QuantizedWeights> weight,
                                       absl::Span<const float> bias, const LinearOptions& options);

  // The same with what packed() gave of weights [out_features, in_features], under the same
  // options. FAILED_PRECONDITION if they would be packed otherwise now.
  static absl::StatusOr<Linear> FromPacked(KernelContext& context, const PackedMatrix& packed,
                                           int64_t out_features, int64_t in_features,
                                           absl::Span<const float> bias,
                                           const LinearOptions& options);
  // The weights, which are shared, without the bias.
  PackedMatrix packed() const;

  Linear();
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  // x [num_rows, in_features], y [num_rows, out_features]; they do not overlap. num_rows may be 0.
  void Apply(KernelContext& context, const InputRows& x, Matrix y) const;

  // The same, added to what y holds (a residual connection): y += activation(x Wᵀ + b).
  void ApplyAdd(KernelContext& context, const InputRows& x, Matrix y) const;

  // Whether so many rows can be handed from this layer to the next in bfloat16, where that takes
  // half the memory and spares a pass that rounds: where oneDNN multiplies both layers in it.
  bool HandsOverBFloat16(const Linear& next, int64_t num_rows) const;
  // As Apply, y [num_rows, out_features], contiguous, rounded to bfloat16, to nearest, ties to
  // even, subnormal values to 0. These but for the subnormal ones are the values that the next
  // layer, which is given InputRows::BFloat16 of y, would round floats to. Only where
  // HandsOverBFloat16.
  void ApplyToBFloat16(KernelContext& context, const InputRows& x, BFloat16Matrix y) const;

  // Any number of rows may come, and oneDNN makes code for each: the first Apply of a new number
  // takes up to a millisecond longer. This makes it now, for `num_rows` of contiguous x and y.
  void Prepare(KernelContext& context, int64_t num_rows, bool add = false) const;

  // Whether Apply of so many rows runs oneDNN's primitives, which ThreadTeam::RunInOneRegion does
  // not allow.
  bool UsesOnednn(int64_t num_rows) const;

  int64_t in_features() const;
  int64_t out_features() const;
  size_t packed_bytes() const;

  // The kernel that was chosen: oneDNN's name, "brg_matmul:avx512_core_bf16", or our own.
  const std::string& implementation() const;
  // Whether oneDNN fell to reference code, slow beyond use, for some number of rows until now.
  bool uses_reference_code() const;

 private:
  struct Packed;
  explicit Linear(std::unique_ptr<Packed> packed);
  std::unique_ptr<Packed> packed_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_LINEAR_H_
