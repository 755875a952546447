#ifndef ATTENDANT_CLIENT_CLI_INPUTS_H_
#define ATTENDANT_CLIENT_CLI_INPUTS_H_

#include <cstdint>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "google/protobuf/message.h"
#include "google/rpc/status.pb.h"

namespace attendant::client {

// The whole of a file; "-" is standard input. INVALID_ARGUMENT if it cannot be read.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path);

// Fills `message` from JSON in the fields of the contract. INVALID_ARGUMENT if it is not.
absl::Status FromJson(absl::string_view json, google::protobuf::Message& message);

// The inputs of a command, of which there may be any number: the arguments; else the lines of
// --input; else those of standard input. Empty lines are inputs too. One at a time, so that a file
// of any length is never held.
class InputLines {
 public:
  // INVALID_ARGUMENT if the file of --input cannot be read, or there are arguments beside it.
  static absl::StatusOr<InputLines> Open(const Arguments& arguments);

  // The next one; false at the end.
  bool Next(std::string& line);

  // Whether the lines are JSON: --input names a .jsonl file.
  bool is_json() const { return is_json_; }

 private:
  Arguments arguments_;
  size_t num_read_ = 0;
  bool is_json_ = false;
  std::ifstream file_;
  std::istream* stream_ = nullptr;  // Null: the arguments are all.
};

// Counts the inputs that failed, each of which it names on standard error.
class FailedInputs {
 public:
  // Whether input `number`, counted from 1, is good.
  bool Check(int64_t number, const google::rpc::Status& status);

  // INVALID_ARGUMENT if any of `total` failed.
  absl::Status Result(int64_t total) const;

 private:
  int64_t num_failed_ = 0;
};

// Reads every input into `request`, `kInputsPerCall` at a time, and makes the call:
//   fill(line, is_json, input)   makes an input of a line
//   call(first)                  sends `request`, whose first input is number `first`, from 1
// Ends with the first error. INVALID_ARGUMENT if there are no inputs at all. Returns their number.
template <typename Request, typename Input>
absl::StatusOr<int64_t> ForEachCall(InputLines& lines, Request& request,
                                    absl::Status (*fill)(const std::string&, Input&),
                                    absl::FunctionRef<absl::Status(int64_t)> call) {
  static constexpr int kInputsPerCall = 64;
  int64_t count = 0;
  std::string line;
  for (bool more = lines.Next(line); more;) {
    request.clear_inputs();
    const int64_t first = count + 1;
    for (; more && request.inputs_size() < kInputsPerCall; more = lines.Next(line)) {
      ++count;
      const absl::Status status = lines.is_json() ? FromJson(line, *request.add_inputs())
                                                  : fill(line, *request.add_inputs());
      if (!status.ok())
        return absl::Status(status.code(), absl::StrCat("input ", count, ": ", status.message()));
    }
    absl::Status status = call(first);
    if (!status.ok()) return status;
  }
  if (count == 0) return absl::InvalidArgumentError("there are no inputs: standard input is empty");
  return count;
}

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_INPUTS_H_
