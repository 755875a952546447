#ifndef ATTENDANT_ENGINE_TOKENIZER_JSON_VALUE_H_
#define ATTENDANT_ENGINE_TOKENIZER_JSON_VALUE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "simdjson.h"

namespace attendant::engine {

// A value of a JSON file, which knows where it stands ("pre_tokenizer.pretokenizers[1].type"), so
// that every error can say so: INVALID_ARGUMENT for what has the wrong type or is missing. Valid as
// long as its parser.
class JsonValue {
 public:
  JsonValue(simdjson::dom::element element, std::string path)
      : element_(element), path_(std::move(path)) {}

  simdjson::dom::element element() const { return element_; }
  const std::string& path() const { return path_; }

  // The member `key` of an object; null counts as absent.
  std::optional<JsonValue> Find(absl::string_view key) const;
  absl::StatusOr<JsonValue> Get(absl::string_view key) const;

  absl::StatusOr<absl::string_view> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<double> Number() const;
  absl::StatusOr<int64_t> Integer(int64_t min, int64_t max) const;
  absl::StatusOr<std::vector<JsonValue>> Array() const;

  // Get and the conversion in one; `fallback` where the member is absent.
  absl::StatusOr<absl::string_view> String(absl::string_view key) const;
  absl::StatusOr<bool> Bool(absl::string_view key) const;
  absl::StatusOr<bool> Bool(absl::string_view key, bool fallback) const;
  absl::StatusOr<int64_t> Integer(absl::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<std::vector<JsonValue>> Array(absl::string_view key) const;

  // INVALID_ARGUMENT: "PATH WHAT"; and of a part of this, "PATH[7] WHAT" or "PATH.KEY WHAT".
  absl::Status Error(absl::string_view what) const { return ErrorAt("", what); }
  absl::Status ErrorAt(absl::string_view part, absl::string_view what) const;
  // UNIMPLEMENTED: "PATH.type "TYPE" is not supported".
  absl::Status UnknownType(absl::string_view type) const;
  // `status` with the path in front of its message.
  absl::Status Annotate(const absl::Status& status) const;

 private:
  simdjson::dom::element element_;
  std::string path_;
};

// The one character of the string `json`.
absl::StatusOr<char32_t> SingleCharacter(const JsonValue& json);

// A part of a tokenizer by name, and how to make it: one row for each. `Part` is what the rows
// make.
template <typename Part>
struct PartType {
  absl::string_view name;
  absl::StatusOr<std::unique_ptr<Part>> (*create)(const JsonValue& json);
};

// Makes the part that `json`.type names in `types`.
template <typename Part, size_t N>
absl::StatusOr<std::unique_ptr<Part>> CreatePart(const PartType<Part> (&types)[N],
                                                 const JsonValue& json) {
  absl::StatusOr<absl::string_view> name = json.String("type");
  if (!name.ok()) return name.status();
  for (const PartType<Part>& type : types) {
    if (type.name == *name) return type.create(json);
  }
  return json.UnknownType(*name);
}

// Makes each part of the array `key`, for the parts that are sequences of others.
template <typename Part>
absl::StatusOr<std::vector<std::unique_ptr<Part>>> CreateParts(
    const JsonValue& json, absl::string_view key,
    absl::StatusOr<std::unique_ptr<Part>> (*create)(const JsonValue&)) {
  absl::StatusOr<std::vector<JsonValue>> values = json.Array(key);
  if (!values.ok()) return values.status();
  std::vector<std::unique_ptr<Part>> parts;
  for (const JsonValue& value : *values) {
    absl::StatusOr<std::unique_ptr<Part>> part = create(value);
    if (!part.ok()) return part.status();
    parts.push_back(*std::move(part));
  }
  return parts;
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_JSON_VALUE_H_
