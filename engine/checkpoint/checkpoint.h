#ifndef ATTENDANT_ENGINE_CHECKPOINT_CHECKPOINT_H_
#define ATTENDANT_ENGINE_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/gguf_vocabulary.h"
#include "engine/base/quantized_matrix.h"

namespace attendant::engine {

// A model as it lies on disk, mapped and checked: tensors by name, and the small files beside them.
// Two forms, one meaning: a Hugging Face folder (config.json and safetensors, perhaps sharded), or
// one GGUF file, whose tensors are given the names, the order of axes and the row order that the
// Hugging Face form of the same model has, and whose metadata are given as the config.json they
// stand for. Who reads a Checkpoint need not know which it is.
//
// Everything in the files is checked when they are opened: sizes, offsets, overlaps, counts. Later
// reads cannot leave the mapping, unless somebody truncates a file that is in use (mapped_file.h).
// Immutable after opening; every method may be called from any thread.
class Checkpoint {
 public:
  // `path`: a folder, or a .gguf file. NOT_FOUND if there is nothing there or no weights in it;
  // INVALID_ARGUMENT for a file that is malformed, naming file, tensor and what was expected;
  // UNIMPLEMENTED for a pickled checkpoint (with the line that converts it), and for GGUF files of
  // another architecture or of tensors of unknown size.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path);

  virtual ~Checkpoint() = default;

  virtual const std::string& path() const = 0;

  // The contents of config.json. For a GGUF file: made from its metadata, `model_type` and all.
  virtual const std::string& config_json() const = 0;

  // The contents of a file beside the weights ("generation_config.json", "1_Pooling/config.json");
  // nothing if it is absent. `name` is relative and stays below the folder. A GGUF file has only
  // the generation_config.json made from its metadata. INVALID_ARGUMENT for a file of more than 256
  // MiB.
  virtual absl::StatusOr<std::optional<std::string>> ReadFile(absl::string_view name) const = 0;

  // The tokenizer inside a GGUF file; null for a folder.
  virtual const GgufVocabulary* gguf_vocabulary() const = 0;

  virtual std::vector<std::string> TensorNames() const = 0;  // sorted

  // The extents of a tensor, outermost first; nothing if there is no such tensor.
  virtual std::optional<std::vector<int64_t>> TensorShape(absl::string_view name) const = 0;

  // How a tensor is stored: "F32", "BF16", "Q4_1", ...; empty if there is no such tensor.
  virtual std::string TensorFormat(absl::string_view name) const = 0;

  // The whole tensor, widened to float, row-major. `output` has exactly its number of elements.
  // NOT_FOUND names the tensor and the file; INVALID_ARGUMENT names both shapes if `shape` is not
  // the tensor's own; UNIMPLEMENTED names the format if it is one that is not read.
  virtual absl::Status ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                                  absl::Span<float> output) const = 0;

  // Of a tensor that is stored in small integers: bits enough for those, 4 or 8, and whether
  // AppendQuantized gives them.
  struct Quantization {
    int bits = 8;
    bool has_minimums = false;
    bool in_groups = false;  // of 32, as QuantizedMatrix has them

    bool operator==(const Quantization&) const = default;
  };
  // Nothing for a tensor of plain numbers, or none.
  virtual std::optional<Quantization> TensorQuantization(absl::string_view /*name*/) const {
    return std::nullopt;
  }

  // Appends the rows of a matrix, as it is stored, to those of `matrix`: without loss, but for
  // scales that are stored as products, rounded to binary16. The tensor is in_groups, and of the
  // bits, minimums and number of columns that `matrix` has. Errors as ReadTensor; INVALID_ARGUMENT
  // for a scale or minimum that is infinite or NaN.
  virtual absl::Status AppendQuantized(absl::string_view name, absl::Span<const int64_t> shape,
                                       QuantizedMatrix& matrix) const;

  // Tells the kernel that a tensor's mapped pages are no longer needed. It can still be read, from
  // disk.
  virtual void Release(absl::string_view name) const = 0;

  // Tells the contents of the weight files from those of others, without reading all of them; see
  // mapped_file.h.
  virtual std::string Fingerprint() const = 0;

  // Bytes of the weight files.
  virtual int64_t size_bytes() const = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_CHECKPOINT_H_
