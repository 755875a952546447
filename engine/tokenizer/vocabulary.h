#ifndef ATTENDANT_ENGINE_TOKENIZER_VOCABULARY_H_
#define ATTENDANT_ENGINE_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"

namespace attendant::engine {

// The tokens of a model, and their ids. Ids may leave holes.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // {"token": id, ...}.
  static absl::StatusOr<Vocabulary> FromJson(const JsonValue& json);

  // Adds a token; one that is there already gets the new id. INVALID_ARGUMENT if `id` is below 0 or
  // beyond what a vocabulary can hold.
  absl::Status Add(absl::string_view token, int32_t id);

  std::optional<int32_t> IdOf(absl::string_view token) const {
    const auto entry = ids_.find(token);
    return entry == ids_.end() ? std::nullopt : std::optional<int32_t>(entry->second);
  }
  // The spelling of `id`; nothing for a hole.
  std::optional<absl::string_view> TokenOf(int32_t id) const {
    if (id < 0 || id >= end_id() || tokens_[id] == nullptr) return std::nullopt;
    return *tokens_[id];
  }

  // How many tokens there are.
  int32_t size() const { return static_cast<int32_t>(ids_.size()); }
  // One more than the largest id.
  int32_t end_id() const { return static_cast<int32_t>(tokens_.size()); }
  const absl::flat_hash_map<absl::string_view, int32_t>& ids() const { return ids_; }

 private:
  std::deque<std::string> storage_;  // what the others point to
  absl::flat_hash_map<absl::string_view, int32_t> ids_;
  std::vector<const std::string*> tokens_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_VOCABULARY_H_
