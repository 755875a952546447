#include "engine/loaded_model.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_object.h"

namespace attendant::engine {
namespace {

absl::StatusOr<WordPieceOptions> ReadWordPieceOptions(const Checkpoint& checkpoint) {
  WordPieceOptions options;
  ASSIGN_OR_RETURN(const std::optional<std::string> json,
                   checkpoint.ReadFile("tokenizer_config.json"));
  if (!json.has_value()) return options;
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Parse("tokenizer_config.json", *json));
  ASSIGN_OR_RETURN(options.lowercase, object.Bool("do_lower_case", options.lowercase));
  ASSIGN_OR_RETURN(options.tokenize_chinese_chars,
                   object.Bool("tokenize_chinese_chars", options.tokenize_chinese_chars));
  if (object.Has("strip_accents")) {
    ASSIGN_OR_RETURN(options.strip_accents, object.Bool("strip_accents"));
  }
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint) {
  const auto source = [&checkpoint](absl::string_view file) {
    return absl::StrCat(checkpoint.path(), "/", file);
  };
  ASSIGN_OR_RETURN(const std::optional<std::string> json, checkpoint.ReadFile("tokenizer.json"));
  if (json.has_value()) return CreateTokenizer(*json, source("tokenizer.json"));

  ASSIGN_OR_RETURN(const std::optional<std::string> vocab_txt, checkpoint.ReadFile("vocab.txt"));
  if (vocab_txt.has_value()) {
    ASSIGN_OR_RETURN(const WordPieceOptions options, ReadWordPieceOptions(checkpoint));
    return CreateWordPieceTokenizer(*vocab_txt, options, source("vocab.txt"));
  }

  ASSIGN_OR_RETURN(const std::optional<std::string> vocab_json, checkpoint.ReadFile("vocab.json"));
  ASSIGN_OR_RETURN(const std::optional<std::string> merges, checkpoint.ReadFile("merges.txt"));
  if (vocab_json.has_value() && merges.has_value()) {
    return CreateByteLevelBpeTokenizer(*vocab_json, *merges, source("vocab.json"));
  }

  if (checkpoint.gguf_vocabulary() != nullptr) {
    return CreateGgufTokenizer(*checkpoint.gguf_vocabulary(), checkpoint.path());
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTargetTokenizer(const Checkpoint& checkpoint) {
  constexpr absl::string_view kFile = "target_tokenizer.json";
  ASSIGN_OR_RETURN(const std::optional<std::string> json, checkpoint.ReadFile(kFile));
  if (!json.has_value()) return nullptr;
  return CreateTokenizer(*json, absl::StrCat(checkpoint.path(), "/", kFile));
}

const Tokenizer* OutputTokenizer(const LoadedModel& model) {
  if (model.target_tokenizer != nullptr) return model.target_tokenizer.get();
  const ModelDescription& description = model.description;
  const bool is_shared =
      description.target_vocab_size == 0 || description.target_vocab_size == description.vocab_size;
  return is_shared ? model.tokenizer.get() : nullptr;
}

absl::Status CheckCanEncode(const ModelDescription& model) {
  if (model.can_encode) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("model \"", model.name, "\" is a ", model.kind, "; it serves Generate"));
}

absl::Status CheckCanGenerate(const ModelDescription& model) {
  if (model.can_generate) return absl::OkStatus();
  if (model.can_encode) {
    return absl::FailedPreconditionError(
        absl::StrCat("model \"", model.name, "\" is an ", model.kind, "; it serves Encode"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("model \"", model.name, "\" is a ", model.kind,
                   " without a language-model head; it serves nothing yet"));
}

absl::Status CheckHasTokenizer(const LoadedModel& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "model \"", model.description.name, "\" has no tokenizer; it takes token ids alone"));
}

absl::Status CheckTokenIds(const LoadedModel& model, absl::Span<const int32_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < model.description.vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrCat("token ", i, " has id ", ids[i],
                                                   "; the vocabulary has ",
                                                   model.description.vocab_size, " tokens"));
  }
  return absl::OkStatus();
}

}  // namespace attendant::engine
