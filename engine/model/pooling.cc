#include "engine/model/pooling.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_object.h"

namespace attendant::engine {
namespace {

// "sentence_transformers.models.Pooling" -> "Pooling": packages moved between versions.
absl::string_view ClassName(absl::string_view type) {
  return type.substr(type.rfind('.') + 1);  // npos + 1 = 0
}

// The contents of a file beside the weights as an object; nothing if it is absent.
absl::StatusOr<std::optional<JsonObject>> ReadObject(const Checkpoint& checkpoint,
                                                     const std::string& name) {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, checkpoint.ReadFile(name));
  if (!text) return std::nullopt;
  ASSIGN_OR_RETURN(JsonObject object, JsonObject::Parse(name, *text));
  return object;
}

struct PoolingMode {
  absl::string_view flag;  // in files up to sentence-transformers 5
  absl::string_view name;  // the value of "pooling_mode" since
  std::optional<PoolingKind> kind;
};

constexpr PoolingMode kPoolingModes[] = {
    {"pooling_mode_cls_token", "cls", PoolingKind::kCls},
    {"pooling_mode_mean_tokens", "mean", PoolingKind::kMean},
    {"pooling_mode_max_tokens", "max", PoolingKind::kMax},
    {"pooling_mode_lasttoken", "lasttoken", PoolingKind::kLastToken},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", std::nullopt},
    {"pooling_mode_weightedmean_tokens", "weightedmean", std::nullopt},
};

absl::StatusOr<PoolingKind> ReadPoolingKind(const Checkpoint& checkpoint,
                                            const std::string& folder) {
  const std::string name = absl::StrCat(folder, "/config.json");
  ASSIGN_OR_RETURN(const std::optional<JsonObject> json, ReadObject(checkpoint, name));
  if (!json) return absl::InvalidArgumentError(absl::StrCat(name, " is missing"));
  ASSIGN_OR_RETURN(const bool include_prompt, json->Bool("include_prompt", true));
  if (!include_prompt) {
    return absl::UnimplementedError(
        absl::StrCat(json->Name("include_prompt"), " is false; only true is built"));
  }
  std::vector<absl::string_view> modes;
  std::optional<PoolingKind> kind;
  ASSIGN_OR_RETURN(const std::string own_name, json->String("pooling_mode", ""));
  for (const PoolingMode& mode : kPoolingModes) {
    ASSIGN_OR_RETURN(const bool flag, json->Bool(mode.flag, false));
    if (!flag && mode.name != own_name) continue;
    modes.push_back(mode.name);
    kind = mode.kind;
  }
  if (modes.size() == 1 && kind) return *kind;
  if (modes.empty() && own_name.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " names no pooling mode"));
  }
  return absl::UnimplementedError(absl::StrCat(
      name, " asks for the pooling mode ", modes.empty() ? own_name : absl::StrJoin(modes, " + "),
      "; one of cls, mean, max and lasttoken is built"));
}

// The modules must be a Transformer, a Pooling and perhaps a Normalize, in this order.
absl::Status ReadModules(const Checkpoint& checkpoint, const std::vector<JsonObject>& modules,
                         SentenceConfig& config) {
  static constexpr absl::string_view kOrder[] = {"Transformer", "Pooling", "Normalize"};
  for (size_t i = 0; i < modules.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string type, modules[i].String("type"));
    ASSIGN_OR_RETURN(const std::string path, modules[i].String("path", ""));
    if (i >= std::size(kOrder) || ClassName(type) != kOrder[i]) {
      return absl::UnimplementedError(
          absl::StrCat(modules[i].Name("type"), " is ", modules[i].Text("type"),
                       "; a Transformer, then a Pooling, then a Normalize are built"));
    }
    if (i == 0 && !path.empty()) {
      return absl::UnimplementedError(
          absl::StrCat(modules[i].Name("path"), " is ", modules[i].Text("path"),
                       "; a Transformer is read only from the folder itself"));
    }
    if (i == 1) {
      ASSIGN_OR_RETURN(config.pooling, ReadPoolingKind(checkpoint, path));
    }
  }
  if (modules.size() < 2) {
    // A Transformer alone yields token vectors.
    config.pooling = PoolingKind::kNone;
  }
  config.normalize = modules.size() == std::size(kOrder);
  return absl::OkStatus();
}

absl::Status ReadTextSettings(const Checkpoint& checkpoint, SentenceConfig& config) {
  ASSIGN_OR_RETURN(const std::optional<JsonObject> bert,
                   ReadObject(checkpoint, "sentence_bert_config.json"));
  if (bert) {
    ASSIGN_OR_RETURN(const bool lower, bert->Bool("do_lower_case", false));
    if (lower) {
      return absl::UnimplementedError(absl::StrCat(
          bert->Name("do_lower_case"), " is true; only what the tokenizer does to case is built"));
    }
    if (bert->Has("max_seq_length")) {
      ASSIGN_OR_RETURN(config.max_tokens, bert->Int("max_seq_length", 1, 1 << 24));
    }
  }
  ASSIGN_OR_RETURN(const std::optional<JsonObject> json,
                   ReadObject(checkpoint, "config_sentence_transformers.json"));
  if (!json) return absl::OkStatus();
  ASSIGN_OR_RETURN(config.prompts, json->StringMap("prompts"));
  ASSIGN_OR_RETURN(config.default_prompt_name, json->String("default_prompt_name", ""));
  if (!config.default_prompt_name.empty() && !config.prompts.contains(config.default_prompt_name)) {
    return absl::InvalidArgumentError(absl::StrCat(json->Name("default_prompt_name"), " is ",
                                                   json->Text("default_prompt_name"),
                                                   ", which is none of the prompts"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentenceConfig> ReadSentenceConfig(const Checkpoint& checkpoint) {
  SentenceConfig config;
  ASSIGN_OR_RETURN(const std::optional<std::string> text, checkpoint.ReadFile("modules.json"));
  if (!text) return config;
  ASSIGN_OR_RETURN(const std::vector<JsonObject> modules,
                   JsonObject::ParseArray("modules.json", *text));
  RETURN_IF_ERROR(ReadModules(checkpoint, modules, config));
  RETURN_IF_ERROR(ReadTextSettings(checkpoint, config));
  return config;
}

void Pool(PoolingKind kind, ConstMatrix tokens, Matrix out) {
  CHECK_GE(tokens.rows, 1);
  const auto copy_row = [&](int64_t from, int64_t to) {
    std::copy_n(tokens.row(from), tokens.cols, out.row(to));
  };
  switch (kind) {
    case PoolingKind::kCls:
      copy_row(0, 0);
      return;
    case PoolingKind::kLastToken:
      copy_row(tokens.rows - 1, 0);
      return;
    case PoolingKind::kNone:
      for (int64_t i = 0; i < tokens.rows; ++i) copy_row(i, i);
      return;
    case PoolingKind::kMax:
      copy_row(0, 0);
      for (int64_t i = 1; i < tokens.rows; ++i) {
        for (int64_t j = 0; j < tokens.cols; ++j) {
          out.data[j] = std::max(out.data[j], tokens.row(i)[j]);
        }
      }
      return;
    case PoolingKind::kMean:
      copy_row(0, 0);
      for (int64_t i = 1; i < tokens.rows; ++i) {
        for (int64_t j = 0; j < tokens.cols; ++j) out.data[j] += tokens.row(i)[j];
      }
      for (int64_t j = 0; j < tokens.cols; ++j) out.data[j] /= static_cast<float>(tokens.rows);
      return;
  }
}

}  // namespace attendant::engine
