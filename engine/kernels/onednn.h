#ifndef ATTENDANT_ENGINE_KERNELS_ONEDNN_H_
#define ATTENDANT_ENGINE_KERNELS_ONEDNN_H_

// oneDNN as this folder uses it; private to engine/kernels. Its exceptions stop here.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/data_type.h"
#include "engine/base/packed_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace attendant::engine {

class Onednn {
 public:
  Onednn();

  static std::string Version();         // "oneDNN 3.7.2"
  static std::string InstructionSet();  // "avx512_core_amx"
  static bool MultipliesBFloat16();
  // Whether it does so in matrix registers (AMX).
  static bool HasTiles();

  const dnnl::engine& engine() const { return engine_; }
  const dnnl::stream& stream() const { return stream_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
};

// y [rows, out] = activation(x [rows, in] W + bias) (+ y): what a oneDNN matmul primitive is made
// for.
struct MatmulShape {
  int64_t rows = 0;
  int64_t in_features = 0;
  int64_t out_features = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  DataType dtype = DataType::kFloat32;  // of x and W; bias is float
  DataType y_dtype = DataType::kFloat32;
  bool has_bias = false;
  Activation activation = Activation::kNone;
  bool add = false;
};

// Weights in the layout that oneDNN's kernels read.
struct PackedWeights {
  dnnl::memory::desc layout;
  PackedBytes buffer;

  // The layout, where it is panels of so many outputs (16, 32, 48 or 64), each
  // [in_features][panel_width] without gaps, or in bfloat16 [in_features / 2][panel_width][2]; else
  // 0.
  int64_t panel_width = 0;
  int64_t panel_stride = 0;  // values from one panel to the next

  // All that `layout` says, as text.
  std::string LayoutText() const;
};

// Packs weight [out_features, in_features] as the matmul of `shape` likes it. UNIMPLEMENTED if this
// machine has no matmul, or only reference code, for the shape's dtype.
absl::StatusOr<PackedWeights> PackWeights(Onednn& onednn, const MatmulShape& shape,
                                          ConstMatrix weight);
// The same of what was packed before. FAILED_PRECONDITION if oneDNN would pack it otherwise now.
absl::StatusOr<PackedWeights> TakePackedWeights(Onednn& onednn, const MatmulShape& shape,
                                                const PackedMatrix& packed);

// One matmul primitive with what it takes to run it without allocating.
class Matmul {
 public:
  static absl::StatusOr<std::unique_ptr<Matmul>> Create(Onednn& onednn, const MatmulShape& shape,
                                                        const dnnl::memory::desc& weights);

  // Scratch memory that Execute wants.
  size_t scratch_bytes() const { return scratch_bytes_; }
  // oneDNN's name for its kernel: "brg_matmul:avx512_core_bf16". Reference code has "ref" in it.
  const std::string& implementation() const { return implementation_; }
  bool is_reference() const { return implementation_.find("ref") != std::string::npos; }

  // x and weights of the shape's dtype, y of its y_dtype; bias is null if it has none. A failure
  // here is a defect.
  void Execute(Onednn& onednn, const void* x, const void* weights, const float* bias, void* y,
               std::byte* scratch);

 private:
  Matmul() = default;

  dnnl::matmul primitive_;
  dnnl::memory x_, weights_, bias_, y_, scratch_;
  size_t scratch_bytes_ = 0;
  std::string implementation_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ONEDNN_H_
