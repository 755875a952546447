#include "server/status/status_details.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "google/rpc/error_details.pb.h"

namespace attendant::server {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";

// Clients accept 8 KiB of trailers, in which the message is twice: percent-encoded, and in the
// details in base64.
constexpr size_t kMaxMessageBytes = 768;
constexpr size_t kMaxNameBytes = 128;

std::string Cut(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return absl::StrCat(text.substr(0, end), "...");
}

template <typename Detail>
std::string TypeUrl() {
  return absl::StrCat(kTypePrefix, Detail::descriptor()->full_name());
}

template <typename Detail>
void Set(absl::Status& status, const Detail& detail) {
  status.SetPayload(TypeUrl<Detail>(), absl::Cord(detail.SerializeAsString()));
}

template <typename Detail>
std::optional<Detail> Get(const absl::Status& status) {
  const auto payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

void SetReason(absl::Status& status, absl::string_view reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(std::string(kErrorDomain));
  Set(status, info);
}

void SetViolation(absl::Status& status, absl::string_view field, absl::string_view description) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(Cut(field, kMaxNameBytes));
  violation->set_description(Cut(description, kMaxMessageBytes));
  Set(status, bad_request);
}

}  // namespace

absl::Status InvalidField(absl::string_view field, absl::string_view problem) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, " ", problem));
  SetViolation(status, field, problem);
  SetReason(status, reason::kInvalidField);
  return status;
}

absl::Status TooLarge(absl::string_view field, absl::string_view problem, absl::string_view flag) {
  absl::Status status =
      absl::InvalidArgumentError(absl::StrCat(field, " ", problem, " (--", flag, ")"));
  SetViolation(status, field, problem);
  SetReason(status, reason::kTooLarge);
  return status;
}

absl::Status NotImplemented(absl::string_view what) {
  return ErrorWithReason(absl::StatusCode::kUnimplemented, reason::kNotImplemented,
                         absl::StrCat(what, " is not implemented by this server"));
}

absl::Status ErrorWithReason(absl::StatusCode code, absl::string_view reason,
                             absl::string_view message, std::optional<absl::Duration> retry_after) {
  absl::Status status(code, message);
  SetReason(status, reason);
  if (retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    const absl::Duration delay = *retry_after;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
    retry.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
    Set(status, retry);
  }
  return status;
}

absl::Status WithField(absl::Status status, absl::string_view field) {
  if (status.code() != absl::StatusCode::kInvalidArgument || Get<google::rpc::BadRequest>(status)) {
    return status;
  }
  const auto engine_field = status.GetPayload(engine::kFieldPathUrl);
  const std::string path(engine_field.has_value() ? std::string(*engine_field)
                                                  : std::string(field));
  if (path.empty()) return status;
  SetViolation(status, path, status.message());
  if (!Get<google::rpc::ErrorInfo>(status)) SetReason(status, reason::kInvalidField);
  return status;
}

absl::Status WithFieldPrefix(const absl::Status& plain, absl::string_view prefix) {
  absl::Status status = WithField(plain, "");
  const auto bad_request = Get<google::rpc::BadRequest>(status);
  if (!bad_request || bad_request->field_violations().empty()) return status;
  absl::Status prefixed(status.code(), absl::StrCat(prefix, status.message()));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    prefixed.SetPayload(type_url, payload);
  });
  const auto& violation = bad_request->field_violations(0);
  SetViolation(prefixed, absl::StrCat(prefix, violation.field()), violation.description());
  return prefixed;
}

absl::Status WithResource(absl::Status status, absl::string_view type, absl::string_view name) {
  google::rpc::ResourceInfo resource;
  resource.set_resource_type(std::string(type));
  resource.set_resource_name(Cut(name, kMaxNameBytes));
  Set(status, resource);
  return status;
}

std::string ErrorReason(const absl::Status& status) {
  const auto info = Get<google::rpc::ErrorInfo>(status);
  return info ? info->reason() : "";
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto retry = Get<google::rpc::RetryInfo>(status);
  if (!retry) return std::nullopt;
  return absl::Seconds(retry->retry_delay().seconds()) +
         absl::Nanoseconds(retry->retry_delay().nanos());
}

google::rpc::Status ToRpcStatus(const absl::Status& plain) {
  absl::Status status = WithField(plain, "");
  google::rpc::Status message;
  message.set_code(static_cast<int>(status.code()));
  message.set_message(Cut(status.message(), kMaxMessageBytes));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    if (!absl::StartsWith(type_url, kTypePrefix)) return;
    auto* detail = message.add_details();
    detail->set_type_url(std::string(type_url));
    detail->set_value(std::string(payload));
  });
  return message;
}

}  // namespace attendant::server
