#ifndef ATTENDANT_CLIENT_CLI_COMMAND_H_
#define ATTENDANT_CLIENT_CLI_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace attendant::client {

using Arguments = std::vector<std::string>;

// What comes after `attendant`. Each command has its own file, <name>_command.cc.
struct Command {
  absl::string_view name;
  // As it stands behind the name: "[TEXT...]".
  absl::string_view arguments;
  // One line, without a full stop.
  absl::string_view summary;
  // What it reads and prints, and an example or two.
  absl::string_view description;
  // The flags that it reads beside the common ones (flags.h). Any other flag is refused.
  std::vector<absl::string_view> flags;
  // Runs it and prints its result. The error is printed, with advice, by the caller.
  absl::Status (*run)(const Arguments& arguments);
};

Command EncodeCommand();
Command GenerateCommand();
Command TranslateCommand();
Command AttendCommand();
Command FillMaskCommand();
Command AnswerCommand();
Command ClassifyCommand();
Command RankCommand();
Command TokenizeCommand();
Command DetokenizeCommand();
Command ModelsCommand();
Command HealthCommand();

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_COMMAND_H_
