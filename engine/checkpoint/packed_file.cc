#include "engine/checkpoint/packed_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/file_descriptor.h"
#include "engine/base/hash.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kVersion = 1;
constexpr size_t kAlignment = 4096;
constexpr absl::string_view kMagic = "ATTNPACK";

struct Header {
  char magic[8];
  uint32_t version;
  uint8_t unused[20];  // zeros
  uint64_t file_bytes;
  uint64_t table_bytes;
  uint64_t table_checksum;
  uint64_t checksum;  // of all before it
};
static_assert(sizeof(Header) == 64);

template <typename T>
absl::Span<const std::byte> BytesOf(const T* values, size_t count) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values), count * sizeof(T));
}

uint64_t ChecksumOf(const Header& header) {
  return Hash64(BytesOf(&header, 1).first(offsetof(Header, checksum)));
}

uint64_t RoundUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <typename Number>
void AppendNumber(Number number, std::string& to) {
  to.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void AppendText(absl::string_view text, std::string& to) {
  AppendNumber(static_cast<uint32_t>(text.size()), to);
  to.append(text.data(), text.size());
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("it is damaged: ", what));
}

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

absl::Status WriteAll(int fd, const std::string& path, absl::Span<const std::byte> bytes,
                      uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError("write", path);
    bytes.remove_prefix(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

// Opens the file that is to become the result. Its lock, which ends with the process, tells a
// writer at work from one that died; a file left by that one is taken over.
absl::StatusOr<FileDescriptor> OpenTemporary(const std::string& path) {
  FileDescriptor fd(
      open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (fd.get() < 0) return SystemError("create", path);
  const auto busy = [&] {
    return absl::AbortedError(absl::StrCat("another process is writing ", path));
  };
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? busy() : SystemError("lock", path);
  }
  // Whoever had the lock before may have renamed the file meanwhile.
  struct stat opened, named;
  if (fstat(fd.get(), &opened) != 0 || lstat(path.c_str(), &named) != 0 ||
      opened.st_ino != named.st_ino || opened.st_dev != named.st_dev) {
    return busy();
  }
  if (!S_ISREG(opened.st_mode) || opened.st_uid != geteuid() || opened.st_nlink != 1) {
    return absl::PermissionDeniedError(absl::StrCat(path, " is somebody else's"));
  }
  if (fchmod(fd.get(), 0600) != 0 || ftruncate(fd.get(), 0) != 0) {
    return SystemError("empty", path);
  }
  return fd;
}

absl::Status SyncFolder(const std::string& folder) {
  const FileDescriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0) return SystemError("sync", folder);
  return absl::OkStatus();
}

}  // namespace

// Takes the table apart.
class PackedFile::Reader {
 public:
  explicit Reader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename Number>
  absl::StatusOr<Number> TakeNumber() {
    Number number;
    if (bytes_.size() < sizeof(number)) return Damaged("its table ends early");
    std::memcpy(&number, bytes_.data(), sizeof(number));
    bytes_.remove_prefix(sizeof(number));
    return number;
  }

  absl::StatusOr<std::string> TakeText() {
    ASSIGN_OR_RETURN(const uint32_t size, TakeNumber<uint32_t>());
    if (bytes_.size() < size) return Damaged("its table ends early");
    std::string text(reinterpret_cast<const char*>(bytes_.data()), size);
    bytes_.remove_prefix(size);
    return text;
  }

  bool at_end() const { return bytes_.empty(); }

 private:
  absl::Span<const std::byte> bytes_;
};

absl::StatusOr<PackedFile> PackedFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  const struct stat& status = mapping.status();
  if ((status.st_uid != geteuid() && status.st_uid != 0) ||
      (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError("others may have written it");
  }
  PackedFile file(mapping.bytes());
  file.mapping_ = std::make_shared<const MappedFile>(std::move(mapping));
  RETURN_IF_ERROR(file.ParseAll());
  return file;
}

absl::StatusOr<PackedFile> PackedFile::Parse(absl::Span<const std::byte> bytes) {
  PackedFile file(bytes);
  RETURN_IF_ERROR(file.ParseAll());
  return file;
}

