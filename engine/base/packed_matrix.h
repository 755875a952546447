#ifndef ATTENDANT_ENGINE_BASE_PACKED_MATRIX_H_
#define ATTENDANT_ENGINE_BASE_PACKED_MATRIX_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

// Bytes that nobody changes any more, aligned to 64, in memory of their own or in a file's mapping.
// Copies share them, and any thread may read them.
class PackedBytes {
 public:
  PackedBytes() = default;
  explicit PackedBytes(AlignedBuffer buffer)
      : PackedBytes(std::make_shared<const AlignedBuffer>(std::move(buffer))) {}
  // `bytes` live as long as `owner`.
  PackedBytes(std::shared_ptr<const void> owner, absl::Span<const std::byte> bytes)
      : owner_(std::move(owner)), bytes_(bytes) {}

  const std::byte* data() const { return bytes_.data(); }
  size_t size_bytes() const { return bytes_.size(); }
  absl::Span<const std::byte> span() const { return bytes_; }

 private:
  explicit PackedBytes(std::shared_ptr<const AlignedBuffer> buffer)
      : owner_(buffer), bytes_(buffer->data(), buffer->size_bytes()) {}

  std::shared_ptr<const void> owner_;
  absl::Span<const std::byte> bytes_;
};

// A matrix of weights as a kernel packed it, to be kept and given to that kernel again.
struct PackedMatrix {
  // What the bytes mean, in full: element type, shape, and the place of every element. Kernels
  // take only the layout that they would choose themselves.
  std::string layout;
  PackedBytes bytes;
};

// FAILED_PRECONDITION, naming both, if `packed` is laid out otherwise or has another size.
absl::Status CheckLayout(const PackedMatrix& packed, absl::string_view layout, size_t size_bytes);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_PACKED_MATRIX_H_
