#ifndef ATTENDANT_CLIENT_CLI_ARRAY_FILE_H_
#define ATTENDANT_CLIENT_CLI_ARRAY_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/tensor.h"

namespace attendant::client {

// Reads an array: NumPy's .npy (C order; float16, float32 or float64), or else JSON, nested lists
// of numbers. INVALID_ARGUMENT that names the file and what is wrong with it.
absl::StatusOr<FloatTensor> ReadArrayFile(const std::string& path);

// The same from the content of a file. `name` is for messages.
absl::StatusOr<FloatTensor> ParseNpy(absl::string_view content, absl::string_view name);
absl::StatusOr<FloatTensor> ParseJsonArray(absl::string_view content, absl::string_view name);

// Writes a float32 .npy file.
absl::Status WriteNpyFile(const FloatTensor& tensor, const std::string& path);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_ARRAY_FILE_H_
