#ifndef ATTENDANT_CLIENT_CLI_FLAGS_H_
#define ATTENDANT_CLIENT_CLI_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "attendant/v1/common.pb.h"
#include "client/client.h"

// The flags that several commands read.
ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(absl::Duration, deadline);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(std::string, color);
ABSL_DECLARE_FLAG(std::string, input);
ABSL_DECLARE_FLAG(std::vector<std::string>, image);
ABSL_DECLARE_FLAG(std::optional<int32_t>, top_k);
ABSL_DECLARE_FLAG(bool, raw_scores);

namespace attendant::client {

// Names of the flags that every command has.
std::vector<absl::string_view> CommonFlags();

// A client for --address, with the --tls flags, --token_file and --deadline. INVALID_ARGUMENT for
// flags that do not go together.
absl::StatusOr<Client> ConnectWithFlags();

// --truncate and --max_tokens; nothing if neither is set.
absl::StatusOr<std::optional<v1::Truncation>> TruncationFromFlags();

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_FLAGS_H_
