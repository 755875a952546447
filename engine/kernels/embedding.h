#ifndef ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_
#define ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// A table of embeddings, kept in float or bfloat16.
class EmbeddingTable {
 public:
  EmbeddingTable() = default;
  // Copies `table` [num_rows, size]; dtype is kFloat32 or kBFloat16.
  EmbeddingTable(ConstMatrix table, DataType dtype);

  // out [num_tokens, size] = table[ids]; every id is within the table.
  void Gather(KernelContext& context, absl::Span<const int32_t> ids, Matrix out) const;
  // The same, added to what `out` holds.
  void GatherAdd(KernelContext& context, absl::Span<const int32_t> ids, Matrix out) const;

  int64_t num_rows() const { return num_rows_; }
  int64_t size() const { return size_; }
  size_t size_bytes() const { return buffer_.size_bytes(); }

 private:
  AlignedBuffer buffer_;
  DataType dtype_ = DataType::kFloat32;
  int64_t num_rows_ = 0;
  int64_t size_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_EMBEDDING_H_
