// A safetensors file of any bytes: an error, or tensors that can be read.

#include <cstdint>
#include <vector>

#include "absl/log/check.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/safetensors_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using attendant::engine::SafetensorsFile;
  const auto file =
      SafetensorsFile::Parse("fuzz.safetensors", {reinterpret_cast<const std::byte*>(data), size});
  if (!file.ok()) return 0;
  for (const auto& [name, tensor] : file->tensors()) {
    CHECK_LE(tensor.data.size(), size) << name;
    std::vector<float> values(attendant::engine::NumElements(tensor.shape));
    file->Read(name, tensor.shape, absl::MakeSpan(values)).IgnoreError();
  }
  return 0;
}
