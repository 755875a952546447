#ifndef ATTENDANT_SERVER_METRICS_REQUEST_RECORD_H_
#define ATTENDANT_SERVER_METRICS_REQUEST_RECORD_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/request.h"

namespace attendant::server {

// What is remembered of a request once it has ended: one line of the request log, and a few counts.
// Never its text.
struct RequestRecord {
  std::string request_id;
  std::string trace_id;   // of the caller's W3C trace context; empty if there is none
  absl::string_view rpc;  // "Encode"; static
  std::string
      model;  // a loaded model's name; empty until it is known, so that callers cannot make labels
  // How far it came: "arrival" (not admitted); then "running", or for a generation "waiting",
  // "prefill", "decode".
  absl::string_view phase = "arrival";
  absl::Time arrival;
  absl::Duration total;  // from arrival until the last answer was handed to gRPC
  engine::RequestTimings timings;
  engine::RequestUsage usage;
  absl::Status status;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_METRICS_REQUEST_RECORD_H_
