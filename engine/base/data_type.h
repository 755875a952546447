#ifndef ATTENDANT_ENGINE_BASE_DATA_TYPE_H_
#define ATTENDANT_ENGINE_BASE_DATA_TYPE_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace attendant::engine {

// The element types that cross a boundary: a request, a response, a checkpoint or a kernel.
enum class DataType : uint8_t {
  kFloat32,
  kFloat16,   // IEEE 754 binary16
  kBFloat16,  // the upper half of a binary32
  kInt8,
  kUint8,
  kInt32,
  kInt64,
  kBool,    // one byte, 0 or 1
  kBinary,  // one bit a value, packed most-significant-bit first; embeddings only
  kInt4,    // two to a byte; weights only
};

// Bytes of one element. kBinary and kInt4 have no such size; asking is a defect.
size_t SizeOf(DataType dtype);

// "f32", "f16", "bf16", "i8", "u8", "i32", "i64", "bool", "binary", "i4".
absl::string_view DataTypeName(DataType dtype);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_DATA_TYPE_H_