absl::Status PackedFile::ParseAll() {
  Header header;
  if (bytes_.size() < sizeof(header)) return Damaged("it is cut short");
  std::memcpy(&header, bytes_.data(), sizeof(header));
  if (absl::string_view(header.magic, sizeof(header.magic)) != kMagic) {
    return absl::DataLossError("it is no file of packed weights");
  }
  if (header.version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("its format has version ", header.version, "; this program's has ", kVersion));
  }
  if (header.checksum != ChecksumOf(header)) return Damaged("its header");
  if (header.file_bytes != bytes_.size()) {
    return Damaged(
        absl::StrCat("it has ", bytes_.size(), " bytes, and once had ", header.file_bytes));
  }
  if (header.table_bytes > bytes_.size() - sizeof(header)) return Damaged("its table's size");
  const absl::Span<const std::byte> table = bytes_.subspan(sizeof(header), header.table_bytes);
  if (header.table_checksum != Hash64(table)) return Damaged("its table");

  Reader reader(table);
  ASSIGN_OR_RETURN(const uint32_t num_origins, reader.TakeNumber<uint32_t>());
  for (uint32_t i = 0; i < num_origins; ++i) {
    ASSIGN_OR_RETURN(std::string name, reader.TakeText());
    ASSIGN_OR_RETURN(std::string value, reader.TakeText());
    origin_.emplace_back(std::move(name), std::move(value));
  }
  while (!reader.at_end()) {
    Entry entry;
    ASSIGN_OR_RETURN(entry.name, reader.TakeText());
    ASSIGN_OR_RETURN(entry.layout, reader.TakeText());
    ASSIGN_OR_RETURN(entry.begin, reader.TakeNumber<uint64_t>());
    ASSIGN_OR_RETURN(entry.size_bytes, reader.TakeNumber<uint64_t>());
    ASSIGN_OR_RETURN(entry.checksum, reader.TakeNumber<uint64_t>());
    if (entry.begin % kAlignment != 0 || entry.begin > bytes_.size() ||
        entry.size_bytes > bytes_.size() - entry.begin) {
      return Damaged("a matrix lies outside it");
    }
    entries_.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

absl::StatusOr<PackedFile::NamedMatrix> PackedFile::Read(size_t index) const {
  const Entry& entry = entries_.at(index);
  const absl::Span<const std::byte> bytes = bytes_.subspan(entry.begin, entry.size_bytes);
  if (mapping_ != nullptr) mapping_->Prefetch(bytes);
  if (Hash64(bytes) != entry.checksum) return Damaged(absl::StrCat("the matrix ", entry.name));
  return NamedMatrix{entry.name, {entry.layout, PackedBytes(mapping_, bytes)}};
}

absl::Status PackedFile::Write(const std::string& path, const Origin& origin,
                               absl::Span<const NamedMatrix> matrices) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenTemporary(temporary));

  std::string table;
  AppendNumber(static_cast<uint32_t>(origin.size()), table);
  for (const auto& [name, value] : origin) {
    AppendText(name, table);
    AppendText(value, table);
  }
  // The places of matrices depend on the table's size, which does not depend on them.
  constexpr size_t kNumberBytes = 3 * sizeof(uint64_t) + 2 * sizeof(uint32_t);
  uint64_t table_bytes = table.size();
  for (const NamedMatrix& matrix : matrices) {
    table_bytes += kNumberBytes + matrix.name.size() + matrix.matrix.layout.size();
  }
  std::vector<uint64_t> begins;
  uint64_t end = sizeof(Header) + table_bytes;
  for (const NamedMatrix& matrix : matrices) {
    const PackedBytes& bytes = matrix.matrix.bytes;
    begins.push_back(RoundUp(end));
    end = begins.back() + bytes.size_bytes();
    AppendText(matrix.name, table);
    AppendText(matrix.matrix.layout, table);
    AppendNumber(begins.back(), table);
    AppendNumber(static_cast<uint64_t>(bytes.size_bytes()), table);
    AppendNumber(Hash64(bytes.span()), table);
  }
  Header header = {.version = kVersion,
                   .file_bytes = end,
                   .table_bytes = table_bytes,
                   .table_checksum = Hash64(table)};
  kMagic.copy(header.magic, sizeof(header.magic));
  header.checksum = ChecksumOf(header);

  const auto write = [&]() -> absl::Status {
    // Finds out now whether there is room.
    if (const int error = posix_fallocate(fd.get(), 0, static_cast<off_t>(end)); error != 0) {
      return absl::ErrnoToStatus(
          error, absl::StrCat("cannot make room for ", end, " bytes in ", temporary));
    }
    RETURN_IF_ERROR(WriteAll(fd.get(), temporary, BytesOf(&header, 1), 0));
    RETURN_IF_ERROR(
        WriteAll(fd.get(), temporary, BytesOf(table.data(), table.size()), sizeof(header)));
    for (size_t i = 0; i < matrices.size(); ++i) {
      RETURN_IF_ERROR(WriteAll(fd.get(), temporary, matrices[i].matrix.bytes.span(), begins[i]));
    }
    if (fsync(fd.get()) != 0) return SystemError("sync", temporary);
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
      return SystemError("rename", temporary);
    }
    return absl::OkStatus();
  };
  if (absl::Status status = write(); !status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncFolder(std::filesystem::path(path).parent_path().string());
}

}  // namespace attendant::engine
