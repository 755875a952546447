#ifndef ATTENDANT_CLIENT_CLI_JSON_H_
#define ATTENDANT_CLIENT_CLI_JSON_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/tensor.h"
#include "google/protobuf/message.h"

namespace attendant::client {

// A message on one line, with the field names of the contract, fields at their default included.
std::string ToJson(const google::protobuf::Message& message);

// A tensor as nested lists of numbers, each with the fewest digits that give it back exactly; what
// is not finite is null.
std::string ToJson(const FloatTensor& tensor);

// {"name": value, ...} from values that are JSON already.
std::string JsonObject(const std::vector<std::pair<absl::string_view, std::string>>& members);

// [value, ...] from messages.
template <typename Messages>
std::string JsonList(const Messages& messages) {
  std::string text = "[";
  for (const auto& message : messages) {
    if (text.size() > 1) text += ',';
    text += ToJson(message);
  }
  return text + "]";
}

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_JSON_H_
