#ifndef ATTENDANT_CLIENT_STATUS_H_
#define ATTENDANT_CLIENT_STATUS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/support/status.h"

namespace attendant::client {

// The same code and message. Each google.rpc detail that came with the status (BadRequest,
// RetryInfo, ErrorInfo, ResourceInfo, ...) becomes a payload under its type URL,
// "type.googleapis.com/google.rpc.BadRequest".
absl::Status FromGrpcStatus(const grpc::Status& status);

// The details of `status`, one readable line each, such as "inputs[2].text: not valid UTF-8". Empty
// if there are none.
std::vector<std::string> DetailLines(const absl::Status& status);

// When the server asks to try again (RetryInfo): with RESOURCE_EXHAUSTED. Nothing if it does not
// say.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// Code, message and details, for people: the first line "INVALID_ARGUMENT: ...", then a line for
// each detail that the message does not say already.
std::string Describe(const absl::Status& status);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_STATUS_H_
