#ifndef ATTENDANT_ENGINE_BASE_FILE_DESCRIPTOR_H_
#define ATTENDANT_ENGINE_BASE_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace attendant::engine {

// A file descriptor that is closed with its owner; negative: none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_FILE_DESCRIPTOR_H_
