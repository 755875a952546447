#include "engine/tokenizer/vocabulary.h"

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {
namespace {

// Far above any vocabulary; keeps a stray id from costing gigabytes.
constexpr int32_t kMaxId = (1 << 24) - 1;

}  // namespace

absl::StatusOr<Vocabulary> Vocabulary::FromJson(const JsonValue& json) {
  simdjson::dom::object object;
  if (json.element().get(object) != simdjson::SUCCESS) return json.Error("is not an object");
  Vocabulary vocabulary;
  for (const auto& [token, value] : object) {
    int64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id > kMaxId) {
      return json.ErrorAt(absl::StrCat("[\"", absl::string_view(token.data(), token.size()), "\"]"),
                          absl::StrCat("is not an integer from 0 to ", kMaxId));
    }
    RETURN_IF_ERROR(
        vocabulary.Add(absl::string_view(token.data(), token.size()), static_cast<int32_t>(id)));
  }
  return vocabulary;
}

absl::Status Vocabulary::Add(absl::string_view token, int32_t id) {
  if (id < 0 || id > kMaxId) {
    return absl::InvalidArgumentError(absl::StrCat("token id ", id, " is not from 0 to ", kMaxId));
  }
  const std::string* spelling = nullptr;
  if (const auto entry = ids_.find(token); entry != ids_.end()) {
    spelling = tokens_[entry->second];
    entry->second = id;
  }
  if (spelling == nullptr || *spelling != token) {
    spelling = &storage_.emplace_back(token);
    ids_.insert_or_assign(*spelling, id);
  }
  if (id >= end_id()) tokens_.resize(static_cast<size_t>(id) + 1, nullptr);
  tokens_[id] = spelling;
  return absl::OkStatus();
}

}  // namespace attendant::engine
