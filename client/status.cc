#include "client/status.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace attendant::client {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";

// The payload of `status` that holds a `Detail`, if it has one that parses.
template <typename Detail>
std::optional<Detail> FindDetail(const absl::Status& status) {
  const auto payload =
      status.GetPayload(absl::StrCat(kTypePrefix, Detail::descriptor()->full_name()));
  Detail detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

std::string WithColon(absl::string_view subject, absl::string_view text) {
  if (subject.empty() || text.empty()) return absl::StrCat(subject, text);
  return absl::StrCat(subject, ": ", text);
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& detail : details.details()) {
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
    }
  }
  return result;
}

std::vector<std::string> DetailLines(const absl::Status& status) {
  std::vector<std::string> lines;
  if (const auto bad = FindDetail<google::rpc::BadRequest>(status)) {
    for (const auto& violation : bad->field_violations()) {
      lines.push_back(WithColon(violation.field(), violation.description()));
    }
  }
  if (const auto failed = FindDetail<google::rpc::PreconditionFailure>(status)) {
    for (const auto& violation : failed->violations()) {
      lines.push_back(WithColon(violation.subject(), violation.description()));
    }
  }
  if (const auto quota = FindDetail<google::rpc::QuotaFailure>(status)) {
    for (const auto& violation : quota->violations()) {
      lines.push_back(WithColon(violation.subject(), violation.description()));
    }
  }
  if (const auto resource = FindDetail<google::rpc::ResourceInfo>(status)) {
    const std::string name =
        absl::StrCat(resource->resource_type(), " '", resource->resource_name(), "'");
    lines.push_back(WithColon(name, resource->description()));
  }
  if (const auto error = FindDetail<google::rpc::ErrorInfo>(status)) {
    std::vector<std::pair<std::string, std::string>> sorted(error->metadata().begin(),
                                                            error->metadata().end());
    std::sort(sorted.begin(), sorted.end());
    const std::string values = absl::StrJoin(sorted, ", ", absl::PairFormatter(" = "));
    lines.push_back(WithColon(error->reason(), values));
  }
  if (const auto delay = RetryDelay(status)) {
    lines.push_back(absl::StrCat("try again in ", absl::FormatDuration(*delay)));
  }
  return lines;
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto retry = FindDetail<google::rpc::RetryInfo>(status);
  if (!retry) return std::nullopt;
  return absl::Seconds(retry->retry_delay().seconds()) +
         absl::Nanoseconds(retry->retry_delay().nanos());
}

std::string Describe(const absl::Status& status) {
  std::string text = absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
  for (const std::string& line : DetailLines(status)) {
    if (!absl::StrContains(status.message(), line)) absl::StrAppend(&text, "\n  ", line);
  }
  return text;
}

}  // namespace attendant::client
