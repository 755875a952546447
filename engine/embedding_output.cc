#include "engine/embedding_output.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/float_conversion.h"

namespace attendant::engine {
namespace {

template <typename T, typename Convert>
void ConvertRows(ConstMatrix embeddings, std::string& data, Convert convert) {
  data.resize(embeddings.rows * embeddings.cols * sizeof(T));
  char* out = data.data();
  for (int64_t row = 0; row < embeddings.rows; ++row) {
    for (int64_t col = 0; col < embeddings.cols; ++col, out += sizeof(T)) {
      const T value = convert(embeddings.row(row)[col]);
      std::memcpy(out, &value, sizeof(T));
    }
  }
}

int8_t ToInt8(float value) {
  return static_cast<int8_t>(std::lrint(std::clamp(127 * value, -127.0f, 127.0f)));
}

void PackSigns(ConstMatrix embeddings, std::string& data) {
  data.assign(embeddings.rows * embeddings.cols / 8, 0);
  for (int64_t row = 0; row < embeddings.rows; ++row) {
    for (int64_t col = 0; col < embeddings.cols; ++col) {
      if (!(embeddings.row(row)[col] > 0)) continue;
      data[(row * embeddings.cols + col) / 8] |= static_cast<char>(0x80 >> (col % 8));
    }
  }
}

}  // namespace

absl::Status CheckEmbeddingType(DataType dtype, int64_t dimensions, bool is_normalized) {
  switch (dtype) {
    case DataType::kFloat32:
    case DataType::kFloat16:
    case DataType::kBFloat16:
      return absl::OkStatus();
    case DataType::kInt8:
      if (is_normalized) return absl::OkStatus();
      return FieldError("output_dtype", "int8 needs normalized embeddings; set normalize");
    case DataType::kBinary:
      if (dimensions % 8 == 0) return absl::OkStatus();
      return FieldError(
          "output_dtype",
          absl::StrCat("binary needs a multiple of 8 dimensions; these are ", dimensions));
    default:
      return FieldError("output_dtype", absl::StrCat("is ", DataTypeName(dtype),
                                                     "; expected f32, f16, bf16, i8 or binary"));
  }
}

Tensor ConvertEmbeddings(ConstMatrix embeddings, DataType dtype) {
  Tensor tensor{.dtype = dtype, .shape = {embeddings.rows, embeddings.cols}};
  switch (dtype) {
    case DataType::kFloat32:
      ConvertRows<float>(embeddings, tensor.data, [](float value) { return value; });
      break;
    case DataType::kFloat16:
      ConvertRows<uint16_t>(embeddings, tensor.data, FloatToFloat16);
      break;
    case DataType::kBFloat16:
      ConvertRows<uint16_t>(embeddings, tensor.data, FloatToBFloat16);
      break;
    case DataType::kInt8:
      ConvertRows<int8_t>(embeddings, tensor.data, ToInt8);
      break;
    case DataType::kBinary:
      PackSigns(embeddings, tensor.data);
      break;
    default:
      LOG(FATAL) << "embeddings in " << DataTypeName(dtype);
  }
  return tensor;
}

}  // namespace attendant::engine
