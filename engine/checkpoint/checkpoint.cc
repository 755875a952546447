#include "engine/checkpoint/checkpoint.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/checkpoint/hugging_face_checkpoint.h"

namespace attendant::engine {

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    if (status.type() == std::filesystem::file_type::not_found) {
      return absl::NotFoundError(absl::StrCat(path, " does not exist"));
    }
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot open ", path));
  }
  if (std::filesystem::is_directory(status)) return OpenHuggingFaceCheckpoint(path);
  return OpenGgufCheckpoint(path);
}

absl::Status Checkpoint::AppendQuantized(absl::string_view name, absl::Span<const int64_t>,
                                         QuantizedMatrix&) const {
  return absl::UnimplementedError(
      absl::StrCat(path(), ": tensor ", name, " is not stored in small integers"));
}

}  // namespace attendant::engine
