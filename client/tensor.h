#ifndef ATTENDANT_CLIENT_TENSOR_H_
#define ATTENDANT_CLIENT_TENSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attendant/v1/tensor.pb.h"

namespace attendant::client {

// Numbers in row-major order: values.size() is the product of `shape`.
struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;

  // One row of a tensor of two axes. `row` is in [0, shape[0]).
  absl::Span<const float> Row(int64_t row) const {
    return absl::MakeConstSpan(values).subspan(row * shape[1], shape[1]);
  }
};

// The number of values in a tensor of this shape; -1 if an axis is negative or the product does not
// fit.
int64_t NumElements(absl::Span<const int64_t> shape);

// A FLOAT32 message with the same shape and values.
v1::Tensor ToMessage(const FloatTensor& tensor);

// Widens FLOAT32, FLOAT16, BFLOAT16, INT8, UINT8, INT32 and BOOL; BINARY becomes 0 and 1.
// INVALID_ARGUMENT for other types, and where the number of bytes does not match the shape.
absl::StatusOr<FloatTensor> FromMessage(const v1::Tensor& message);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_TENSOR_H_
