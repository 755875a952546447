#include "engine/kernels/onednn.h"

#include <omp.h>

#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "oneapi/dnnl/dnnl_debug.h"

namespace attendant::engine {
namespace {

using dnnl::memory;

memory::data_type OnednnType(DataType dtype) {
  CHECK(dtype == DataType::kFloat32 || dtype == DataType::kBFloat16) << DataTypeName(dtype);
  return dtype == DataType::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
}

bool HasInstructions(dnnl::cpu_isa isa) {
  // Newer instruction sets have the bits of the older ones.
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

std::string ShapeName(const MatmulShape& shape) {
  return absl::StrFormat("matmul [%d, %d] x [%d, %d] in %s", shape.rows, shape.in_features,
                         shape.in_features, shape.out_features,
                         std::string(DataTypeName(shape.dtype)));
}

absl::Status FailedStatus(const MatmulShape& shape, const dnnl::error& error) {
  return absl::InternalError(absl::StrCat("oneDNN: ", ShapeName(shape), ": ", error.what()));
}

void AppendActivation(dnnl::post_ops& post_ops, Activation activation) {
  using dnnl::algorithm;
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return post_ops.append_eltwise(algorithm::eltwise_relu, 0.0f, 0.0f);
    case Activation::kGeluErf:
      return post_ops.append_eltwise(algorithm::eltwise_gelu_erf, 0.0f, 0.0f);
    case Activation::kGeluTanh:
      return post_ops.append_eltwise(algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
    case Activation::kSilu:
      return post_ops.append_eltwise(algorithm::eltwise_swish, 1.0f, 0.0f);
  }
}

memory::desc PlainLayout(int64_t rows, int64_t cols, int64_t stride, DataType dtype) {
  return memory::desc({rows, cols}, OnednnType(dtype), memory::dims{stride, 1});
}

// Empty where oneDNN has none.
dnnl::matmul::primitive_desc Describe(Onednn& onednn, const MatmulShape& shape,
                                      const memory::desc& weights) {
  dnnl::post_ops post_ops;
  AppendActivation(post_ops, shape.activation);
  if (shape.add) post_ops.append_sum(1.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post_ops);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const memory::desc x = PlainLayout(shape.rows, shape.in_features, shape.x_stride, shape.dtype);
  const memory::desc y = PlainLayout(shape.rows, shape.out_features, shape.y_stride, shape.y_dtype);
  if (!shape.has_bias) {
    return dnnl::matmul::primitive_desc(onednn.engine(), x, weights, y, attributes,
                                        /*allow_empty=*/true);
  }
  const memory::desc bias =
      PlainLayout(1, shape.out_features, shape.out_features, DataType::kFloat32);
  return dnnl::matmul::primitive_desc(onednn.engine(), x, weights, bias, y, attributes,
                                      /*allow_empty=*/true);
}

// Sets the fields of `packed` that describe panels, if its layout is one.
void DescribePanels(const MatmulShape& shape, PackedWeights& packed) {
  const memory::desc& layout = packed.layout;
  const memory::dims blocks = layout.get_inner_blks(), axes = layout.get_inner_idxs();
  const bool paired = shape.dtype == DataType::kBFloat16;
  // Rows (axis 0) of a block, the panel's outputs (axis 1), and in bfloat16 the pair.
  if (layout.get_format_kind() != memory::format_kind::blocked) return;
  if (paired && shape.in_features % 2 != 0) return;
  if (paired ? axes != memory::dims{0, 1, 0} || blocks[2] != 2 : axes != memory::dims{0, 1}) return;
  const int64_t width = blocks[1];
  const int64_t block_values = blocks[0] * width * (paired ? 2 : 1);
  const memory::dims strides = layout.get_strides();
  if (width % 16 != 0 || width > 64 || strides[0] != block_values) return;
  packed.panel_width = width;
  packed.panel_stride = strides[1];
}

// What PackWeights returns, without the weights.
absl::StatusOr<PackedWeights> ChooseLayout(Onednn& onednn, const MatmulShape& shape) {
  const memory::dims dims = {shape.in_features, shape.out_features};
  const auto description =
      Describe(onednn, shape, memory::desc(dims, OnednnType(shape.dtype), memory::format_tag::any));
  if (!description ||
      absl::string_view(description.impl_info_str()).find("ref") != absl::string_view::npos) {
    return absl::UnimplementedError(absl::StrCat("oneDNN has no fast ", ShapeName(shape)));
  }
  PackedWeights packed{.layout = description.weights_desc()};
  DescribePanels(shape, packed);
  return packed;
}

}  // namespace

Onednn::Onednn() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
  // oneDNN keeps what it made for the next that wants the same, which is how layers of one shape
  // share their code. Its own limit, 1024, would be some 200 MB.
  dnnl::set_primitive_cache_capacity(320);
}

std::string Onednn::Version() {
  const dnnl_version_t& version = *dnnl_version();
  return absl::StrCat("oneDNN ", version.major, ".", version.minor, ".", version.patch);
}

std::string Onednn::InstructionSet() {
  return std::string(absl::StripPrefix(dnnl_cpu_isa2str(dnnl_get_effective_cpu_isa()), "cpu_isa_"));
}

bool Onednn::MultipliesBFloat16() {
  static const bool multiplies = HasInstructions(dnnl::cpu_isa::avx512_core_bf16);
  return multiplies;
}

bool Onednn::HasTiles() {
  static const bool has_tiles = HasInstructions(dnnl::cpu_isa::avx512_core_amx);
  return has_tiles;
}

std::string PackedWeights::LayoutText() const {
  const auto list = [](const memory::dims& dims) {
    return absl::StrCat("[", absl::StrJoin(dims, ", "), "]");
  };
  std::string text =
      absl::StrCat(dnnl_dt2str(static_cast<dnnl_data_type_t>(layout.get_data_type())), " ",
                   list(layout.get_dims()));
  if (layout.get_format_kind() == memory::format_kind::blocked) {
    absl::StrAppend(&text, " padded to ", list(layout.get_padded_dims()), ", offset ",
                    layout.get_submemory_offset(), ", strides ", list(layout.get_strides()),
                    ", blocks ", list(layout.get_inner_blks()), " of axes ",
                    list(layout.get_inner_idxs()));
  } else {
    const std::vector<uint8_t> blob = memory::desc(layout).get_blob();
    absl::StrAppend(&text, " ",
                    absl::BytesToHexString(absl::string_view(
                        reinterpret_cast<const char*>(blob.data()), blob.size())));
  }
  return text;
}

absl::StatusOr<PackedWeights> PackWeights(Onednn& onednn, const MatmulShape& shape,
                                          ConstMatrix weight) {
  try {
    ASSIGN_OR_RETURN(PackedWeights packed, ChooseLayout(onednn, shape));
    AlignedBuffer buffer(packed.layout.get_size());
    memory from({packed.layout.get_dims(), memory::data_type::f32, memory::dims{1, weight.stride}},
                onednn.engine(), const_cast<float*>(weight.data));
    memory to(packed.layout, onednn.engine(), buffer.data());
    dnnl::reorder(from, to).execute(onednn.stream(), from, to);
    dnnl::stream(onednn.stream()).wait();
    packed.buffer = PackedBytes(std::move(buffer));
    return packed;
  } catch (const dnnl::error& error) {
    return FailedStatus(shape, error);
  }
}

absl::StatusOr<PackedWeights> TakePackedWeights(Onednn& onednn, const MatmulShape& shape,
                                                const PackedMatrix& packed) {
  try {
    ASSIGN_OR_RETURN(PackedWeights weights, ChooseLayout(onednn, shape));
    RETURN_IF_ERROR(CheckLayout(packed, weights.LayoutText(), weights.layout.get_size()));
    weights.buffer = packed.bytes;
    return weights;
  } catch (const dnnl::error& error) {
    return FailedStatus(shape, error);
  }
}

absl::StatusOr<std::unique_ptr<Matmul>> Matmul::Create(Onednn& onednn, const MatmulShape& shape,
                                                       const memory::desc& weights) {
  try {
    const auto description = Describe(onednn, shape, weights);
    if (!description)
      return absl::UnimplementedError(absl::StrCat("oneDNN has no ", ShapeName(shape)));
    auto matmul = std::unique_ptr<Matmul>(new Matmul);
    matmul->implementation_ = description.impl_info_str();
    matmul->scratch_bytes_ = description.scratchpad_desc().get_size();
    const auto without_memory = [&](const memory::desc& layout) {
      return memory(layout, onednn.engine(), nullptr);
    };
    matmul->x_ = without_memory(description.src_desc());
    matmul->weights_ = without_memory(weights);
    matmul->y_ = without_memory(description.dst_desc());
    matmul->scratch_ = without_memory(description.scratchpad_desc());
    if (shape.has_bias) matmul->bias_ = without_memory(description.bias_desc());
    matmul->primitive_ = dnnl::matmul(description);
    return matmul;
  } catch (const dnnl::error& error) {
    return FailedStatus(shape, error);
  }
}

void Matmul::Execute(Onednn& onednn, const void* x, const void* weights, const float* bias, void* y,
                     std::byte* scratch) {
  // The C functions: those of C++ build a hash table of the arguments for each call.
  const auto set = [](const memory& memory, const void* data) {
    dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data));
    return memory.get();
  };
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, set(x_, x)},
      {DNNL_ARG_WEIGHTS, set(weights_, weights)},
      {DNNL_ARG_DST, set(y_, y)},
      {DNNL_ARG_SCRATCHPAD, set(scratch_, scratch)},
      {DNNL_ARG_BIAS, bias == nullptr ? nullptr : set(bias_, bias)},
  };
  const int num_arguments = bias == nullptr ? 4 : 5;
  CHECK(omp_in_parallel() == 0) << "oneDNN opens a region of its own";
  const dnnl_status_t status =
      dnnl_primitive_execute(primitive_.get(), onednn.stream().get(), num_arguments, arguments);
  CHECK_EQ(status, dnnl_success) << implementation_;
}

}  // namespace attendant::engine
