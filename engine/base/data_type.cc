#include "engine/base/data_type.h"

#include "absl/log/check.h"
#include "absl/log/log.h"

namespace attendant::engine {

size_t SizeOf(DataType dtype) {
  switch (dtype) {
    case DataType::kInt8:
    case DataType::kUint8:
    case DataType::kBool:
      return 1;
    case DataType::kFloat16:
    case DataType::kBFloat16:
      return 2;
    case DataType::kFloat32:
    case DataType::kInt32:
      return 4;
    case DataType::kInt64:
      return 8;
    case DataType::kBinary:
    case DataType::kInt4:
      break;
  }
  LOG(FATAL) << "data type " << DataTypeName(dtype) << " has no element size";
}

absl::string_view DataTypeName(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return "f32";
    case DataType::kFloat16:
      return "f16";
    case DataType::kBFloat16:
      return "bf16";
    case DataType::kInt8:
      return "i8";
    case DataType::kUint8:
      return "u8";
    case DataType::kInt32:
      return "i32";
    case DataType::kInt64:
      return "i64";
    case DataType::kBool:
      return "bool";
    case DataType::kBinary:
      return "binary";
    case DataType::kInt4:
      return "i4";
  }
  return "unknown";
}

}  // namespace attendant::engine
