#ifndef ATTENDANT_ENGINE_EMBEDDING_OUTPUT_H_
#define ATTENDANT_ENGINE_EMBEDDING_OUTPUT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/base/data_type.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

// Whether embeddings of `dimensions` values can be given in `dtype`: kFloat32, kFloat16, kBFloat16;
// kInt8 if they are normalized, so that 127 stands for 1; kBinary if the bits fill whole bytes.
// Else INVALID_ARGUMENT.
absl::Status CheckEmbeddingType(DataType dtype, int64_t dimensions, bool is_normalized);

// `embeddings` [rows, dimensions] in `dtype`, row-major:
//   kInt8    round(127 v), to nearest, within [-127, 127]
//   kBinary  a bit for each value, 1 if it is greater than 0; the first is the most significant of
//   the first byte
Tensor ConvertEmbeddings(ConstMatrix embeddings, DataType dtype);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_EMBEDDING_OUTPUT_H_
