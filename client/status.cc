#include "client/status.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
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

// A detail in words, and the parts of it that a message may have said already.
struct Detail {
  std::string line;
  std::vector<std::string> parts;
};

// Collects the violations of a BadRequest, PreconditionFailure or QuotaFailure.
template <typename Violations, typename Subject>
void AddViolations(const Violations& violations, Subject subject, std::vector<Detail>& details) {
  for (const auto& violation : violations) {
    const std::string& what = (violation.*subject)();
    details.push_back({WithColon(what, violation.description()), {what, violation.description()}});
  }
}

std::vector<Detail> Details(const absl::Status& status) {
  using google::rpc::BadRequest;
  using google::rpc::PreconditionFailure;
  using google::rpc::QuotaFailure;
  std::vector<Detail> details;
  if (const auto bad = FindDetail<BadRequest>(status)) {
    AddViolations(bad->field_violations(), &BadRequest::FieldViolation::field, details);
  }
  if (const auto failed = FindDetail<PreconditionFailure>(status)) {
    AddViolations(failed->violations(), &PreconditionFailure::Violation::subject, details);
  }
  if (const auto quota = FindDetail<QuotaFailure>(status)) {
    AddViolations(quota->violations(), &QuotaFailure::Violation::subject, details);
  }
  if (const auto resource = FindDetail<google::rpc::ResourceInfo>(status)) {
    const std::string name =
        absl::StrCat(resource->resource_type(), " '", resource->resource_name(), "'");
    details.push_back({WithColon(name, resource->description()),
                       {resource->resource_name(), resource->description()}});
  }
  if (const auto error = FindDetail<google::rpc::ErrorInfo>(status)) {
    std::vector<std::pair<std::string, std::string>> sorted(error->metadata().begin(),
                                                            error->metadata().end());
    std::sort(sorted.begin(), sorted.end());
    const std::string values = absl::StrJoin(sorted, ", ", absl::PairFormatter(" = "));
    details.push_back({WithColon(error->reason(), values), {values}});
  }
  if (const auto delay = RetryDelay(status)) {
    const std::string line = absl::StrCat("try again in ", absl::FormatDuration(*delay));
    details.push_back({line, {line}});
  }
  return details;
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
  for (Detail& detail : Details(status)) lines.push_back(std::move(detail.line));
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
  for (const Detail& detail : Details(status)) {
    const bool is_known = absl::c_all_of(detail.parts, [&status](absl::string_view part) {
      return absl::StrContains(status.message(), part);
    });
    if (!is_known) absl::StrAppend(&text, "\n  ", detail.line);
  }
  return text;
}

}  // namespace attendant::client
