#include "client/cli/json.h"

#include <charconv>
#include <cmath>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"

namespace attendant::client {
namespace {

void AppendNumber(float value, std::string& text) {
  if (!std::isfinite(value)) {
    text += "null";
    return;
  }
  char digits[32];
  const auto result = std::to_chars(digits, digits + sizeof(digits), value);
  text.append(digits, result.ptr);
}

// Appends the part of `tensor` below one index of each axis before `axis`, which begins at
// `*value`.
void AppendAxis(const FloatTensor& tensor, size_t axis, const float*& value, std::string& text) {
  if (axis == tensor.shape.size()) {
    AppendNumber(*value++, text);
    return;
  }
  text += '[';
  for (int64_t i = 0; i < tensor.shape[axis]; ++i) {
    if (i > 0) text += ',';
    AppendAxis(tensor, axis + 1, value, text);
  }
  text += ']';
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  CHECK(status.ok()) << status.ToString();
  return text;
}

std::string ToJson(const FloatTensor& tensor) {
  std::string text;
  const float* value = tensor.values.data();
  AppendAxis(tensor, 0, value, text);
  return text;
}

std::string JsonObject(const std::vector<std::pair<absl::string_view, std::string>>& members) {
  std::string text = "{";
  for (const auto& [name, value] : members) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", "\"", name, "\":", value);
  }
  return text + "}";
}

}  // namespace attendant::client
