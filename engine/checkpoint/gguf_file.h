#ifndef ATTENDANT_ENGINE_CHECKPOINT_GGUF_FILE_H_
#define ATTENDANT_ENGINE_CHECKPOINT_GGUF_FILE_H_

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
#include "engine/checkpoint/storage_format.h"

namespace attendant::engine {

// One GGUF file, version 2 or 3, little-endian: metadata by key, and tensors by the names that
// llama.cpp gives them (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Everything is
// checked when the file is opened: counts and strings lie within the file, keys and names are
// unique, tensors are aligned, inside the file, and do not overlap. Nothing is copied whose size
// only the file vouches for.
//
// Immutable after opening; every method may be called from any thread.
class GgufFile {
 public:
  struct Tensor {
    const StorageFormat* format;  // of the ggml type; perhaps one that is not read
    std::vector<int64_t> shape;   // outermost first: the reverse of the order in the file
    absl::Span<const std::byte> data;
  };

  // What the system said if the file cannot be mapped; INVALID_ARGUMENT, naming the key or tensor,
  // if it is malformed; UNIMPLEMENTED for other versions and for tensor types of no known size.
  static absl::StatusOr<GgufFile> Open(const std::string& path);

  // The same for a file in memory, which must outlive the result. `name` stands for it in messages.
  static absl::StatusOr<GgufFile> Parse(std::string name, absl::Span<const std::byte> bytes);

  const std::string& name() const { return name_; }
  int64_t size_bytes() const { return static_cast<int64_t>(bytes_.size()); }
  std::string Fingerprint() const;  // see mapped_file.h
  const absl::btree_map<std::string, Tensor>& tensors() const { return tensors_; }
  const Tensor* Find(absl::string_view tensor) const;  // null if there is none

  // A value of the metadata; nothing if there is no such key. INVALID_ARGUMENT if it has another
  // type. Integers of every width are one type, and so are both floats.
  absl::StatusOr<std::optional<int64_t>> GetInteger(absl::string_view key) const;
  absl::StatusOr<std::optional<double>> GetFloat(absl::string_view key) const;
  absl::StatusOr<std::optional<bool>> GetBool(absl::string_view key) const;
  absl::StatusOr<std::optional<std::string>> GetString(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<std::string>>> GetStrings(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<int64_t>>> GetIntegers(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<double>>> GetFloats(absl::string_view key) const;

  void Release(const Tensor& tensor) const;

 private:
  // A metadata value as it lies in the file, checked.
  struct Value {
    uint32_t type;
    uint32_t element_type;  // of an array
    uint64_t count;         // of an array, else 1
    absl::Span<const std::byte> bytes;
  };
  class Reader;

  GgufFile(std::string name, absl::Span<const std::byte> bytes)
      : name_(std::move(name)), bytes_(bytes) {}

  absl::Status ParseAll();
  absl::Status ParseMetadata(Reader& reader, uint64_t count);
  absl::Status ParseTensors(Reader& reader, uint64_t count);
  absl::Status CheckOverlaps() const;

  const Value* FindValue(absl::string_view key) const;
  absl::Status WrongType(absl::string_view key, const Value& value,
                         absl::string_view expected) const;

  std::string name_;
  std::optional<MappedFile> mapping_;
  absl::Span<const std::byte> bytes_;
  size_t header_bytes_ = 0;  // of the metadata and the list of tensors
  absl::btree_map<std::string, Value> metadata_;
  absl::btree_map<std::string, Tensor> tensors_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_GGUF_FILE_H_
