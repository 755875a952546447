#ifndef ATTENDANT_ENGINE_MODEL_JSON_OBJECT_H_
#define ATTENDANT_ENGINE_MODEL_JSON_OBJECT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attendant::engine {

// A JSON object of a model's folder, read field by field. A field is asked for with its type and
// range; what is missing or wrong is INVALID_ARGUMENT naming file, field, value and limit. A field
// that is null counts as absent, and an absent one takes the `fallback` or, without one, is an
// error.
class JsonObject {
 public:
  // `source` is how errors call the file. INVALID_ARGUMENT if `json` is no JSON object.
  static absl::StatusOr<JsonObject> Parse(absl::string_view source, absl::string_view json);

  // The same for an array of objects.
  static absl::StatusOr<std::vector<JsonObject>> ParseArray(absl::string_view source,
                                                            absl::string_view json);

  bool Has(absl::string_view key) const;

  // A whole number from `minimum` to `maximum`.
  absl::StatusOr<int32_t> Int(absl::string_view key, int32_t minimum, int32_t maximum,
                              std::optional<int32_t> fallback = std::nullopt) const;

  // A number greater than 0, up to `maximum`.
  absl::StatusOr<float> PositiveNumber(absl::string_view key, float maximum,
                                       std::optional<float> fallback = std::nullopt) const;

  absl::StatusOr<bool> Bool(absl::string_view key,
                            std::optional<bool> fallback = std::nullopt) const;
  absl::StatusOr<std::string> String(absl::string_view key,
                                     std::optional<std::string> fallback = std::nullopt) const;

  // Never absent: ask Has first.
  absl::StatusOr<JsonObject> Object(absl::string_view key) const;

  // Empty if absent.
  absl::StatusOr<std::vector<float>> Numbers(absl::string_view key) const;
  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view key) const;
  absl::StatusOr<std::map<std::string, std::string>> StringMap(absl::string_view key) const;

  // The field as compact JSON, cut to a length fit for a message; empty if absent.
  std::string Text(absl::string_view key) const;

  // "config.json: hidden_size": how errors begin.
  std::string Name(absl::string_view key) const;

 private:
  struct Fields;
  JsonObject(std::string source, std::string path, std::shared_ptr<const Fields> fields);

  // INVALID_ARGUMENT "<name> is <text>; expected <what>", or "<name> is missing; ...".
  absl::Status Unexpected(absl::string_view key, absl::string_view expected) const;

  std::string source_;
  std::string path_;  // of this object in the file: "" or "rope_scaling."
  std::shared_ptr<const Fields> fields_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_JSON_OBJECT_H_
