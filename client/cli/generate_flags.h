#ifndef ATTENDANT_CLIENT_CLI_GENERATE_FLAGS_H_
#define ATTENDANT_CLIENT_CLI_GENERATE_FLAGS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attendant/v1/generate.pb.h"

namespace attendant::client {

// Names of the flags that say how text is generated: sampling, beam search, languages, stopping.
std::vector<absl::string_view> GenerateFlags();

// A request with all that they say, and no prompt. INVALID_ARGUMENT for a value that cannot be.
absl::StatusOr<v1::GenerateRequest> GenerateRequestFromFlags();

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_GENERATE_FLAGS_H_
