#include "engine/loaded_model.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_object.h"
#include "engine/tokenizer/tokenizer_folder.h"

namespace attendant::engine {
namespace {

// `read` of the checkpoint's folder.
template <typename Read>
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadFrom(const Checkpoint& checkpoint, Read read) {
  ASSIGN_OR_RETURN(const JsonObject config,
                   JsonObject::Parse("config.json", checkpoint.config_json()));
  ASSIGN_OR_RETURN(const std::string model_type, config.String("model_type", ""));
  return read(TokenizerFolder{checkpoint.path(), model_type, [&checkpoint](absl::string_view name) {
                                return checkpoint.ReadFile(name);
                              }});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.gguf_vocabulary() != nullptr)
    return CreateGgufTokenizer(*checkpoint.gguf_vocabulary(), checkpoint.path());
  return ReadFrom(checkpoint, ReadSourceTokenizer);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTargetTokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.gguf_vocabulary() != nullptr) return nullptr;
  return ReadFrom(checkpoint,
                  [](const TokenizerFolder& folder) { return ReadTargetTokenizer(folder); });
}

const Tokenizer* OutputTokenizer(const LoadedModel& model) {
  if (model.target_tokenizer != nullptr) return model.target_tokenizer.get();
  const ModelDescription& description = model.description;
  const bool is_shared =
      description.target_vocab_size == 0 || description.target_vocab_size == description.vocab_size;
  return is_shared ? model.tokenizer.get() : nullptr;
}

absl::StatusOr<std::optional<int32_t>> ReadMaskToken(const Checkpoint& checkpoint,
                                                     const Tokenizer& tokenizer) {
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    ASSIGN_OR_RETURN(const std::optional<std::string> json, checkpoint.ReadFile(file));
    if (!json.has_value()) continue;
    ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Parse(file, *json));
    if (!object.Has("mask_token")) continue;
    // An added token is an object with its content, or only that.
    absl::StatusOr<std::string> token = object.String("mask_token");
    if (!token.ok()) {
      ASSIGN_OR_RETURN(const JsonObject added, object.Object("mask_token"));
      ASSIGN_OR_RETURN(token, added.String("content"));
    }
    return tokenizer.TokenToId(*token);
  }
  const std::optional<int32_t> id = tokenizer.TokenToId("[MASK]");
  return id.has_value() ? id : tokenizer.TokenToId("<mask>");
}

absl::Status CheckHasHead(const ModelDescription& model, bool can, absl::string_view rpc) {
  if (can) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "model \"", model.name, "\" has no head for ", rpc,
      "; its heads: ", model.heads.empty() ? "none" : absl::StrJoin(model.heads, ", ")));
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
