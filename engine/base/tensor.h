#ifndef ATTENDANT_ENGINE_BASE_TENSOR_H_
#define ATTENDANT_ENGINE_BASE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/data_type.h"

namespace attendant::engine {

// Memory aligned for any vector load (64 bytes), not initialised. Large buffers ask for huge pages.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size_bytes);

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_bytes_ = 0;
};

// An owned, row-major, contiguous tensor: what requests carry and responses return.
struct Tensor {
  DataType dtype = DataType::kFloat32;
  std::vector<int64_t> shape;
  std::string data;  // little-endian, exactly product(shape) * SizeOf(dtype) bytes
};

// product(shape), or -1 if an extent is negative or the product does not fit 63 bits.
int64_t NumElements(absl::Span<const int64_t> shape);

// "[2, 3, 4]".
std::string ShapeString(absl::Span<const int64_t> shape);

// A matrix in somebody else's memory: `rows` rows of `cols` values, `stride` values from one row to
// the next.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data, int64_t rows, int64_t cols) : MatrixView(data, rows, cols, cols) {}
  MatrixView(T* data, int64_t rows, int64_t cols, int64_t stride)
      : data(data), rows(rows), cols(cols), stride(stride) {}

  T* row(int64_t index) const { return data + index * stride; }
  // `count` rows from `first`; `count` columns from `first`.
  MatrixView Rows(int64_t first, int64_t count) const { return {row(first), count, cols, stride}; }
  MatrixView Cols(int64_t first, int64_t count) const {
    return {data + first, rows, count, stride};
  }

  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }
};

using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;
// Of bfloat16 (float_conversion.h).
using BFloat16Matrix = MatrixView<uint16_t>;
using ConstBFloat16Matrix = MatrixView<const uint16_t>;

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_TENSOR_H_
