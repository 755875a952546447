#ifndef ATTENDANT_ENGINE_CHECKPOINT_PACKED_FILE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_PACKED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/packed_matrix.h"
#include "engine/checkpoint/mapped_file.h"

namespace attendant::engine {

// A file of packed matrices, for the machine that wrote it:
//
//   header   64 bytes: "ATTNPACK", the version of this format, the size of the file and of the
//            table, and the checksums of the table and of the header itself
//   table    what the file was made from, then name, layout, place, size and checksum of each
//            matrix
//   data     the matrices, each at a multiple of 4096
//
// Numbers are little-endian, checksums those of hash.h. The file is not trusted: everything is
// checked before it is used, so that one that is cut short, damaged or made up costs an error at
// most. What it cannot be checked for is that its weights are the model's; so only a file is taken
// that nobody but this user, or root, can have written.
class PackedFile {
 public:
  // What a file was made from and for, each under a name: {"dtype", "bf16"}.
  using Origin = std::vector<std::pair<std::string, std::string>>;

  struct NamedMatrix {
    std::string name;
    PackedMatrix matrix;
  };

  // Maps the file. What the system said; PERMISSION_DENIED if others may have written it;
  // FAILED_PRECONDITION for another version; DATA_LOSS if it is not whole.
  static absl::StatusOr<PackedFile> Open(const std::string& path);

  // The same of a file in memory, which must outlive what is read from it.
  static absl::StatusOr<PackedFile> Parse(absl::Span<const std::byte> bytes);

  const Origin& origin() const { return origin_; }
  size_t num_matrices() const { return entries_.size(); }
  int64_t size_bytes() const { return static_cast<int64_t>(bytes_.size()); }

  // Reads a matrix through, for its checksum. DATA_LOSS if that is wrong. What is returned keeps
  // the mapping.
  absl::StatusOr<NamedMatrix> Read(size_t index) const;

  // Writes `path`: whole or not at all, readable by this user alone, and on the disk when this
  // returns. What the system said; ABORTED if somebody else is writing it now.
  static absl::Status Write(const std::string& path, const Origin& origin,
                            absl::Span<const NamedMatrix> matrices);

 private:
  struct Entry {
    std::string name;
    std::string layout;
    uint64_t begin;
    uint64_t size_bytes;
    uint64_t checksum;
  };
  class Reader;

  explicit PackedFile(absl::Span<const std::byte> bytes) : bytes_(bytes) {}
  absl::Status ParseAll();

  std::shared_ptr<const MappedFile> mapping_;  // null for a file in memory
  absl::Span<const std::byte> bytes_;
  Origin origin_;
  std::vector<Entry> entries_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_PACKED_FILE_H_
