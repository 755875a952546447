#include "engine/tokenizer/word_level.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {
namespace {

class WordLevel : public Model {
 public:
  WordLevel(Vocabulary vocabulary, absl::string_view unknown_token)
      : Model(std::move(vocabulary)),
        unknown_token_(unknown_token),
        unknown_id_(this->vocabulary().IdOf(unknown_token)) {}

  absl::string_view kind() const override { return "WordLevel"; }

  absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const override {
    std::optional<int32_t> id = vocabulary().IdOf(piece);
    if (!id.has_value()) id = unknown_id_;
    if (!id.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text has an unknown word, and model.unk_token \"", unknown_token_,
                       "\" is not in the vocabulary"));
    }
    tokens.push_back({*id, 0, static_cast<uint32_t>(piece.size())});
    return absl::OkStatus();
  }

 private:
  const std::string unknown_token_;
  const std::optional<int32_t> unknown_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateWordLevel(const JsonValue& json) {
  ASSIGN_OR_RETURN(const JsonValue vocab, json.Get("vocab"));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::FromJson(vocab));
  ASSIGN_OR_RETURN(const absl::string_view unknown_token, json.String("unk_token"));
  return std::make_unique<WordLevel>(std::move(vocabulary), unknown_token);
}

}  // namespace attendant::engine
