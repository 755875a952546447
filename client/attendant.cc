// The command line of Attendant: `attendant help` says what it does.

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/cli/terminal.h"
#include "client/status.h"
#include "google/protobuf/stubs/logging.h"

namespace attendant::client {
namespace {

constexpr int kUsageError = 2;

const std::vector<Command>& Commands() {
  static const auto* commands = new std::vector<Command>{
      EncodeCommand(),   GenerateCommand(),   TranslateCommand(), AttendCommand(),
      FillMaskCommand(), AnswerCommand(),     ClassifyCommand(),  RankCommand(),
      TokenizeCommand(), DetokenizeCommand(), ModelsCommand(),    HealthCommand()};
  return *commands;
}

const Command* FindCommand(absl::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

void PrintFlags(absl::string_view title, const std::vector<absl::string_view>& names) {
  if (names.empty()) return;
  std::cout << "\n" << Bold(title) << "\n";
  for (const absl::string_view name : names) {
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    std::string help = flag->Help();
    const std::string value = flag->DefaultValue();
    if (!value.empty() && value != "false" && !absl::StrContains(help, "default")) {
      absl::StrAppend(&help, "; default ", value);
    }
    std::cout << absl::StrFormat("  --%-20s %s\n", name, help);
  }
}

void PrintHelp() {
  std::cout << "attendant COMMAND: calls an Attendant server, which runs transformers on CPUs.\n\n";
  for (const Command& command : Commands()) {
    std::cout << absl::StrFormat("  %-11s %s\n", command.name, command.summary);
  }
  std::cout << absl::StrFormat("  %-11s %s\n", "help", "say more about a command");
  PrintFlags("Flags of every command", CommonFlags());
}

void PrintHelp(const Command& command) {
  std::cout << "attendant " << command.name << (command.arguments.empty() ? "" : " ")
            << command.arguments << ": " << command.summary << "\n\n"
            << command.description << "\n";
  PrintFlags("Flags", command.flags);
  std::cout << "\n`attendant help` lists the flags of every command: --address, --model, --json "
               "and others.\n";
}

int RefuseCommand(absl::string_view name) {
  std::cerr << "attendant: there is no command '" << Printable(name)
            << "'; `attendant help` lists them\n";
  return kUsageError;
}

int Help(absl::string_view name) {
  const Command* command = FindCommand(name);
  if (command != nullptr) {
    PrintHelp(*command);
  } else if (name.empty() || name == "help") {
    PrintHelp();
  } else {
    return RefuseCommand(name);
  }
  return EXIT_SUCCESS;
}

// The first flag on the command line that `command` does not read, which it would be wrong to
// ignore; or nothing.
absl::string_view FindForeignFlag(const Command& command,
                                  const std::vector<absl::string_view>& words) {
  const auto has = [](const std::vector<absl::string_view>& names, absl::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (absl::string_view word : words) {
    if (word == "--") break;
    const absl::string_view flag = word;
    if (!absl::ConsumePrefix(&word, "-")) continue;
    absl::ConsumePrefix(&word, "-");
    absl::string_view name = word.substr(0, word.find('='));
    if (absl::FindCommandLineFlag(name) == nullptr) absl::ConsumePrefix(&name, "no");
    if (absl::FindCommandLineFlag(name) == nullptr)
      continue;  // A value, or a flag of Abseil's own.
    if (!has(command.flags, name) && !has(CommonFlags(), name) && name != "flagfile") return flag;
  }
  return "";
}

// What to do about an error; nothing where the error says it all.
std::string AdviceFor(const Command& command, const absl::Status& status) {
  const std::vector<std::string> details = DetailLines(status);
  const auto is_about_model = [](absl::string_view line) {
    return absl::StartsWith(line, "model: ");
  };
  if (std::any_of(details.begin(), details.end(), is_about_model)) {
    return "--model names one; `attendant models` lists them.";
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return absl::StrCat("Is a server running at ", absl::GetFlag(FLAGS_address),
                          "? `./dev serve` starts one; --address names another.");
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      if (command.name == "health") return "";
      return "`attendant models` lists the models and what each of them serves.";
    case absl::StatusCode::kDeadlineExceeded:
      return "A longer --deadline would let it finish.";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "--token_file and --tls_certificate say who is calling.";
    default:
      return "";
  }
}

int Run(const Command& command, const Arguments& arguments) {
  const absl::Status status = command.run(arguments);
  if (status.ok()) return EXIT_SUCCESS;
  std::cout << std::flush;
  std::cerr << "attendant " << command.name << ": " << Describe(status) << "\n";
  if (const std::string advice = AdviceFor(command, status); !advice.empty())
    std::cerr << advice << "\n";
  return EXIT_FAILURE;
}

int Main(int argc, char** argv) {
  const std::vector<absl::string_view> words(argv + 1, argv + argc);
  const auto options_end = std::find(words.begin(), words.end(), "--");
  const auto asks_for_help = [](absl::string_view word) {
    return word == "--help" || word == "-h";
  };
  const auto is_word = [](absl::string_view word) { return !absl::StartsWith(word, "-"); };
  const auto first_word = std::find_if(words.begin(), options_end, is_word);
  if (std::any_of(words.begin(), options_end, asks_for_help) || words.empty()) {
    return Help(first_word == options_end ? "" : *first_word);
  }
  if (const char* address = std::getenv("ATTENDANT_ADDRESS");
      address != nullptr && *address != '\0') {
    absl::SetFlag(&FLAGS_address, address);
  }
  // Text that is not UTF-8 is refused by the server, with its place: what protobuf logs besides is
  // no help.
  google::protobuf::SetLogHandler(nullptr);
  absl::SetProgramUsageMessage("attendant COMMAND; `attendant help` lists the commands");
  const std::vector<char*> positional = absl::ParseCommandLine(argc, argv);
  if (positional.size() < 2) return Help("");
  const absl::string_view name = positional[1];
  const Arguments arguments(positional.begin() + 2, positional.end());
  if (name == "help") return Help(arguments.empty() ? "" : arguments[0]);
  const Command* command = FindCommand(name);
  if (command == nullptr) return RefuseCommand(name);
  if (const absl::string_view flag = FindForeignFlag(*command, words); !flag.empty()) {
    std::cerr << "attendant: " << flag << " means nothing to `" << name << "`; `attendant help "
              << name << "` lists its flags\n";
    return kUsageError;
  }
  return Run(*command, arguments);
}

}  // namespace
}  // namespace attendant::client

int main(int argc, char** argv) { return attendant::client::Main(argc, argv); }
