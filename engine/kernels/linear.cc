#include "engine/kernels/linear.h"

#include <algorithm>
#include <compare>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/channel_weights.h"
#include "engine/kernels/onednn.h"
#include "engine/kernels/round_to_bfloat16.h"
#include "engine/kernels/row_product.h"
#include "engine/kernels/tile_product.h"

namespace attendant::engine {
namespace {

// A oneDNN primitive is for one number of rows, so rows are cut into pieces of which there are few
// kinds: fewer than 128 rows are one piece; more are multiples of 64, at most 1024, and a rest of
// 64 to 127 rows, enough to hide that the weights are read again. So there are at most 127 + 14
// kinds, and nothing is padded or copied.
constexpr int64_t kRowStep = 64;
constexpr int64_t kMaxPiece = 1024;

int64_t NextPiece(int64_t rows) {
  if (rows < 2 * kRowStep) return rows;
  if (rows >= kMaxPiece + kRowStep) return kMaxPiece;
  const int64_t rest = rows % kRowStep;
  return rest == 0 ? std::min(rows, kMaxPiece) : rows - rest - kRowStep;
}

// In matrix registers, more rows than these at a time only cost memory.
constexpr int64_t kMaxTileRows = 4096;

constexpr int64_t kRowsToPackFor = 64;  // oneDNN's layout is the same for any number

}  // namespace

struct Linear::Packed {
  // Which primitive: views with other strides (columns of a wider matrix) have their own.
  struct Key {
    int64_t rows, x_stride, y_stride;
    bool add;
    DataType y_dtype = DataType::kFloat32;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::unique_ptr<Matmul> matmul;
    int64_t last_use = 0;
  };
  // The code for a primitive may take 200 KB, of which layers of one shape have one copy; so only
  // those last used are kept.
  static constexpr size_t kMaxMatmuls = 64;

  // Everything but the weights.
  static absl::StatusOr<std::unique_ptr<Packed>> Create(int64_t out_features, int64_t in_features,
                                                        absl::Span<const float> bias,
                                                        const LinearOptions& options);

  // Activations are converted when products are not in float.
  bool rounds_input() const { return shape.dtype == DataType::kBFloat16; }

  std::string ReferenceCodeMessage(const Matmul& matmul, int64_t rows) const {
    return absl::StrCat("oneDNN has only reference code (", matmul.implementation(), ") for ", rows,
                        " rows of a ", shape.in_features, " x ", shape.out_features, " layer in ",
                        DataTypeName(shape.dtype));
  }

  // Once there are weights, and where oneDNN multiplies by them: its code for one row and for
  // several may differ, and whatever is wrong with either is found now.
  absl::Status MakeFirstMatmuls(KernelContext& context, bool strict);
  absl::StatusOr<Matmul*> GetMatmul(KernelContext& context, const Key& key);
  void Apply(KernelContext& context, const InputRows& x, Matrix y, bool add);
  // oneDNN's primitives, over all rows: y of float, or of uint16_t for bfloat16.
  template <typename T>
  void ApplyPieces(KernelContext& context, const InputRows& x, MatrixView<T> y, bool add);
  void ApplyRows(KernelContext& context, const InputRows& x, Matrix y, bool add);
  void ApplyTiles(KernelContext& context, const InputRows& x, Matrix y, bool add);

  // The rows in the type that is multiplied, InputStride values apart, in InputBytes of memory or
  // where they are.
  const void* Input(KernelContext& context, const InputRows& x, std::byte* memory) const;
  int64_t InputBytes(const KernelContext& context, const InputRows& x) const;
  int64_t InputStride(const InputRows& x) const {
    return rounds_input() ? x.cols() : x.all_stride();
  }
  // Whole sets of 16 rows, as matrix registers read them; what is behind the last does not matter.
  static int64_t RoundedBytes(const InputRows& x) {
    const int64_t values = (x.rows() + 15) / 16 * 16 * x.cols();
    return (values * static_cast<int64_t>(sizeof(uint16_t)) + 63) / 64 * 64;
  }

