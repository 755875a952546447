#include "engine/kernels/linear.h"

#include <algorithm>
#include <compare>
#include <cstring>
#include <map>
#include <utility>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/onednn.h"
#include "engine/kernels/round_to_bfloat16.h"

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

constexpr int64_t kRowsToPackFor = 64;  // oneDNN's layout is the same for any number

}  // namespace

struct Linear::Packed {
  // Which primitive: views with other strides (columns of a wider matrix) have their own.
  struct Key {
    int64_t rows, x_stride, y_stride;
    bool add;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::unique_ptr<Matmul> matmul;
    int64_t last_use = 0;
  };
  // The code for a primitive may take 200 KB, of which layers of one shape have one copy; so only
  // those last used are kept.
  static constexpr size_t kMaxMatmuls = 64;

  // Activations are converted when products are not in float.
  bool rounds_input() const { return shape.dtype == DataType::kBFloat16; }

  std::string ReferenceCodeMessage(const Matmul& matmul, int64_t rows) const {
    return absl::StrCat("oneDNN has only reference code (", matmul.implementation(), ") for ", rows,
                        " rows of a ", shape.in_features, " x ", shape.out_features, " layer in ",
                        DataTypeName(shape.dtype));
  }

  absl::StatusOr<Matmul*> GetMatmul(KernelContext& context, const Key& key);
  void Apply(KernelContext& context, ConstMatrix x, Matrix y, bool add);
  void ApplyPiece(KernelContext& context, ConstMatrix x, Matrix y, bool add);

  MatmulShape shape;  // but for rows, strides and add
  PackedWeights weights;
  AlignedBuffer bias;
  std::string implementation;
  bool uses_reference_code = false;
  std::map<Key, Entry> matmuls;
  int64_t num_uses = 0;
};

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

void Linear::Packed::Apply(KernelContext& context, ConstMatrix x, Matrix y, bool add) {
  DCHECK_EQ(x.cols, shape.in_features);
  DCHECK_EQ(y.cols, shape.out_features);
  DCHECK_EQ(x.rows, y.rows);
  for (int64_t row = 0; row < x.rows;) {
    const int64_t rows = NextPiece(x.rows - row);
    ApplyPiece(context, x.Rows(row, rows), y.Rows(row, rows), add);
    row += rows;
  }
}

void Linear::Packed::ApplyPiece(KernelContext& context, ConstMatrix x, Matrix y, bool add) {
  const int64_t x_stride = rounds_input() || x.rows == 1 ? x.cols : x.stride;
  const int64_t y_stride = y.rows == 1 ? y.cols : y.stride;
  const absl::StatusOr<Matmul*> matmul = GetMatmul(context, {x.rows, x_stride, y_stride, add});
  CHECK_OK(matmul.status());  // its like was made when the layer was
  const size_t scratch_bytes = ((*matmul)->scratch_bytes() + 63) / 64 * 64;
  const size_t x_bytes = rounds_input() ? x.rows * x.cols * sizeof(uint16_t) : 0;
  std::byte* scratch = context.Scratch(scratch_bytes + x_bytes);
  const void* input = x.data;
  if (rounds_input()) {
    auto* rounded = reinterpret_cast<uint16_t*>(scratch + scratch_bytes);
    RoundToBFloat16(context, x, rounded);
    input = rounded;
  }
  (*matmul)->Execute(context.onednn(), input, weights.buffer.data(),
                     reinterpret_cast<const float*>(bias.data()), y.data, scratch);
}

absl::StatusOr<Linear> Linear::Create(KernelContext& context, ConstMatrix weight,
                                      absl::Span<const float> bias, const LinearOptions& options) {
  if (weight.rows < 1 || weight.cols < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a linear layer of ", weight.cols, " x ", weight.rows, " features"));
  }
  if (!bias.empty() && bias.size() != weight.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("a bias of ", bias.size(), " values for ", weight.rows, " output features"));
  }
  // What oneDNN has for bfloat16 where the machine has no instructions for it is reference code as
  // soon as there are strides or a sum.
  const DataType dtype = CpuMultipliesBFloat16() ? options.dtype : DataType::kFloat32;
  auto packed = std::make_unique<Packed>();
  packed->shape = {.rows = kRowsToPackFor,
                   .in_features = weight.cols,
                   .out_features = weight.rows,
                   .x_stride = weight.cols,
                   .y_stride = weight.rows,
                   .dtype = dtype,
                   .has_bias = !bias.empty(),
                   .activation = options.activation};
  ASSIGN_OR_RETURN(packed->weights, PackWeights(context.onednn(), packed->shape, weight));
  if (!bias.empty()) {
    packed->bias = AlignedBuffer(bias.size() * sizeof(float));
    std::memcpy(packed->bias.data(), bias.data(), bias.size() * sizeof(float));
  }
  // One row and several may have different kernels; whatever is wrong with either is found now.
  for (const int64_t rows : {int64_t{1}, kRowsToPackFor}) {
    for (const bool add : {true, false}) {
      ASSIGN_OR_RETURN(const Matmul* matmul,
                       packed->GetMatmul(context, {rows, weight.cols, weight.rows, add}));
      if (options.strict && matmul->is_reference()) {
        return absl::InternalError(packed->ReferenceCodeMessage(*matmul, rows));
      }
      packed->implementation = matmul->implementation();
    }
  }
  return Linear(std::move(packed));
}

Linear::Linear() = default;
Linear::Linear(std::unique_ptr<Packed> packed) : packed_(std::move(packed)) {}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

void Linear::Apply(KernelContext& context, ConstMatrix x, Matrix y) const {
  packed_->Apply(context, x, y, false);
}

void Linear::ApplyAdd(KernelContext& context, ConstMatrix x, Matrix y) const {
  packed_->Apply(context, x, y, true);
}

void Linear::Prepare(KernelContext& context, int64_t num_rows, bool add) const {
  while (num_rows > 0) {
    const int64_t rows = NextPiece(num_rows);
    CHECK_OK(packed_->GetMatmul(context, {rows, in_features(), out_features(), add}).status());
    num_rows -= rows;
  }
}

int64_t Linear::in_features() const { return packed_->shape.in_features; }
int64_t Linear::out_features() const { return packed_->shape.out_features; }
size_t Linear::packed_bytes() const {
  return packed_->weights.buffer.size_bytes() + packed_->bias.size_bytes();
}
const std::string& Linear::implementation() const { return packed_->implementation; }
bool Linear::uses_reference_code() const { return packed_->uses_reference_code; }

}  // namespace attendant::engine
