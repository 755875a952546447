#include <iostream>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/json.h"

namespace attendant::client {
namespace {

absl::Status Run(const Arguments& arguments) {
  if (arguments.size() > 1) return absl::InvalidArgumentError("`health` takes at most one service");
  const auto client = ConnectWithFlags();
  if (!client.ok()) return client.status();
  const absl::Status status = client->Health(arguments.empty() ? "" : arguments[0]);
  if (absl::GetFlag(FLAGS_json)) {
    std::cout << JsonObject({{"serving", status.ok() ? "true" : "false"}}) << "\n";
  } else if (status.ok()) {
    std::cout << "serving\n";
  }
  return status;
}

}  // namespace

Command HealthCommand() {
  return {.name = "health",
          .arguments = "[SERVICE]",
          .summary = "ask whether the server can take requests",
          .description =
              "Exits with 0 if it serves, else with 1: while it loads, drains, or cannot be "
              "reached.\n\n"
              "  attendant health --deadline=2s\n"
              "  attendant health attendant.v1.InferenceService",
          .flags = {},
          .run = Run};
}

}  // namespace attendant::client
