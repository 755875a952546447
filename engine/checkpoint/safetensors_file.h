#ifndef ATTENDANT_ENGINE_CHECKPOINT_SAFETENSORS_FILE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_SAFETENSORS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/checkpoint/mapped_file.h"

namespace attendant::engine {

// One .safetensors file: 8 bytes of header length, a JSON header that gives each tensor's dtype,
// shape and place, then their data (https://huggingface.co/docs/safetensors). The whole header is
// checked when the file is opened: the tensors lie inside the file, side by side, without overlap
// or hole, and each has the bytes of its shape.
//
// Immutable after opening; every method may be called from any thread.
class SafetensorsFile {
 public:
  struct Tensor {
    std::string dtype;  // "F32"; perhaps one that is not read
    std::vector<int64_t> shape;
    absl::Span<const std::byte> data;
  };

  // What the system said if the file cannot be mapped; INVALID_ARGUMENT, naming the tensor, if it
  // is malformed.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  // The same for a file in memory, which must outlive the result. `name` stands for it in messages.
  static absl::StatusOr<SafetensorsFile> Parse(std::string name, absl::Span<const std::byte> bytes);

  const std::string& name() const { return name_; }
  int64_t size_bytes() const { return static_cast<int64_t>(bytes_.size()); }
  std::string Fingerprint() const;  // see mapped_file.h
  const absl::btree_map<std::string, Tensor>& tensors() const { return tensors_; }
  const Tensor* Find(absl::string_view tensor) const;  // null if there is none

  // As Checkpoint::ReadTensor and Checkpoint::Release.
  absl::Status Read(absl::string_view tensor, absl::Span<const int64_t> shape,
                    absl::Span<float> output) const;
  void Release(absl::string_view tensor) const;

 private:
  SafetensorsFile(std::string name, absl::Span<const std::byte> bytes)
      : name_(std::move(name)), bytes_(bytes) {}

  absl::Status ParseHeader();

  std::string name_;
  std::optional<MappedFile> mapping_;
  absl::Span<const std::byte> bytes_;
  size_t header_bytes_ = 0;
  absl::btree_map<std::string, Tensor> tensors_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_SAFETENSORS_FILE_H_
