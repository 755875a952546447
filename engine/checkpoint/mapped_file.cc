#include "engine/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file_descriptor.h"
#include "engine/base/hash.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {
namespace {

struct OpenedFile {
  FileDescriptor fd;
  struct stat status;
  int64_t size_bytes() const { return status.st_size; }
};

absl::StatusOr<OpenedFile> OpenRegularFile(const std::string& path) {
  // Not to wait for the writer of a FIFO.
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat status;
  if (fstat(fd.get(), &status) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read the size of ", path));
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return OpenedFile{std::move(fd), status};
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const OpenedFile file, OpenRegularFile(path));
  if (file.size_bytes() == 0) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  void* address = mmap(nullptr, file.size_bytes(), PROT_READ, MAP_PRIVATE, file.fd.get(), 0);
  if (address == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path));
  return MappedFile(absl::MakeConstSpan(static_cast<const std::byte*>(address), file.size_bytes()),
                    file.status);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), status_(other.status_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(status_, other.status_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

// Both are hints: were they refused, pages would be read later, or stay.
void MappedFile::Prefetch(absl::Span<const std::byte> part) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t address = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t first = address / page * page;
  madvise(reinterpret_cast<void*>(first), address + part.size() - first, MADV_POPULATE_READ);
}

void MappedFile::Release(absl::Span<const std::byte> part) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t address = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t first = (address + page - 1) / page * page;
  const uintptr_t last = (address + part.size()) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

std::string Fingerprint(absl::Span<const std::byte> bytes, size_t header_bytes,
                        const MappedFile* file) {
  constexpr size_t kSamples = 256, kSampleBytes = 4096;
  const absl::Span<const std::byte> rest = bytes.subspan(std::min(header_bytes, bytes.size()));
  std::vector<uint64_t> hashes = {Hash64(bytes.first(bytes.size() - rest.size()))};
  if (rest.size() <= kSamples * kSampleBytes) {
    hashes.push_back(Hash64(rest));
  } else {
    for (size_t i = 0; i < kSamples; ++i) {
      const size_t first = (rest.size() - kSampleBytes) / (kSamples - 1) * i;
      hashes.push_back(Hash64(rest.subspan(first, kSampleBytes)));
    }
  }
  const timespec modified = file == nullptr ? timespec{} : file->status().st_mtim;
  return absl::StrFormat(
      "%d bytes, changed at %d.%09d, hash %016x", bytes.size(), modified.tv_sec, modified.tv_nsec,
      Hash64(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(hashes.data()),
                                 hashes.size() * sizeof(uint64_t))));
}

absl::StatusOr<std::optional<std::string>> ReadSmallFile(const std::string& path,
                                                         int64_t max_bytes) {
  absl::StatusOr<OpenedFile> file = OpenRegularFile(path);
  if (absl::IsNotFound(file.status())) return std::nullopt;
  RETURN_IF_ERROR(file.status());
  if (file->size_bytes() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", file->size_bytes(),
                                                   " bytes; at most ", max_bytes, " are read"));
  }
  std::string contents(file->size_bytes(), '\0');
  size_t size = 0;
  while (size < contents.size()) {
    const ssize_t count = read(file->fd.get(), contents.data() + size, contents.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
    if (count == 0) break;  // it shrank
    size += static_cast<size_t>(count);
  }
  contents.resize(size);
  return contents;
}

}  // namespace attendant::engine
