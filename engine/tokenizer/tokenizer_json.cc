#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_pair.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_parts.h"
#include "engine/tokenizer/unigram.h"
#include "engine/tokenizer/word_level.h"
#include "engine/tokenizer/word_piece.h"

namespace attendant::engine {
namespace {

constexpr PartType<Model> kModels[] = {
    {"BPE", CreateBytePair},
    {"Unigram", CreateUnigram},
    {"WordLevel", CreateWordLevel},
    {"WordPiece", CreateWordPiece},
};

// Old files do not name the type of the model: it is the first one whose keys are all there.
absl::StatusOr<std::unique_ptr<Model>> CreateModel(const JsonValue& json) {
  if (json.Find("type").has_value()) return CreatePart(kModels, json);
  if (json.Find("merges").has_value()) return CreateBytePair(json);
  if (json.Find("continuing_subword_prefix").has_value()) return CreateWordPiece(json);
  if (json.Find("unk_token").has_value()) return CreateWordLevel(json);
  return CreateUnigram(json);
}

absl::StatusOr<TokenizerParts> ParseParts(const JsonValue& json) {
  if (!json.element().is_object()) return json.Error("is not an object");
  if (const auto version = json.Find("version")) {
    ASSIGN_OR_RETURN(const absl::string_view name, version->String());
    if (name != "1.0") return version->Error(absl::StrCat("\"", name, "\" is not 1.0"));
  }
  TokenizerParts parts;
  if (const auto part = json.Find("added_tokens")) {
    ASSIGN_OR_RETURN(parts.added_tokens, ParseAddedTokens(*part));
  }
  if (const auto part = json.Find("normalizer")) {
    ASSIGN_OR_RETURN(parts.normalizer, CreateNormalizer(*part));
  }
  if (const auto part = json.Find("pre_tokenizer")) {
    ASSIGN_OR_RETURN(parts.pre_tokenizer, CreatePreTokenizer(*part));
  }
  ASSIGN_OR_RETURN(const JsonValue model, json.Get("model"));
  ASSIGN_OR_RETURN(parts.model, CreateModel(model));
  if (const auto part = json.Find("post_processor")) {
    ASSIGN_OR_RETURN(parts.post_processor, CreatePostProcessor(*part));
  }
  if (const auto part = json.Find("decoder")) {
    ASSIGN_OR_RETURN(parts.decoder, CreateDecoder(*part));
  }
  return parts;
}

}  // namespace

absl::StatusOr<TokenizerParts> TokenizerJsonParts(absl::string_view json) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root);
      error != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrCat("is not JSON: ", simdjson::error_message(error)));
  }
  return ParseParts(JsonValue(root, ""));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizer(absl::string_view json,
                                                           absl::string_view source) {
  return PipelineTokenizer::Create(TokenizerJsonParts(json), source);
}

}  // namespace attendant::engine
