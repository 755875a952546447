#ifndef ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_
#define ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/base/packed_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/quantized_weights.h"

namespace attendant::engine {

// A table of embeddings, kept in float, in bfloat16, or as weights in small integers, which may be
// those of a Linear as well.
class EmbeddingTable {
 public:
  EmbeddingTable() = default;
  // Copies `table` [num_rows, size]; dtype is kFloat32 or kBFloat16.
  EmbeddingTable(ConstMatrix table, DataType dtype);
  // The rows of `weights`, times `factor`.
  EmbeddingTable(std::shared_ptr<const QuantizedWeights> weights, float factor);
  // What packed() gave of a table of plain numbers. FAILED_PRECONDITION for another shape or type.
  static absl::StatusOr<EmbeddingTable> FromPacked(const PackedMatrix& packed, int64_t num_rows,
                                                   int64_t size, DataType dtype);
  PackedMatrix packed() const;

  // out [num_tokens, size] = table[ids]; every id is within the table.
  void Gather(KernelContext& context, absl::Span<const int32_t> ids, Matrix out) const;
  // The same, added to what `out` holds.
  void GatherAdd(KernelContext& context, absl::Span<const int32_t> ids, Matrix out) const;

  int64_t num_rows() const { return num_rows_; }
  int64_t size() const { return size_; }
  size_t size_bytes() const {
    return quantized_ == nullptr ? buffer_.size_bytes() : quantized_->size_bytes();
  }

 private:
  EmbeddingTable(int64_t num_rows, int64_t size, DataType dtype)
      : dtype_(dtype), num_rows_(num_rows), size_(size) {}
  std::string Layout() const;

  std::shared_ptr<const QuantizedWeights> quantized_;  // or null, and then
  float factor_ = 1.0f;
  PackedBytes buffer_;
  DataType dtype_ = DataType::kFloat32;
  int64_t num_rows_ = 0;
  int64_t size_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_
