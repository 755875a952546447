// A file of packed weights of any bytes: an error, or matrices that lie inside it.

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/string_view.h"
#include "engine/base/hash.h"
#include "engine/checkpoint/packed_file.h"

namespace {

using attendant::engine::PackedFile;

void Read(absl::Span<const std::byte> bytes) {
  const auto file = PackedFile::Parse(bytes);
  if (!file.ok()) return;
  for (size_t i = 0; i < file->num_matrices(); ++i) {
    const auto matrix = file->Read(i);
    if (matrix.ok()) CHECK_LE(matrix->matrix.bytes.size_bytes(), bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string contents(reinterpret_cast<const char*>(data), size);
  const auto bytes = [&] {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(contents.data()), size);
  };
  Read(bytes());

  // Once more with the size and the checksums put right, which no fuzzer would guess.
  constexpr size_t kHeaderBytes = 64;
  if (size < kHeaderBytes) return 0;
  const auto put = [&](size_t at, auto value) { std::memcpy(&contents[at], &value, sizeof value); };
  const auto checksum = [&](size_t begin, size_t count) {
    return attendant::engine::Hash64(absl::string_view(contents).substr(begin, count));
  };
  uint64_t table_bytes;
  std::memcpy(&table_bytes, &contents[40], sizeof table_bytes);
  put(32, uint64_t{size});
  put(48, checksum(kHeaderBytes, table_bytes));
  put(56, checksum(0, 56));
  Read(bytes());
  return 0;
}
