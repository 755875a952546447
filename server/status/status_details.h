#ifndef ATTENDANT_SERVER_STATUS_STATUS_DETAILS_H_
#define ATTENDANT_SERVER_STATUS_STATUS_DETAILS_H_

// Errors that programs can act on. The details of google/rpc/error_details.proto travel as payloads
// of absl::Status, one of each kind, and reach the client in grpc-status-details-bin.

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/status.pb.h"

namespace attendant::server {

// The domain of every ErrorInfo, and its reasons. Clients may depend on them.
inline constexpr absl::string_view kErrorDomain = "attendant";
namespace reason {
inline constexpr absl::string_view kMalformedMessage =
    "MALFORMED_MESSAGE";  // not a message of this type at all
inline constexpr absl::string_view kInvalidField = "INVALID_FIELD";
inline constexpr absl::string_view kTooLarge =
    "TOO_LARGE";  // could never fit; a flag sets the limit
inline constexpr absl::string_view kUnknownModel = "UNKNOWN_MODEL";
inline constexpr absl::string_view kModelCannot = "MODEL_CANNOT";
inline constexpr absl::string_view kNotImplemented = "NOT_IMPLEMENTED";
inline constexpr absl::string_view kRequestsFull = "REQUESTS_FULL";
inline constexpr absl::string_view kTokensFull = "TOKENS_FULL";
inline constexpr absl::string_view kBytesFull = "BYTES_FULL";
inline constexpr absl::string_view kSlowReader = "SLOW_READER";
inline constexpr absl::string_view kLoading = "LOADING";
inline constexpr absl::string_view kDraining = "DRAINING";
inline constexpr absl::string_view kDeadlinePassed = "DEADLINE_PASSED";
inline constexpr absl::string_view kInternal = "INTERNAL";
}  // namespace reason

// INVALID_ARGUMENT, with a BadRequest that names the field by its path from the request:
// "inputs[3].text". The message starts with the path too: "inputs[3].text is empty".
absl::Status InvalidField(absl::string_view field, absl::string_view problem);

// The same for a request that is larger than a limit, which `flag` sets.
absl::Status TooLarge(absl::string_view field, absl::string_view problem, absl::string_view flag);

// UNIMPLEMENTED: a part of the contract that this server does not have.
absl::Status NotImplemented(absl::string_view what);

// An error with an ErrorInfo, and with a RetryInfo if `retry_after` is set.
absl::Status ErrorWithReason(absl::StatusCode code, absl::string_view reason,
                             absl::string_view message,
                             std::optional<absl::Duration> retry_after = std::nullopt);

// Adds a BadRequest to an INVALID_ARGUMENT that has none: for the field that the engine named, else
// for `field`, if it is not empty. Other errors are returned as they are.
absl::Status WithField(absl::Status status, absl::string_view field);

// Puts `prefix` before the field of the BadRequest and before the message: for a message within
// another.
absl::Status WithFieldPrefix(const absl::Status& status, absl::string_view prefix);

// Adds a ResourceInfo.
absl::Status WithResource(absl::Status status, absl::string_view type, absl::string_view name);

// The reason of the ErrorInfo, else empty.
std::string ErrorReason(const absl::Status& status);

// The delay of the RetryInfo, if there is one.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// The status as a message, with its details; a field that the engine named becomes a BadRequest.
// Its text is cut to what fits into HTTP/2 trailers, at a character.
google::rpc::Status ToRpcStatus(const absl::Status& status);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_STATUS_STATUS_DETAILS_H_
