#ifndef ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_

#include <sys/stat.h>

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
  // Of the file, when it was opened.
  const struct stat& status() const { return status_; }

  // Reads the pages of `part` in one go, rather than each when it is touched.
  static void Prefetch(absl::Span<const std::byte> part);

  // Gives the memory of the whole pages inside `part` back to the kernel. They are read again when
  // next touched.
  static void Release(absl::Span<const std::byte> part);

 private:
  MappedFile(absl::Span<const std::byte> bytes, const struct stat& status)
      : bytes_(bytes), status_(status) {}

  absl::Span<const std::byte> bytes_;
  struct stat status_;
};

// Tells one version of a file of weights from another without reading all of it: its size, the time
// of its last change, and a hash of its first `header_bytes` and 256 pages evenly spread over
// the rest. The time betrays a change of a few values; the hash, a file that came with
// another's time, as copies do. `file` is null for bytes that are no file's.
std::string Fingerprint(absl::Span<const std::byte> bytes, size_t header_bytes,
                        const MappedFile* file);

// The contents of a regular file; nothing if there is none of that name. INVALID_ARGUMENT if it has
// more than `max_bytes`.
absl::StatusOr<std::optional<std::string>> ReadSmallFile(const std::string& path,
                                                         int64_t max_bytes);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_MAPPED_FILE_H_
