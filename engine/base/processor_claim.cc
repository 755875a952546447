#include "engine/base/processor_claim.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace attendant::engine {

std::optional<ProcessorClaim> ProcessorClaim::Take(int processor) {
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return ProcessorClaim(processor, -1);
  sockaddr_un address = {.sun_family = AF_UNIX};
  const std::string name = absl::StrCat("attendant/processor/", processor);
  std::ranges::copy(name, address.sun_path + 1);  // behind a 0: no file
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
  if (bind(socket, reinterpret_cast<const sockaddr*>(&address), size) == 0)
    return ProcessorClaim(processor, socket);
  const bool is_taken = errno == EADDRINUSE;
  close(socket);
  if (is_taken) return std::nullopt;
  return ProcessorClaim(processor, -1);
}

ProcessorClaim::ProcessorClaim(ProcessorClaim&& other) noexcept
    : processor_(other.processor_), socket_(std::exchange(other.socket_, -1)) {}

ProcessorClaim& ProcessorClaim::operator=(ProcessorClaim&& other) noexcept {
  processor_ = other.processor_;
  std::swap(socket_, other.socket_);
  return *this;
}

ProcessorClaim::~ProcessorClaim() {
  if (socket_ >= 0) close(socket_);
}

}  // namespace attendant::engine
