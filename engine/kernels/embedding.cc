#include "engine/kernels/embedding.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/embedding.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

template <typename T>
HWY_INLINE void CopyOrAdd(const T* from, int64_t size, bool add, float* to) {
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec v = LoadFloats(from + i, count);
    StoreFloats(add ? hn::Add(LoadFloats(to + i, count), v) : v, to + i, count);
  });
}

void GatherRow(const std::byte* row, DataType dtype, int64_t size, bool add, float* to) {
  if (dtype == DataType::kFloat32) {
    CopyOrAdd(reinterpret_cast<const float*>(row), size, add, to);
  } else {
    CopyOrAdd(reinterpret_cast<const uint16_t*>(row), size, add, to);
  }
}

void StoreRow(const float* row, DataType dtype, int64_t size, std::byte* to) {
  if (dtype == DataType::kFloat32) {
    std::memcpy(to, row, size * sizeof(float));
  } else {
    auto* out = reinterpret_cast<uint16_t*>(to);
    ForEachVector(size, [&](size_t i, size_t count)
                            HWY_ATTR { StoreFloats(LoadFloats(row + i, count), out + i, count); });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {
namespace {

HWY_EXPORT(GatherRow);
HWY_EXPORT(StoreRow);

void GatherRows(KernelContext& context, const std::byte* table, DataType dtype, int64_t size,
                absl::Span<const int32_t> ids, bool add, Matrix out) {
  DCHECK_EQ(ids.size(), out.rows);
  DCHECK_EQ(size, out.cols);
  const auto gather_row = HWY_DYNAMIC_POINTER(GatherRow);
  const int64_t row_bytes = size * SizeOf(dtype);
  ParallelRanges(context, out.rows, std::max<int64_t>(1, 16384 / (size + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     gather_row(table + ids[row] * row_bytes, dtype, size, add, out.row(row));
                   }
                 });
}

}  // namespace

EmbeddingTable::EmbeddingTable(ConstMatrix table, DataType dtype)
    : EmbeddingTable(table.rows, table.cols, dtype) {
  CHECK(dtype == DataType::kFloat32 || dtype == DataType::kBFloat16) << DataTypeName(dtype);
  AlignedBuffer buffer(num_rows_ * size_ * SizeOf(dtype));
  const auto store_row = HWY_DYNAMIC_POINTER(StoreRow);
  for (int64_t row = 0; row < num_rows_; ++row) {
    store_row(table.row(row), dtype, size_, buffer.data() + row * size_ * SizeOf(dtype));
  }
  buffer_ = PackedBytes(std::move(buffer));
}

absl::StatusOr<EmbeddingTable> EmbeddingTable::FromPacked(const PackedMatrix& packed,
                                                          int64_t num_rows, int64_t size,
                                                          DataType dtype) {
  EmbeddingTable table(num_rows, size, dtype);
  RETURN_IF_ERROR(CheckLayout(packed, table.Layout(), num_rows * size * SizeOf(dtype)));
  table.buffer_ = packed.bytes;
  return table;
}

std::string EmbeddingTable::Layout() const {
  return absl::StrCat(DataTypeName(dtype_), " [", num_rows_, ", ", size_, "], rows");
}

PackedMatrix EmbeddingTable::packed() const {
  return quantized_ == nullptr ? PackedMatrix{Layout(), buffer_} : quantized_->packed();
}

EmbeddingTable::EmbeddingTable(std::shared_ptr<const QuantizedWeights> weights, float factor)
    : quantized_(std::move(weights)),
      factor_(factor),
      num_rows_(quantized_->out_features()),
      size_(quantized_->in_features()) {}

void EmbeddingTable::Gather(KernelContext& context, absl::Span<const int32_t> ids,
                            Matrix out) const {
  if (quantized_ != nullptr) return quantized_->Gather(context, ids, factor_, /*add=*/false, out);
  GatherRows(context, buffer_.data(), dtype_, size_, ids, /*add=*/false, out);
}

void EmbeddingTable::GatherAdd(KernelContext& context, absl::Span<const int32_t> ids,
                               Matrix out) const {
  if (quantized_ != nullptr) return quantized_->Gather(context, ids, factor_, /*add=*/true, out);
  GatherRows(context, buffer_.data(), dtype_, size_, ids, /*add=*/true, out);
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
