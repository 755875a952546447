#include "server/rpc/field_checks.h"

#include <algorithm>
#include <cmath>

namespace attendant::server {

std::string Join(absl::string_view path, absl::string_view field) {
  return path.empty() ? std::string(field) : absl::StrCat(path, ".", field);
}

absl::Status CheckRange(absl::string_view path, int64_t value, int64_t lowest, int64_t highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return InvalidField(path,
                      absl::StrCat("is ", value, "; must be in [", lowest, ", ", highest, "]"));
}

absl::Status CheckFloat(absl::string_view path, float value, float lowest, float highest,
                        bool open_below) {
  if (std::isfinite(value) && value <= highest && (open_below ? value > lowest : value >= lowest)) {
    return absl::OkStatus();
  }
  return InvalidField(path, absl::StrCat("is ", value, "; must be in ", open_below ? "(" : "[",
                                         lowest, ", ", highest, "]"));
}

absl::Status CheckFinite(absl::string_view path, float value) {
  if (std::isfinite(value)) return absl::OkStatus();
  return InvalidField(path, absl::StrCat("is ", value, "; must be finite"));
}

absl::Status CheckAtLeast(absl::string_view path, int64_t value, int64_t lowest) {
  if (value >= lowest) return absl::OkStatus();
  return InvalidField(path, absl::StrCat("is ", value, "; must be at least ", lowest));
}

absl::Status CheckTokenId(absl::string_view path, int32_t id, int32_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return InvalidField(
      path, absl::StrCat("is ", id, "; the vocabulary has ids from 0 to ", vocab_size - 1));
}

absl::Status CheckNumInputs(absl::string_view path, int count, const RequestLimits& limits) {
  if (count == 0) return InvalidField(path, "is empty; a request has at least one input");
  if (count <= limits.max_inputs) return absl::OkStatus();
  return TooLarge(path,
                  absl::StrCat("has ", count, " entries; this server allows ", limits.max_inputs),
                  "max_inputs");
}

absl::Status FailureOf(const absl::Status& engine_status,
                       const std::vector<absl::Status>& input_status) {
  const auto bad =
      std::find_if(input_status.begin(), input_status.end(), [](const auto& s) { return !s.ok(); });
  if (engine_status.code() != absl::StatusCode::kInvalidArgument || bad == input_status.end())
    return engine_status;
  return *bad;
}

absl::StatusOr<engine::Truncation> TruncationFromMessage(const v1::Truncation& message,
                                                         absl::string_view path,
                                                         int32_t max_tokens) {
  engine::Truncation truncation;
  switch (message.side()) {
    case v1::Truncation::SIDE_UNSPECIFIED:
    case v1::Truncation::SIDE_NONE:
      truncation.side = engine::TruncationSide::kNone;
      break;
    case v1::Truncation::SIDE_RIGHT:
      truncation.side = engine::TruncationSide::kRight;
      break;
    case v1::Truncation::SIDE_LEFT:
      truncation.side = engine::TruncationSide::kLeft;
      break;
    default:
      return UnknownEnum(Join(path, "side"), message.side());
  }
  RETURN_IF_ERROR(Optional(
      message.has_max_tokens(), message.max_tokens(), truncation.max_tokens,
      [&] { return CheckRange(Join(path, "max_tokens"), message.max_tokens(), 1, max_tokens); }));
  return truncation;
}

}  // namespace attendant::server
