#include "engine/model/json_object.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "simdjson.h"

namespace attendant::engine {
namespace {

using simdjson::dom::element;

constexpr size_t kMaxShownBytes = 60;

absl::StatusOr<element> ParseDocument(absl::string_view source, absl::string_view json,
                                      simdjson::dom::parser& parser) {
  element document;
  if (auto error = parser.parse(json.data(), json.size()).get(document)) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " is not valid JSON: ", simdjson::error_message(error)));
  }
  return document;
}

}  // namespace

// The parser owns the memory that the object points into; nested objects share it.
struct JsonObject::Fields {
  std::shared_ptr<simdjson::dom::parser> parser;
  simdjson::dom::object object;

  std::optional<element> Find(absl::string_view key) const {
    element value;
    if (object.at_key(std::string_view(key.data(), key.size())).get(value)) return std::nullopt;
    if (value.is_null()) return std::nullopt;
    return value;
  }
};

JsonObject::JsonObject(std::string source, std::string path, std::shared_ptr<const Fields> fields)
    : source_(std::move(source)), path_(std::move(path)), fields_(std::move(fields)) {}

absl::StatusOr<JsonObject> JsonObject::Parse(absl::string_view source, absl::string_view json) {
  auto parser = std::make_shared<simdjson::dom::parser>();
  ASSIGN_OR_RETURN(const element document, ParseDocument(source, json, *parser));
  simdjson::dom::object object;
  if (document.get(object)) {
    return absl::InvalidArgumentError(absl::StrCat(source, " is not a JSON object"));
  }
  return JsonObject(std::string(source), "",
                    std::make_shared<Fields>(Fields{std::move(parser), object}));
}

absl::StatusOr<std::vector<JsonObject>> JsonObject::ParseArray(absl::string_view source,
                                                               absl::string_view json) {
  auto parser = std::make_shared<simdjson::dom::parser>();
  ASSIGN_OR_RETURN(const element document, ParseDocument(source, json, *parser));
  simdjson::dom::array array;
  if (document.get(array)) {
    return absl::InvalidArgumentError(absl::StrCat(source, " is not a JSON array"));
  }
  std::vector<JsonObject> objects;
  for (const element item : array) {
    const std::string path = absl::StrCat("[", objects.size(), "]");
    simdjson::dom::object object;
    if (item.get(object)) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": ", path, " is not an object"));
    }
    objects.push_back(JsonObject(std::string(source), absl::StrCat(path, "."),
                                 std::make_shared<Fields>(Fields{parser, object})));
  }
  return objects;
}

bool JsonObject::Has(absl::string_view key) const { return fields_->Find(key).has_value(); }

absl::StatusOr<int32_t> JsonObject::Int(absl::string_view key, int32_t minimum, int32_t maximum,
                                        std::optional<int32_t> fallback) const {
  const std::optional<element> value = fields_->Find(key);
  if (!value && fallback) return *fallback;
  int64_t number = 0;
  if (!value || value->get(number) || number < minimum || number > maximum) {
    return Unexpected(key, absl::StrCat("a whole number from ", minimum, " to ", maximum));
  }
  return static_cast<int32_t>(number);
}

absl::StatusOr<float> JsonObject::PositiveNumber(absl::string_view key, float maximum,
                                                 std::optional<float> fallback) const {
  const std::optional<element> value = fields_->Find(key);
  if (!value && fallback) return *fallback;
  double number = 0;
  // As a float it must still be positive: 1e-60 would become 0.
  if (!value || value->get(number) || !(static_cast<float>(number) > 0) || number > maximum) {
    return Unexpected(key, absl::StrCat("a number greater than 0, up to ", maximum));
  }
  return static_cast<float>(number);
}

absl::StatusOr<bool> JsonObject::Bool(absl::string_view key, std::optional<bool> fallback) const {
  const std::optional<element> value = fields_->Find(key);
  if (!value && fallback) return *fallback;
  bool result = false;
  if (!value || value->get(result)) return Unexpected(key, "true or false");
  return result;
}

absl::StatusOr<std::string> JsonObject::String(absl::string_view key,
                                               std::optional<std::string> fallback) const {
  const std::optional<element> value = fields_->Find(key);
  if (!value && fallback) return *std::move(fallback);
  std::string_view result;
  if (!value || value->get(result)) return Unexpected(key, "a string");
  return std::string(result);
}

absl::StatusOr<JsonObject> JsonObject::Object(absl::string_view key) const {
  const std::optional<element> value = fields_->Find(key);
  simdjson::dom::object object;
  if (!value || value->get(object)) return Unexpected(key, "an object");
  return JsonObject(source_, absl::StrCat(path_, key, "."),
                    std::make_shared<Fields>(Fields{fields_->parser, object}));
}

absl::StatusOr<std::vector<float>> JsonObject::Numbers(absl::string_view key) const {
  const std::optional<element> value = fields_->Find(key);
  std::vector<float> numbers;
  if (!value) return numbers;
  simdjson::dom::array array;
  if (value->get(array)) return Unexpected(key, "an array of numbers");
  for (const element item : array) {
    double number;
    if (item.get(number) || std::abs(number) > std::numeric_limits<float>::max()) {
      return Unexpected(key, "an array of numbers");
    }
    numbers.push_back(static_cast<float>(number));
  }
  return numbers;
}

absl::StatusOr<std::vector<std::string>> JsonObject::Strings(absl::string_view key) const {
  const std::optional<element> value = fields_->Find(key);
  std::vector<std::string> strings;
  if (!value) return strings;
  simdjson::dom::array array;
  if (value->get(array)) return Unexpected(key, "an array of strings");
  for (const element item : array) {
    std::string_view text;
    if (item.get(text)) return Unexpected(key, "an array of strings");
    strings.emplace_back(text);
  }
  return strings;
}

absl::StatusOr<std::map<std::string, std::string>> JsonObject::StringMap(
    absl::string_view key) const {
  const std::optional<element> value = fields_->Find(key);
  std::map<std::string, std::string> map;
  if (!value) return map;
  simdjson::dom::object object;
  if (value->get(object)) return Unexpected(key, "an object of strings");
  for (const auto& field : object) {
    std::string_view text;
    if (field.value.get(text)) return Unexpected(key, "an object of strings");
    map[std::string(field.key)] = std::string(text);
  }
  return map;
}

std::string JsonObject::Text(absl::string_view key) const {
  const std::optional<element> value = fields_->Find(key);
  if (!value) return "";
  std::string text = simdjson::minify(*value);
  if (text.size() <= kMaxShownBytes) return text;
  size_t end = kMaxShownBytes;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // no half characters
  return text.substr(0, end) + "...";
}

std::string JsonObject::Name(absl::string_view key) const {
  return absl::StrCat(source_, ": ", path_, key);
}

absl::Status JsonObject::Unexpected(absl::string_view key, absl::string_view expected) const {
  const std::string text = Text(key);
  return absl::InvalidArgumentError(
      absl::StrCat(Name(key), text.empty() ? " is missing" : absl::StrCat(" is ", text),
                   "; expected ", expected));
}

}  // namespace attendant::engine
