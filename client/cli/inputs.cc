#include "client/cli/inputs.h"

#include <iostream>
#include <iterator>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "google/protobuf/util/json_util.h"

namespace attendant::client {

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  return content;
}

absl::Status FromJson(absl::string_view json, google::protobuf::Message& message) {
  const auto status =
      google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, &message);
  if (status.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("not JSON of a ", message.GetDescriptor()->name(),
                                                 ": ", std::string(status.message())));
}

absl::StatusOr<InputLines> InputLines::Open(const Arguments& arguments) {
  const std::string path = absl::GetFlag(FLAGS_input);
  InputLines lines;
  lines.arguments_ = arguments;
  if (!arguments.empty()) {
    if (path.empty()) return lines;
    return absl::InvalidArgumentError("--input and arguments exclude each other");
  }
  lines.stream_ = &std::cin;
  if (path.empty() || path == "-") return lines;
  lines.is_json_ = absl::EndsWith(path, ".jsonl");
  lines.file_.open(path, std::ios::binary);
  if (!lines.file_)
    return absl::InvalidArgumentError(absl::StrCat("--input: ", path, " cannot be read"));
  lines.stream_ = nullptr;
  return lines;
}

bool InputLines::Next(std::string& line) {
  if (num_read_ < arguments_.size()) {
    line = arguments_[num_read_++];
    return true;
  }
  if (!arguments_.empty()) return false;
  if (!std::getline(stream_ != nullptr ? *stream_ : file_, line)) return false;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

bool FailedInputs::Check(int64_t number, const google::rpc::Status& status) {
  if (status.code() == 0) return true;
  std::cerr << "input " << number << ": " << status.message() << "\n";
  ++num_failed_;
  return false;
}

absl::Status FailedInputs::Result(int64_t total) const {
  if (num_failed_ == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(num_failed_, " of ", total, " inputs failed"));
}

}  // namespace attendant::client
