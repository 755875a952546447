#include "engine/tokenizer/post_processors.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

EncodedToken SpecialToken(int32_t id, int32_t type_id) {
  EncodedToken token;
  token.id = id;
  token.type_id = type_id;
  token.is_special = true;
  return token;
}

// Takes the whitespace at the ends of each token out of its offsets.
void TrimOffsets(const std::array<absl::string_view, 2>& texts, bool add_prefix_space,
                 TokenRun& run) {
  for (size_t i = 0; i < run.size(); ++i) {
    EncodedToken& token = run[i];
    if (token.sequence_id < 0) continue;
    const absl::string_view text = texts[token.sequence_id];
    TextRange& offsets = token.offsets;
    int32_t leading = token.leading_spaces;
    // The one space before the first token is not the text's.
    if ((i == 0 || offsets.begin == 0) && add_prefix_space && leading == 1) leading = 0;
    for (; leading > 0 && offsets.begin < offsets.end; --leading) {
      offsets.begin += static_cast<int32_t>(unicode::CharLength(text[offsets.begin]));
    }
    offsets.begin = std::min(offsets.begin, offsets.end);
    int32_t end = offsets.end;
    int32_t trailing = token.trailing_spaces;
    for (; trailing > 0 && end > 0; --trailing)
      end = static_cast<int32_t>(unicode::LastBegin(text.substr(0, end)));
    if (trailing == 0) offsets.end = std::max(end, offsets.begin);
  }
}

// [CLS] A [SEP], and B [SEP] for the second text.
class BertProcessing : public PostProcessor {
 public:
  BertProcessing(int32_t cls, int32_t sep) : cls_(cls), sep_(sep) {}

  static absl::StatusOr<std::unique_ptr<PostProcessor>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const int32_t cls, ParseToken(json, "cls"));
    ASSIGN_OR_RETURN(const int32_t sep, ParseToken(json, "sep"));
    return std::make_unique<BertProcessing>(cls, sep);
  }

  // `key`: ["[CLS]", 101].
  static absl::StatusOr<int32_t> ParseToken(const JsonValue& json, absl::string_view key) {
    ASSIGN_OR_RETURN(const std::vector<JsonValue> token, json.Array(key));
    if (token.size() != 2) return json.ErrorAt(absl::StrCat(".", key), "is not a token and its id");
    RETURN_IF_ERROR(token[0].String().status());
    ASSIGN_OR_RETURN(const int64_t id, token[1].Integer(0, std::numeric_limits<int32_t>::max()));
    return static_cast<int32_t>(id);
  }

  absl::Status Process(const std::array<absl::string_view, 2>&, bool add_special_tokens,
                       std::vector<TokenRun>& runs) const override {
    if (!add_special_tokens) return absl::OkStatus();
    for (size_t i = 0; i < runs.size(); ++i) {
      if (i == 0) runs[i].insert(runs[i].begin(), SpecialToken(cls_, 0));
      runs[i].push_back(SpecialToken(sep_, i == 0 ? 0 : 1));
    }
    return absl::OkStatus();
  }

  int32_t num_special_tokens(bool is_pair) const override { return is_pair ? 3 : 2; }

 private:
  const int32_t cls_;
  const int32_t sep_;
};

// <s> A </s>, and </s> B </s> for the second text, all of type 0.
class RobertaProcessing : public PostProcessor {
 public:
  RobertaProcessing(int32_t cls, int32_t sep, bool trim_offsets, bool add_prefix_space)
      : cls_(cls), sep_(sep), trim_offsets_(trim_offsets), add_prefix_space_(add_prefix_space) {}

  static absl::StatusOr<std::unique_ptr<PostProcessor>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const int32_t cls, BertProcessing::ParseToken(json, "cls"));
    ASSIGN_OR_RETURN(const int32_t sep, BertProcessing::ParseToken(json, "sep"));
    ASSIGN_OR_RETURN(const bool trim_offsets, json.Bool("trim_offsets"));
    ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space"));
    return std::make_unique<RobertaProcessing>(cls, sep, trim_offsets, add_prefix_space);
  }

  absl::Status Process(const std::array<absl::string_view, 2>& texts, bool add_special_tokens,
                       std::vector<TokenRun>& runs) const override {
    for (size_t i = 0; i < runs.size(); ++i) {
      if (trim_offsets_) TrimOffsets(texts, add_prefix_space_, runs[i]);
      for (EncodedToken& token : runs[i]) token.type_id = 0;
      if (!add_special_tokens) continue;
      runs[i].insert(runs[i].begin(), SpecialToken(i == 0 ? cls_ : sep_, 0));
      runs[i].push_back(SpecialToken(sep_, 0));
    }
    return absl::OkStatus();
  }

  int32_t num_special_tokens(bool is_pair) const override { return is_pair ? 4 : 2; }
  bool trims_offsets() const override { return trim_offsets_; }

 private:
  const int32_t cls_;
  const int32_t sep_;
  const bool trim_offsets_;
  const bool add_prefix_space_;
};

