#include "engine/base/packed_matrix.h"

#include "absl/strings/str_cat.h"

namespace attendant::engine {

absl::Status CheckLayout(const PackedMatrix& packed, absl::string_view layout, size_t size_bytes) {
  if (packed.layout == layout && packed.bytes.size_bytes() == size_bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(packed.bytes.size_bytes(), " bytes laid out as \"", packed.layout,
                   "\"; expected ", size_bytes, " as \"", layout, "\""));
}

}  // namespace attendant::engine
