#ifndef ATTENDANT_SERVER_RPC_FIELD_CHECKS_H_
#define ATTENDANT_SERVER_RPC_FIELD_CHECKS_H_

// What conversions of requests check their fields with. Each error is INVALID_ARGUMENT that names
// the field by its path, the value and the limit.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "attendant/v1/common.pb.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "server/rpc/call.h"
#include "server/status/status_details.h"

namespace attendant::server {

// "layer.query"; `field` alone below the request itself.
std::string Join(absl::string_view path, absl::string_view field);

// [lowest, highest]
absl::Status CheckRange(absl::string_view path, int64_t value, int64_t lowest, int64_t highest);
absl::Status CheckFloat(absl::string_view path, float value, float lowest, float highest,
                        bool open_below = false);
absl::Status CheckFinite(absl::string_view path, float value);
absl::Status CheckAtLeast(absl::string_view path, int64_t value, int64_t lowest);
absl::Status CheckTokenId(absl::string_view path, int32_t id, int32_t vocab_size);

// At least one, and no more than the server allows.
absl::Status CheckNumInputs(absl::string_view path, int count, const RequestLimits& limits);

template <typename Ids>
absl::Status CheckTokenIds(absl::string_view path, const Ids& ids, int32_t vocab_size) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return CheckTokenId(absl::StrCat(path, "[", i, "]"), ids[i], vocab_size);
    }
  }
  return absl::OkStatus();
}

template <typename Enum>
absl::Status UnknownEnum(absl::string_view path, Enum value) {
  return InvalidField(path, absl::StrCat("is ", static_cast<int>(value),
                                         ", which is not a value that this server knows"));
}

// A field that may be unset, if it passes `check`.
template <typename T, typename Check>
absl::Status Optional(bool is_set, T value, std::optional<T>& out, Check check) {
  if (!is_set) return absl::OkStatus();
  RETURN_IF_ERROR(check());
  out = value;
  return absl::OkStatus();
}

// What to say when the engine refused all inputs: what was wrong before it saw them says more than
// that it saw nothing.
absl::Status FailureOf(const absl::Status& engine_status,
                       const std::vector<absl::Status>& input_status);

absl::StatusOr<engine::Truncation> TruncationFromMessage(const v1::Truncation& message,
                                                         absl::string_view path,
                                                         int32_t max_tokens);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_FIELD_CHECKS_H_
