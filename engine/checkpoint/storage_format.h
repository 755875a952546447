#ifndef ATTENDANT_ENGINE_CHECKPOINT_STORAGE_FORMAT_H_
#define ATTENDANT_ENGINE_CHECKPOINT_STORAGE_FORMAT_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace attendant::engine {

// How the values of a tensor lie in a file: in blocks of `block_bytes` bytes that hold `block_size`
// values, consecutive ones of a row. Plain numbers are blocks of one value.
struct StorageFormat {
  absl::string_view name;  // as its file format spells it: "BF16", "Q4_K"
  int32_t block_size;
  int32_t block_bytes;

  // Widens `num_blocks` blocks to block_size * num_blocks floats. `blocks` need not be aligned.
  // Exact, but for F64 and integers beyond 2^24, which are rounded to nearest. Null: the format is
  // known, but not read.
  void (*widen)(const std::byte* blocks, int64_t num_blocks, float* values);

  // Of a quantized format: bits enough for its integers, 4 or 8; else 0.
  int bits = 0;
  // Whether QuantizedMatrix has minimums for it.
  bool has_minimums = false;
  // Writes what a QuantizedMatrix of `bits` holds of `num_blocks` blocks: their integers, and a
  // scale (and minimum) for every 32. Exact, but for the "_K" formats, whose scales and minimums
  // are products that are rounded to binary16. Null: its groups are others.
  void (*take_apart)(const std::byte* blocks, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
                     uint16_t* minimums) = nullptr;
};

// The format of a safetensors dtype ("F32"), or null.
const StorageFormat* FindSafetensorsFormat(absl::string_view dtype);

// The format of a ggml tensor type, as GGUF files number it, or null.
const StorageFormat* FindGgmlFormat(uint32_t type);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_STORAGE_FORMAT_H_