class ByteLevelProcessing : public PostProcessor {
 public:
  ByteLevelProcessing(bool trim_offsets, bool add_prefix_space)
      : trim_offsets_(trim_offsets), add_prefix_space_(add_prefix_space) {}

  static absl::StatusOr<std::unique_ptr<PostProcessor>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const bool trim_offsets, json.Bool("trim_offsets"));
    ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space"));
    return std::make_unique<ByteLevelProcessing>(trim_offsets, add_prefix_space);
  }

  absl::Status Process(const std::array<absl::string_view, 2>& texts, bool,
                       std::vector<TokenRun>& runs) const override {
    if (!trim_offsets_) return absl::OkStatus();
    for (TokenRun& run : runs) TrimOffsets(texts, add_prefix_space_, run);
    return absl::OkStatus();
  }

  int32_t num_special_tokens(bool) const override { return 0; }
  bool trims_offsets() const override { return trim_offsets_; }

 private:
  const bool trim_offsets_;
  const bool add_prefix_space_;
};

// Special tokens around and between the texts, as two templates say.
class TemplateProcessing : public PostProcessor {
 public:
  TemplateProcessing(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair)
      : single_(std::move(single)), pair_(std::move(pair)) {}

  static absl::StatusOr<std::unique_ptr<PostProcessor>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue tokens_json, json.Get("special_tokens"));
    ASSIGN_OR_RETURN(const SpecialTokens tokens, ParseSpecialTokens(tokens_json));
    ASSIGN_OR_RETURN(std::vector<TemplatePiece> single, ParseTemplate(json, "single", 1, tokens));
    ASSIGN_OR_RETURN(std::vector<TemplatePiece> pair, ParseTemplate(json, "pair", 2, tokens));
    return std::make_unique<TemplateProcessing>(std::move(single), std::move(pair));
  }

  absl::Status Process(const std::array<absl::string_view, 2>&, bool add_special_tokens,
                       std::vector<TokenRun>& runs) const override {
    if (runs.empty() || runs.size() > 2) {
      return absl::InvalidArgumentError("post_processor: TemplateProcessing follows another one");
    }
    std::vector<TokenRun> result;
    for (const TemplatePiece& piece : runs.size() == 1 ? single_ : pair_) {
      if (piece.id >= 0) {
        if (add_special_tokens) result.push_back({SpecialToken(piece.id, piece.type_id)});
        continue;
      }
      TokenRun run = runs[piece.sequence];
      for (EncodedToken& token : run) token.type_id = piece.type_id;
      result.push_back(std::move(run));
    }
    runs = std::move(result);
    return absl::OkStatus();
  }

  int32_t num_special_tokens(bool is_pair) const override {
    const std::vector<TemplatePiece>& pieces = is_pair ? pair_ : single_;
    return static_cast<int32_t>(std::count_if(
        pieces.begin(), pieces.end(), [](const TemplatePiece& piece) { return piece.id >= 0; }));
  }

 private:
  using SpecialTokens = absl::flat_hash_map<std::string, std::vector<int32_t>>;

  // {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, ...}.
  static absl::StatusOr<SpecialTokens> ParseSpecialTokens(const JsonValue& json) {
    simdjson::dom::object object;
    if (json.element().get(object) != simdjson::SUCCESS) return json.Error("is not an object");
    SpecialTokens tokens;
    for (const auto& [name, element] : object) {
      const JsonValue token(
          element, absl::StrCat(json.path(), ".", absl::string_view(name.data(), name.size())));
      ASSIGN_OR_RETURN(const std::vector<JsonValue> ids, token.Array("ids"));
      std::vector<int32_t>& list = tokens[absl::string_view(name.data(), name.size())];
      list.clear();
      for (const JsonValue& id : ids) {
        ASSIGN_OR_RETURN(const int64_t value, id.Integer(0, std::numeric_limits<int32_t>::max()));
        list.push_back(static_cast<int32_t>(value));
      }
    }
    return tokens;
  }

  // [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
  // ...].
  static absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(const JsonValue& json,
                                                                  absl::string_view key,
                                                                  int num_sequences,
                                                                  const SpecialTokens& tokens) {
    constexpr int64_t kMaxTypeId = std::numeric_limits<int32_t>::max();
    ASSIGN_OR_RETURN(const std::vector<JsonValue> values, json.Array(key));
    std::vector<TemplatePiece> pieces;
    for (const JsonValue& value : values) {
      TemplatePiece piece;
      if (const auto sequence = value.Find("Sequence")) {
        ASSIGN_OR_RETURN(const absl::string_view id, sequence->String("id"));
        if (id != "A" && !(id == "B" && num_sequences == 2)) {
          return sequence->ErrorAt(".id",
                                   absl::StrCat("\"", id, "\" is not a sequence of this template"));
        }
        piece.sequence = id == "A" ? 0 : 1;
        ASSIGN_OR_RETURN(const int64_t type_id, sequence->Integer("type_id", 0, kMaxTypeId));
        piece.type_id = static_cast<int32_t>(type_id);
        pieces.push_back(piece);
        continue;
      }
      ASSIGN_OR_RETURN(const JsonValue special, value.Get("SpecialToken"));
      ASSIGN_OR_RETURN(const absl::string_view id, special.String("id"));
      ASSIGN_OR_RETURN(const int64_t type_id, special.Integer("type_id", 0, kMaxTypeId));
      const auto token = tokens.find(id);
      if (token == tokens.end()) {
        return special.ErrorAt(".id",
                               absl::StrCat("\"", id, "\" is not one of its special_tokens"));
      }
      piece.type_id = static_cast<int32_t>(type_id);
      for (const int32_t token_id : token->second) {
        piece.id = token_id;
        pieces.push_back(piece);
      }
    }
    return pieces;
  }

  const std::vector<TemplatePiece> single_;
  const std::vector<TemplatePiece> pair_;
};

