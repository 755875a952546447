#ifndef ATTENDANT_ENGINE_BASE_FIELD_ERROR_H_
#define ATTENDANT_ENGINE_BASE_FIELD_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace attendant::engine {

// The payload of an INVALID_ARGUMENT that is one field's fault: the field's path in the request.
inline constexpr absl::string_view kFieldPathUrl = "attendant.v1/field_path";

// INVALID_ARGUMENT "<path>: <description>", carrying the path. `description` names the value and
// the limit: FieldError("tensors.key", "has 7 heads; query has 12").
inline absl::Status FieldError(absl::string_view path, absl::string_view description) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(path, ": ", description));
  status.SetPayload(kFieldPathUrl, absl::Cord(path));
  return status;
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_FIELD_ERROR_H_
