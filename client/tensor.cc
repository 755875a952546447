#include "client/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace attendant::client {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors travel as little-endian bytes");

float FromHalf(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float magnitude;
  if (exponent == 0x1f) {
    magnitude = fraction == 0 ? std::numeric_limits<float>::infinity()
                              : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction | 0x400), exponent - 25);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

float FromBfloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// Reads packed values of type T, each turned into a float by `convert`.
template <typename T, typename Convert>
std::vector<float> Widen(const std::string& data, Convert convert) {
  std::vector<float> values(data.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(value);
  }
  return values;
}

template <typename T>
std::vector<float> Widen(const std::string& data) {
  return Widen<T>(data, [](T value) { return static_cast<float>(value); });
}

std::vector<float> UnpackBits(const std::string& data, int64_t row_size, int64_t count) {
  std::vector<float> values(count);
  const int64_t row_bytes = (row_size + 7) / 8;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t column = i % row_size;
    const int byte = static_cast<uint8_t>(data[i / row_size * row_bytes + column / 8]);
    values[i] = (byte >> (7 - column % 8)) & 1;
  }
  return values;
}

// Bytes of one value; 0 for a type that has no floats.
int64_t SizeOf(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT32:
    case v1::DATA_TYPE_INT32:
      return 4;
    case v1::DATA_TYPE_FLOAT16:
    case v1::DATA_TYPE_BFLOAT16:
      return 2;
    case v1::DATA_TYPE_INT8:
    case v1::DATA_TYPE_UINT8:
    case v1::DATA_TYPE_BOOL:
      return 1;
    default:
      return 0;
  }
}

}  // namespace

int64_t NumElements(absl::Span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return -1;
  }
  return count;
}

v1::Tensor ToMessage(const FloatTensor& tensor) {
  v1::Tensor message;
  message.set_dtype(v1::DATA_TYPE_FLOAT32);
  message.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  message.mutable_data()->assign(reinterpret_cast<const char*>(tensor.values.data()),
                                 tensor.values.size() * sizeof(float));
  return message;
}

absl::StatusOr<FloatTensor> FromMessage(const v1::Tensor& message) {
  FloatTensor tensor;
  tensor.shape.assign(message.shape().begin(), message.shape().end());
  const int64_t count = NumElements(tensor.shape);
  const bool binary = message.dtype() == v1::DATA_TYPE_BINARY;
  const int64_t size = binary ? 1 : SizeOf(message.dtype());
  if (size == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot read a tensor of type ", v1::DataType_Name(message.dtype()), " as floats"));
  }
  const int64_t row_size = tensor.shape.empty() ? 1 : tensor.shape.back();
  const int64_t num_rows = row_size > 0 ? count / row_size : 0;
  const int64_t stored = binary ? num_rows * ((row_size + 7) / 8) : count;
  const int64_t available = static_cast<int64_t>(message.data().size());
  if (count < 0 || available % size != 0 || available / size != stored) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a ", v1::DataType_Name(message.dtype()), " tensor of shape [",
        absl::StrJoin(tensor.shape, ", "), "] has ", available, " bytes, which do not match"));
  }
  switch (message.dtype()) {
    case v1::DATA_TYPE_FLOAT16:
      tensor.values = Widen<uint16_t>(message.data(), FromHalf);
      break;
    case v1::DATA_TYPE_BFLOAT16:
      tensor.values = Widen<uint16_t>(message.data(), FromBfloat16);
      break;
    case v1::DATA_TYPE_INT8:
      tensor.values = Widen<int8_t>(message.data());
      break;
    case v1::DATA_TYPE_UINT8:
    case v1::DATA_TYPE_BOOL:
      tensor.values = Widen<uint8_t>(message.data());
      break;
    case v1::DATA_TYPE_INT32:
      tensor.values = Widen<int32_t>(message.data());
      break;
    case v1::DATA_TYPE_BINARY:
      tensor.values = UnpackBits(message.data(), row_size, count);
      break;
    default:
      tensor.values = Widen<float>(message.data());
      break;
  }
  return tensor;
}

}  // namespace attendant::client