class SequenceProcessing : public PostProcessor {
 public:
  explicit SequenceProcessing(std::vector<std::unique_ptr<PostProcessor>> parts)
      : parts_(std::move(parts)) {}

  static absl::StatusOr<std::unique_ptr<PostProcessor>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(auto parts,
                     CreateParts<PostProcessor>(json, "processors", CreatePostProcessor));
    return std::make_unique<SequenceProcessing>(std::move(parts));
  }

  absl::Status Process(const std::array<absl::string_view, 2>& texts, bool add_special_tokens,
                       std::vector<TokenRun>& runs) const override {
    for (const auto& part : parts_) RETURN_IF_ERROR(part->Process(texts, add_special_tokens, runs));
    return absl::OkStatus();
  }

  int32_t num_special_tokens(bool is_pair) const override {
    int32_t count = 0;
    for (const auto& part : parts_) count += part->num_special_tokens(is_pair);
    return count;
  }

  bool trims_offsets() const override {
    return std::any_of(parts_.begin(), parts_.end(),
                       [](const auto& part) { return part->trims_offsets(); });
  }

 private:
  const std::vector<std::unique_ptr<PostProcessor>> parts_;
};

constexpr PartType<PostProcessor> kPostProcessors[] = {
    {"BertProcessing", BertProcessing::Create},         {"ByteLevel", ByteLevelProcessing::Create},
    {"RobertaProcessing", RobertaProcessing::Create},   {"Sequence", SequenceProcessing::Create},
    {"TemplateProcessing", TemplateProcessing::Create},
};

}  // namespace

absl::StatusOr<std::unique_ptr<PostProcessor>> CreatePostProcessor(const JsonValue& json) {
  return CreatePart(kPostProcessors, json);
}

std::unique_ptr<PostProcessor> CreateTemplateProcessing(std::vector<TemplatePiece> single,
                                                        std::vector<TemplatePiece> pair) {
  return std::make_unique<TemplateProcessing>(std::move(single), std::move(pair));
}

std::unique_ptr<PostProcessor> CreateRobertaProcessing(int32_t cls, int32_t sep, bool trim_offsets,
                                                       bool add_prefix_space) {
  return std::make_unique<RobertaProcessing>(cls, sep, trim_offsets, add_prefix_space);
}

}  // namespace attendant::engine
