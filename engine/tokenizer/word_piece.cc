#include "engine/tokenizer/word_piece.h"

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/token_trie.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// The tokens that start with `prefix`, without it.
TokenTrie TokensWithPrefix(const Vocabulary& vocabulary, absl::string_view prefix) {
  std::vector<std::pair<absl::string_view, int32_t>> tokens;
  for (const auto& [token, id] : vocabulary.ids()) {
    absl::string_view rest = token;
    if (absl::ConsumePrefix(&rest, prefix) && !rest.empty() &&
        rest.size() <= TokenTrie::kMaxTokenBytes) {
      tokens.emplace_back(rest, id);
    }
  }
  return TokenTrie(std::move(tokens));
}

class WordPiece : public Model {
 public:
  WordPiece(Vocabulary vocabulary, const WordPieceModelOptions& options)
      : Model(std::move(vocabulary)),
        options_(options),
        unknown_id_(this->vocabulary().IdOf(options.unknown_token)),
        first_(TokensWithPrefix(this->vocabulary(), "")),
        continuing_(TokensWithPrefix(this->vocabulary(), options.continuing_subword_prefix)) {}

  absl::string_view kind() const override { return "WordPiece"; }

  absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const override {
    const size_t before = tokens.size();
    size_t position = 0;
    bool known = static_cast<int64_t>(piece.size()) <= options_.max_input_chars_per_word ||
                 unicode::CountChars(piece) <= options_.max_input_chars_per_word;
    while (known && position < piece.size()) {
      size_t longest = 0;
      int32_t id = 0;
      (position == 0 ? first_ : continuing_)
          .VisitPrefixes(piece.substr(position), [&](size_t length, int32_t value) {
            longest = length;
            id = value;
          });
      known = longest > 0;
      tokens.push_back(
          {id, static_cast<uint32_t>(position), static_cast<uint32_t>(position + longest)});
      position += longest;
    }
    if (known) return absl::OkStatus();
    tokens.resize(before);
    if (!unknown_id_.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text has an unknown word, and model.unk_token \"",
                       options_.unknown_token, "\" is not in the vocabulary"));
    }
    tokens.push_back({*unknown_id_, 0, static_cast<uint32_t>(piece.size())});
    return absl::OkStatus();
  }

 private:
  const WordPieceModelOptions options_;
  const std::optional<int32_t> unknown_id_;
  const TokenTrie first_;
  const TokenTrie continuing_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateWordPiece(Vocabulary vocabulary,
                                                       const WordPieceModelOptions& options) {
  return std::make_unique<WordPiece>(std::move(vocabulary), options);
}

absl::StatusOr<std::unique_ptr<Model>> CreateWordPiece(const JsonValue& json) {
  WordPieceModelOptions options;
  ASSIGN_OR_RETURN(const absl::string_view unknown_token, json.String("unk_token"));
  ASSIGN_OR_RETURN(const absl::string_view prefix, json.String("continuing_subword_prefix"));
  ASSIGN_OR_RETURN(
      options.max_input_chars_per_word,
      json.Integer("max_input_chars_per_word", 0, std::numeric_limits<int64_t>::max()));
  options.unknown_token = std::string(unknown_token);
  options.continuing_subword_prefix = std::string(prefix);
  ASSIGN_OR_RETURN(const JsonValue vocab, json.Get("vocab"));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::FromJson(vocab));
  return CreateWordPiece(std::move(vocabulary), options);
}

}  // namespace attendant::engine
