#ifndef ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attendant::engine {

// A regular file, mapped for reading.
//
// Its size is taken once, when it is opened. Whoever truncates the file afterwards makes the kernel
// send SIGBUS to the reader of the lost pages, as with any mapping: replace a checkpoint by
// renaming a new one over it, not in place.
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED, ...: what the system said. INVALID_ARGUMENT: not a regular file,
  // or empty.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const std::byte> bytes() const { return bytes_; }

  // Gives the memory of the whole pages inside `part` back to the kernel. They are read again when
  // next touched.
  static void Release(absl::Span<const std::byte> part);

 private:
  explicit MappedFile(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  absl::Span<const std::byte> bytes_;
};

// The contents of a regular file; nothing if there is none of that name. INVALID_ARGUMENT if it has
// more than `max_bytes`.
absl::StatusOr<std::optional<std::string>> ReadSmallFile(const std::string& path,
                                                         int64_t max_bytes);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_
