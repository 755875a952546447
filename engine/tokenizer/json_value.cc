#include "engine/tokenizer/json_value.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {

std::optional<JsonValue> JsonValue::Find(absl::string_view key) const {
  simdjson::dom::element member;
  if (element_.at_key(std::string_view(key.data(), key.size())).get(member) != simdjson::SUCCESS ||
      member.is_null()) {
    return std::nullopt;
  }
  return JsonValue(member, path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key));
}

absl::StatusOr<JsonValue> JsonValue::Get(absl::string_view key) const {
  if (!element_.is_object()) return Error("is not an object");
  std::optional<JsonValue> member = Find(key);
  if (!member.has_value()) return Error(absl::StrCat("lacks \"", key, "\""));
  return *std::move(member);
}

absl::StatusOr<absl::string_view> JsonValue::String() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) return Error("is not a string");
  return absl::string_view(value.data(), value.size());
}

absl::StatusOr<bool> JsonValue::Bool() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) return Error("is not true or false");
  return value;
}

absl::StatusOr<double> JsonValue::Number() const {
  double value = 0;
  if (element_.get(value) != simdjson::SUCCESS || !std::isfinite(value))
    return Error("is not a number");
  return value;
}

absl::StatusOr<int64_t> JsonValue::Integer(int64_t min, int64_t max) const {
  int64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS || value < min || value > max) {
    return Error(absl::StrCat("is not an integer from ", min, " to ", max));
  }
  return value;
}

absl::StatusOr<std::vector<JsonValue>> JsonValue::Array() const {
  simdjson::dom::array array;
  if (element_.get(array) != simdjson::SUCCESS) return Error("is not an array");
  std::vector<JsonValue> values;
  for (const simdjson::dom::element element : array) {
    values.emplace_back(element, absl::StrCat(path_, "[", values.size(), "]"));
  }
  return values;
}

absl::StatusOr<absl::string_view> JsonValue::String(absl::string_view key) const {
  ASSIGN_OR_RETURN(const JsonValue value, Get(key));
  return value.String();
}

absl::StatusOr<bool> JsonValue::Bool(absl::string_view key) const {
  ASSIGN_OR_RETURN(const JsonValue value, Get(key));
  return value.Bool();
}

absl::StatusOr<bool> JsonValue::Bool(absl::string_view key, bool fallback) const {
  const std::optional<JsonValue> value = Find(key);
  return value.has_value() ? value->Bool() : fallback;
}

absl::StatusOr<int64_t> JsonValue::Integer(absl::string_view key, int64_t min, int64_t max) const {
  ASSIGN_OR_RETURN(const JsonValue value, Get(key));
  return value.Integer(min, max);
}

absl::StatusOr<std::vector<JsonValue>> JsonValue::Array(absl::string_view key) const {
  ASSIGN_OR_RETURN(const JsonValue value, Get(key));
  return value.Array();
}

absl::Status JsonValue::ErrorAt(absl::string_view part, absl::string_view what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_.empty() ? "the file" : path_, part, " ", what));
}

absl::Status JsonValue::UnknownType(absl::string_view type) const {
  return absl::UnimplementedError(absl::StrCat(path_, ".type \"", type, "\" is not supported"));
}

absl::Status JsonValue::Annotate(const absl::Status& status) const {
  return absl::Status(status.code(), absl::StrCat(path_, ": ", status.message()));
}

absl::StatusOr<char32_t> SingleCharacter(const JsonValue& json) {
  ASSIGN_OR_RETURN(const absl::string_view text, json.String());
  if (text.empty() || unicode::CharLength(text[0]) != text.size())
    return json.Error("is not a single character");
  size_t position = 0;
  return unicode::Next(text, position);
}

}  // namespace attendant::engine