  bool UsesOnednn(int64_t num_rows) const {
    if (quantized != nullptr || channels || fits_tiles()) return false;
    return num_rows > kMaxProductRows || weights.panel_width == 0;
  }
  // Whether so many rows may come, and go, in bfloat16: matrix registers and our own kernels read
  // other layouts.
  bool TakesBFloat16(int64_t num_rows) const { return rounds_input() && UsesOnednn(num_rows); }
  // Whether the panels are such as matrix registers take.
  bool fits_tiles() const {
    return shape.dtype == DataType::kBFloat16 && weights.panel_width == kTilePanel &&
           shape.in_features % 32 == 0 && HasTiles();
  }
  const float* bias_data() const { return reinterpret_cast<const float*>(bias.data()); }

  MatmulShape shape;  // but for rows, strides and add
  // One of these three.
  std::shared_ptr<const QuantizedWeights> quantized;
  std::optional<ChannelWeights> channels;
  PackedWeights weights;
  AlignedBuffer bias;  // padded with zeros to a multiple of 16 values
  std::string implementation;
  bool uses_reference_code = false;
  std::map<Key, Entry> matmuls;
  int64_t num_uses = 0;
};

absl::Status Linear::Packed::MakeFirstMatmuls(KernelContext& context, bool strict) {
  if (fits_tiles()) {
    implementation = "bf16:tiles";
    return absl::OkStatus();
  }
  for (const int64_t rows : {int64_t{1}, kRowsToPackFor}) {
    if (!UsesOnednn(rows)) continue;
    for (const bool add : {true, false}) {
      ASSIGN_OR_RETURN(const Matmul* matmul,
                       GetMatmul(context, {rows, shape.in_features, shape.out_features, add}));
      if (strict && matmul->is_reference()) {
        return absl::InternalError(ReferenceCodeMessage(*matmul, rows));
      }
      implementation = matmul->implementation();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Matmul*> Linear::Packed::GetMatmul(KernelContext& context, const Key& key) {
  ++num_uses;
  if (const auto found = matmuls.find(key); found != matmuls.end()) {
    found->second.last_use = num_uses;
    return found->second.matmul.get();
  }
  if (matmuls.size() >= kMaxMatmuls) {
    matmuls.erase(std::min_element(
        matmuls.begin(), matmuls.end(),
        [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
  }
  MatmulShape wanted = shape;
  wanted.rows = key.rows;
  wanted.x_stride = key.x_stride;
  wanted.y_stride = key.y_stride;
  wanted.add = key.add;
  wanted.y_dtype = key.y_dtype;
  ASSIGN_OR_RETURN(std::unique_ptr<Matmul> matmul,
                   Matmul::Create(context.onednn(), wanted, weights.layout));
  if (matmul->is_reference()) {
    if (!uses_reference_code) LOG(WARNING) << ReferenceCodeMessage(*matmul, key.rows);
    uses_reference_code = true;
  }
  Entry& entry = matmuls[key];
  entry = {std::move(matmul), num_uses};
  return entry.matmul.get();
}

void Linear::Packed::Apply(KernelContext& context, const InputRows& x, Matrix y, bool add) {
  DCHECK_EQ(x.cols(), shape.in_features);
  DCHECK_EQ(y.cols, shape.out_features);
  DCHECK_EQ(x.rows(), y.rows);
  DCHECK(x.bfloat16() == nullptr || TakesBFloat16(x.rows()));
  const Epilogue epilogue{.bias = bias_data(), .activation = shape.activation, .add = add};
  if (quantized != nullptr) return quantized->Multiply(context, x, epilogue, y);
  if (channels) return channels->Multiply(context, x, epilogue, y);
  if (x.rows() <= kMaxProductRows && weights.panel_width > 0) return ApplyRows(context, x, y, add);
  if (fits_tiles()) {
    for (int64_t row = 0; row < x.rows(); row += kMaxTileRows) {
      const int64_t rows = std::min(x.rows() - row, kMaxTileRows);
      ApplyTiles(context, x.Rows(row, rows), y.Rows(row, rows), add);
    }
    return;
  }
  ApplyPieces(context, x, y, add);
}

int64_t Linear::Packed::InputBytes(const KernelContext& context, const InputRows& x) const {
  if (x.bfloat16() != nullptr) return 0;
  return rounds_input() ? RoundedBytes(x) + x.buffer_bytes(context) : x.all_bytes();
}

const void* Linear::Packed::Input(KernelContext& context, const InputRows& x,
                                  std::byte* memory) const {
  if (x.bfloat16() != nullptr) return x.bfloat16();
  if (!rounds_input()) return x.All(context, memory).data;
  auto* rounded = reinterpret_cast<uint16_t*>(memory);
  RoundToBFloat16(context, x, memory + RoundedBytes(x), rounded);
  return rounded;
}

template <typename T>
void Linear::Packed::ApplyPieces(KernelContext& context, const InputRows& x, MatrixView<T> y,
                                 bool add) {
  constexpr DataType kType = std::is_same_v<T, float> ? DataType::kFloat32 : DataType::kBFloat16;
  for (int64_t row = 0, rows = 0; row < x.rows(); row += rows) {
    rows = NextPiece(x.rows() - row);
    const InputRows piece = x.Rows(row, rows);
    const int64_t x_stride = rows == 1 ? x.cols() : InputStride(x);
    const int64_t y_stride = rows == 1 ? y.cols : y.stride;
    const absl::StatusOr<Matmul*> matmul =
        GetMatmul(context, {rows, x_stride, y_stride, add, kType});
    CHECK_OK(matmul.status());  // its like was made when the layer was
    const size_t scratch_bytes = ((*matmul)->scratch_bytes() + 63) / 64 * 64;
    std::byte* scratch = context.Scratch(scratch_bytes + InputBytes(context, piece));
    const void* input = Input(context, piece, scratch + scratch_bytes);
    (*matmul)->Execute(context.onednn(), input, weights.buffer.data(), bias_data(), y.row(row),
                       scratch);
  }
}

// Few rows: what counts is how fast weights are read, which oneDNN does at some 80 %.
void Linear::Packed::ApplyRows(KernelContext& context, const InputRows& x, Matrix y, bool add) {
  const void* input = Input(context, x, context.Scratch(InputBytes(context, x)));
  MultiplyRows(context,
               {.dtype = shape.dtype,
                .data = weights.buffer.data(),
                .in_features = shape.in_features,
                .out_features = shape.out_features,
                .panel_width = weights.panel_width,
                .panel_stride = weights.panel_stride},
               input, InputStride(x), bias_data(), shape.activation, add, y);
}

// Many rows in bfloat16: matrix registers wait for weights that nobody fetched, which oneDNN leaves
// to the machine.
void Linear::Packed::ApplyTiles(KernelContext& context, const InputRows& x, Matrix y, bool add) {
  const int64_t depth = shape.in_features;
  const int64_t input_bytes = InputBytes(context, x);
  constexpr int64_t kSumsBytes = kTileBlockRows * kTilePanel * sizeof(float);
  std::byte* scratch = context.Scratch(input_bytes + context.num_threads() * kSumsBytes);
  const auto* rounded = static_cast<const uint16_t*>(Input(context, x, scratch));
  const Epilogue epilogue{.bias = bias_data(), .activation = shape.activation, .add = add};
  const auto* panels = reinterpret_cast<const uint16_t*>(weights.buffer.data());
  const int64_t num_panels = (shape.out_features + kTilePanel - 1) / kTilePanel;
  ParallelBlocks(
      context, x.rows(), num_panels, kTilePanel * depth * 2, /*in_tiles=*/true,
      [&](int thread, int64_t row, int64_t rows, int64_t panel, int64_t next) {
        auto* sums = reinterpret_cast<float*>(scratch + input_bytes + thread * kSumsBytes);
        MultiplyTiles(rounded + row * depth, depth, (rows + 15) / 16 * 16, depth,
                      panels + panel * weights.panel_stride,
                      next < 0 ? nullptr : panels + next * weights.panel_stride, sums);
        const int64_t feature = panel * kTilePanel;
        ApplyEpilogue(epilogue, sums, kTilePanel, feature,
                      y.Rows(row, rows).Cols(feature, std::min(kTilePanel, y.cols - feature)));
      });
}

Packing CurrentPacking() { return {Onednn::Version(), Onednn::InstructionSet()}; }

DataType DefaultDataType() {
  return CpuMultipliesBFloat16() ? DataType::kBFloat16 : DataType::kFloat32;
}

DataType ActivationType(DataType weights) {
  return weights == DataType::kInt8 || weights == DataType::kInt4 ? DefaultDataType() : weights;
}

absl::StatusOr<std::unique_ptr<Linear::Packed>> Linear::Packed::Create(
    int64_t out_features, int64_t in_features, absl::Span<const float> bias,
    const LinearOptions& options) {
  if (out_features < 1 || in_features < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a linear layer of ", in_features, " x ", out_features, " features"));
  }
  if (!bias.empty() && static_cast<int64_t>(bias.size()) != out_features) {
    return absl::InvalidArgumentError(
        absl::StrCat("a bias of ", bias.size(), " values for ", out_features, " output features"));
  }
  auto packed = std::make_unique<Packed>();
  packed->shape = {.rows = kRowsToPackFor,
                   .in_features = in_features,
                   .out_features = out_features,
                   .x_stride = in_features,
                   .y_stride = out_features,
                   .dtype = options.dtype,
                   .has_bias = !bias.empty(),
                   .activation = options.activation};
  // What oneDNN has for bfloat16 where the machine has no instructions for it is reference code as
  // soon as there are strides or a sum.
  if (options.dtype == DataType::kBFloat16 && !CpuMultipliesBFloat16()) {
    packed->shape.dtype = DataType::kFloat32;
  }
  if (!bias.empty()) {
    const size_t padded = (bias.size() + 15) / 16 * 16;
    packed->bias = AlignedBuffer(padded * sizeof(float));
    auto* values = reinterpret_cast<float*>(packed->bias.data());
    std::copy(bias.begin(), bias.end(), values);
    std::fill(values + bias.size(), values + padded, 0.0f);
  }
  return packed;
}

absl::StatusOr<Linear> Linear::Create(std::shared_ptr<const QuantizedWeights> weight,
                                      absl::Span<const float> bias, const LinearOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Packed> packed,
                   Packed::Create(weight->out_features(), weight->in_features(), bias, options));
  packed->shape.dtype = weight->bits() == 8 ? DataType::kInt8 : DataType::kInt4;
  packed->implementation = weight->implementation();
  packed->quantized = std::move(weight);
  return Linear(std::move(packed));
}

absl::StatusOr<Linear> Linear::Create(KernelContext& context, ConstMatrix weight,
                                      absl::Span<const float> bias, const LinearOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Packed> packed,
                   Packed::Create(weight.rows, weight.cols, bias, options));
  if (options.dtype == DataType::kInt8 && options.scale_per_output) {
    ASSIGN_OR_RETURN(packed->channels, ChannelWeights::Create(context, weight));
    packed->implementation = packed->channels->implementation();
    return Linear(std::move(packed));
  }
  if (options.dtype == DataType::kInt8 || options.dtype == DataType::kInt4) {
    ASSIGN_OR_RETURN(const QuantizedMatrix matrix,
                     Quantize(context, weight, options.dtype == DataType::kInt8 ? 8 : 4));
    return Create(std::make_shared<QuantizedWeights>(context, matrix), bias, options);
  }
  ASSIGN_OR_RETURN(packed->weights, PackWeights(context.onednn(), packed->shape, weight));
  RETURN_IF_ERROR(packed->MakeFirstMatmuls(context, options.strict));
  return Linear(std::move(packed));
}

absl::StatusOr<Linear> Linear::FromPacked(KernelContext& context, const PackedMatrix& kept,
                                          int64_t out_features, int64_t in_features,
                                          absl::Span<const float> bias,
                                          const LinearOptions& options) {
  if (options.dtype == DataType::kInt8 && options.scale_per_output) {
    ASSIGN_OR_RETURN(std::unique_ptr<Packed> packed,
                     Packed::Create(out_features, in_features, bias, options));
    ASSIGN_OR_RETURN(packed->channels, ChannelWeights::FromPacked(out_features, in_features, kept));
    packed->implementation = packed->channels->implementation();
    return Linear(std::move(packed));
  }
  if (options.dtype == DataType::kInt8 || options.dtype == DataType::kInt4) {
    ASSIGN_OR_RETURN(QuantizedWeights weights,
                     QuantizedWeights::FromPacked({.bits = options.dtype == DataType::kInt8 ? 8 : 4,
                                                   .out_features = out_features,
                                                   .in_features = in_features},
                                                  kept));
    return Create(std::make_shared<QuantizedWeights>(std::move(weights)), bias, options);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Packed> packed,
                   Packed::Create(out_features, in_features, bias, options));
  ASSIGN_OR_RETURN(packed->weights, TakePackedWeights(context.onednn(), packed->shape, kept));
  RETURN_IF_ERROR(packed->MakeFirstMatmuls(context, options.strict));
  return Linear(std::move(packed));
}

PackedMatrix Linear::packed() const {
  if (packed_->quantized != nullptr) return packed_->quantized->packed();
  if (packed_->channels) return packed_->channels->packed();
  return {packed_->weights.LayoutText(), packed_->weights.buffer};
}

Linear::Linear() = default;
Linear::Linear(std::unique_ptr<Packed> packed) : packed_(std::move(packed)) {}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

void Linear::Apply(KernelContext& context, const InputRows& x, Matrix y) const {
  packed_->Apply(context, x, y, false);
}

void Linear::ApplyAdd(KernelContext& context, const InputRows& x, Matrix y) const {
  packed_->Apply(context, x, y, true);
}

bool Linear::HandsOverBFloat16(const Linear& next, int64_t num_rows) const {
  return packed_->TakesBFloat16(num_rows) && next.packed_->TakesBFloat16(num_rows);
}

void Linear::ApplyToBFloat16(KernelContext& context, const InputRows& x, BFloat16Matrix y) const {
  DCHECK_EQ(x.cols(), in_features());
  DCHECK_EQ(y.cols, out_features());
  DCHECK_EQ(x.rows(), y.rows);
  DCHECK(packed_->TakesBFloat16(x.rows()));
  packed_->ApplyPieces(context, x, y, /*add=*/false);
}

void Linear::Prepare(KernelContext& context, int64_t num_rows, bool add) const {
  while (num_rows > 0 && UsesOnednn(num_rows)) {
    const int64_t rows = NextPiece(num_rows);
    CHECK_OK(packed_->GetMatmul(context, {rows, in_features(), out_features(), add}).status());
    num_rows -= rows;
  }
}

bool Linear::UsesOnednn(int64_t num_rows) const { return packed_->UsesOnednn(num_rows); }

int64_t Linear::in_features() const { return packed_->shape.in_features; }
int64_t Linear::out_features() const { return packed_->shape.out_features; }
size_t Linear::packed_bytes() const {
  const size_t weight_bytes = packed_->quantized != nullptr ? packed_->quantized->size_bytes()
                              : packed_->channels           ? packed_->channels->size_bytes()
                                                            : packed_->weights.buffer.size_bytes();
  return weight_bytes + packed_->bias.size_bytes();
}
const std::string& Linear::implementation() const { return packed_->implementation; }
bool Linear::uses_reference_code() const { return packed_->uses_reference_code; }

}  // namespace attendant::engine
