#include "engine/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/model/architecture.h"
#include "engine/model/json_object.h"

namespace attendant::engine {
namespace {

// Bounds far beyond the models there are, and tight enough that no product of two sizes and a
// step's number of tokens overflows, and that no lie in a config asks for memory without end.
constexpr int32_t kMaxVocabSize = 1 << 22;
constexpr int32_t kMaxHiddenSize = 1 << 16;
constexpr int32_t kMaxIntermediateSize = 1 << 18;
constexpr int32_t kMaxLayers = 1 << 10;
constexpr int32_t kMaxHeads = 1 << 10;
constexpr int32_t kMaxHeadDim = 1 << 10;
constexpr int32_t kMaxPositions = 1 << 24;
constexpr int32_t kMaxTypes = 1 << 16;
constexpr int32_t kMaxLabels = 1 << 16;
constexpr int32_t kMaxImageSide = 1 << 14;
constexpr int32_t kMaxPatchSide = 1 << 10;
constexpr float kMaxRopeTheta = 1e12f;
constexpr float kMaxRopeFactor = 1e6f;
constexpr int32_t kMaxRelativeBuckets = 1 << 12;

// Of the tables that are computed and not read, so that no file is there to be as large as they.
constexpr int64_t kMaxTableValues = int64_t{1} << 26;

// The first of the keys, parted by '|', that config.json has, or the last.
absl::string_view FindKey(const JsonObject& json, absl::string_view keys) {
  absl::string_view found;
  for (absl::string_view key : absl::StrSplit(keys, '|')) {
    found = key;
    if (json.Has(key)) break;
  }
  return found;
}

absl::StatusOr<Activation> ReadActivation(const JsonObject& json, absl::string_view key,
                                          absl::string_view fallback) {
  struct NamedActivation {
    absl::string_view name;
    Activation activation;
  };
  static constexpr NamedActivation kActivations[] = {
      {"gelu", Activation::kGeluErf},
      {"gelu_python", Activation::kGeluErf},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
  };
  std::optional<std::string> absent;
  if (!fallback.empty()) absent = std::string(fallback);
  ASSIGN_OR_RETURN(const std::string name, json.String(key, absent));
  for (const NamedActivation& known : kActivations) {
    if (known.name == name) return known.activation;
  }
  return absl::UnimplementedError(absl::StrCat(
      json.Name(key), " is ", json.Text(key), ", an activation that is not built; gelu, gelu_new, ",
      "gelu_fast, gelu_pytorch_tanh, relu and silu are"));
}

absl::Status ReadRopeScaling(const JsonObject& json, ModelConfig& config) {
  // Older files say "type", newer ones "rope_type".
  const absl::string_view key = json.Has("rope_type") ? "rope_type" : "type";
  ASSIGN_OR_RETURN(const std::string kind, json.String(key, "default"));
  RopeScaling& scaling = config.rope_scaling;
  if (kind == "default") return absl::OkStatus();
  if (kind != "linear" && kind != "llama3") {
    return absl::UnimplementedError(absl::StrCat(json.Name(key), " is ", json.Text(key),
                                                 "; default, linear and llama3 are built"));
  }
  ASSIGN_OR_RETURN(scaling.factor, json.PositiveNumber("factor", kMaxRopeFactor));
  scaling.kind = RopeScaling::Kind::kLinear;
  if (kind == "linear") return absl::OkStatus();

  scaling.kind = RopeScaling::Kind::kLlama3;
  ASSIGN_OR_RETURN(scaling.low_freq_factor, json.PositiveNumber("low_freq_factor", kMaxRopeFactor));
  ASSIGN_OR_RETURN(scaling.high_freq_factor,
                   json.PositiveNumber("high_freq_factor", kMaxRopeFactor));
  ASSIGN_OR_RETURN(scaling.original_max_position_embeddings,
                   json.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return absl::InvalidArgumentError(
        absl::StrCat(json.Name("high_freq_factor"), " is ", scaling.high_freq_factor,
                     "; it must exceed low_freq_factor, ", scaling.low_freq_factor));
  }
  return absl::OkStatus();
}

// rope_theta and rope_scaling, or both in rope_parameters, as transformers 5 writes them.
absl::Status ReadRotary(const JsonObject& json, ModelConfig& config) {
  std::optional<JsonObject> scaling;
  for (absl::string_view key : {"rope_parameters", "rope_scaling"}) {
    if (scaling || !json.Has(key)) continue;
    ASSIGN_OR_RETURN(scaling, json.Object(key));
  }
  if (scaling) RETURN_IF_ERROR(ReadRopeScaling(*scaling, config));

  const JsonObject& theta_json = scaling && scaling->Has("rope_theta") ? *scaling : json;
  ASSIGN_OR_RETURN(config.rope_theta,
                   theta_json.PositiveNumber("rope_theta", kMaxRopeTheta, config.rope_theta));

  const JsonObject& partial = scaling && scaling->Has("partial_rotary_factor") ? *scaling : json;
  ASSIGN_OR_RETURN(const float rotary_part, partial.PositiveNumber("partial_rotary_factor", 1, 1));
  if (rotary_part != 1) {
    return absl::UnimplementedError(absl::StrCat(partial.Name("partial_rotary_factor"), " is ",
                                                 rotary_part, "; only 1 is built"));
  }
  if (config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(json.Name("head_dim"), " is ", config.head_dim,
                                                   "; rotary positions need an even one"));
  }
  return absl::OkStatus();
}

// feed_forward_proj says two things at once: "gated-gelu", whose activation is gelu_new, or "relu".
absl::Status ReadFeedForward(const JsonObject& json, const ArchitectureSpec& spec,
                             ModelConfig& config) {
  if (spec.feed_forward != FeedForwardKind::kConfig) {
    config.gated_feed_forward = spec.feed_forward == FeedForwardKind::kGated;
    ASSIGN_OR_RETURN(config.activation,
                     ReadActivation(json, spec.config_keys.activation, spec.activation));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string kind, json.String("feed_forward_proj", "relu"));
  if (kind != "relu" && kind != "gated-gelu") {
    return absl::UnimplementedError(absl::StrCat(json.Name("feed_forward_proj"), " is ",
                                                 json.Text("feed_forward_proj"),
                                                 "; relu and gated-gelu are built"));
  }
  config.gated_feed_forward = kind == "gated-gelu";
  config.activation = config.gated_feed_forward ? Activation::kGeluTanh : Activation::kRelu;
  return absl::OkStatus();
}

// The distances and buckets of a relative bias.
absl::Status ReadRelativeBias(const JsonObject& json, const ArchitectureSpec& spec,
                              ModelConfig& config) {
  if (!spec.Has(WeightRole::kRelativeBias)) return absl::OkStatus();
  ASSIGN_OR_RETURN(config.relative_attention_num_buckets,
                   json.Int("relative_attention_num_buckets", 4, kMaxRelativeBuckets, 32));
  ASSIGN_OR_RETURN(config.relative_attention_max_distance,
                   json.Int("relative_attention_max_distance", 2, kMaxPositions, 128));
  // Beyond exact distances, buckets grow with the logarithm of distance over their number.
  if (config.relative_attention_max_distance <= config.relative_attention_num_buckets / 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(json.Name("relative_attention_max_distance"), " is ",
                     config.relative_attention_max_distance,
                     "; it must exceed half of relative_attention_num_buckets, ",
                     config.relative_attention_num_buckets));
  }
  return absl::OkStatus();
}

// Bounds the tables that are computed from the sizes alone.
absl::Status CheckTables(const JsonObject& json, const ArchitectureSpec& spec,
                         const ModelConfig& config) {
  int64_t values_a_position = 0;
  if (spec.position == PositionKind::kSinusoidal) values_a_position = config.hidden_size;
  if (spec.Has(WeightRole::kRelativeBias)) values_a_position = 2 * config.num_attention_heads;
  if (values_a_position * config.max_position_embeddings <= kMaxTableValues) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(json.Name(FindKey(json, spec.config_keys.max_position_embeddings)), " is ",
                   config.max_position_embeddings, "; the table of positions may have ",
                   kMaxTableValues / values_a_position, " rows at this width"));
}

// id2label names the labels by their numbers, which are all of 0 to n - 1; without it there are
// num_labels of them, two if nothing is said.
absl::Status ReadLabels(const JsonObject& json, ModelConfig& config) {
  using Names = std::map<std::string, std::string>;
  ASSIGN_OR_RETURN(const Names names, json.StringMap("id2label"));
  if (names.empty()) {
    ASSIGN_OR_RETURN(const int32_t count, json.Int("num_labels", 1, kMaxLabels, 2));
    for (int32_t i = 0; i < count; ++i) config.labels.push_back(absl::StrCat("LABEL_", i));
    return absl::OkStatus();
  }
  if (names.size() > kMaxLabels) {
    return absl::InvalidArgumentError(absl::StrCat(json.Name("id2label"), " has ", names.size(),
                                                   " entries; at most ", kMaxLabels));
  }
  config.labels.resize(names.size());
  std::vector<bool> is_named(names.size(), false);
  for (const auto& [number, name] : names) {
    size_t index = 0;
    if (!absl::SimpleAtoi(number, &index) || index >= names.size() || is_named[index]) {
      return absl::InvalidArgumentError(absl::StrCat(json.Name("id2label"), " names the label \"",
                                                     absl::CEscape(number), "\"; its ",
                                                     names.size(), " labels are numbered from 0"));
    }
    is_named[index] = true;
    config.labels[index] = name;
  }
  return absl::OkStatus();
}

absl::Status ReadProblemType(const JsonObject& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const std::string type, json.String("problem_type", ""));
  if (type.empty()) return absl::OkStatus();
  if (type == "regression") {
    config.problem_type = ProblemType::kRegression;
  } else if (type == "single_label_classification") {
    config.problem_type = ProblemType::kSingleLabel;
  } else if (type == "multi_label_classification") {
    config.problem_type = ProblemType::kMultiLabel;
  } else {
    return absl::UnimplementedError(
        absl::StrCat(json.Name("problem_type"), " is ", json.Text("problem_type"),
                     "; regression, single_label_classification and multi_label_classification are "
                     "built"));
  }
  return absl::OkStatus();
}

// What sentence-transformers puts on a cross-encoder's one logit: a sigmoid, or nothing.
absl::Status ReadRankActivation(const JsonObject& json, ModelConfig& config) {
  absl::string_view key = "sbert_ce_default_activation_function";
  std::string name;
  if (json.Has("sentence_transformers")) {
    key = "sentence_transformers.activation_fn";
    ASSIGN_OR_RETURN(const JsonObject settings, json.Object("sentence_transformers"));
    ASSIGN_OR_RETURN(name, settings.String("activation_fn", ""));
  } else {
    ASSIGN_OR_RETURN(name, json.String(key, ""));
  }
  if (absl::EndsWith(name, ".Identity")) {
    config.raw_rank_scores = true;
  } else if (!name.empty() && !absl::EndsWith(name, ".Sigmoid")) {
    return absl::UnimplementedError(absl::StrCat(
        json.Name(key), " is ", absl::CEscape(name.substr(0, 100)),
        "; torch.nn.modules.activation.Sigmoid and torch.nn.modules.linear.Identity are built"));
  }
  return absl::OkStatus();
}

absl::Status ReadTokens(const JsonObject& json, const ArchitectureSpec& spec, ModelConfig& config) {
  const ConfigKeys& keys = spec.config_keys;
  ASSIGN_OR_RETURN(config.vocab_size, json.Int(FindKey(json, keys.vocab_size), 1, kMaxVocabSize));
  std::optional<int32_t> positions;
  if (spec.max_position_embeddings > 0) positions = spec.max_position_embeddings;
  ASSIGN_OR_RETURN(
      config.max_position_embeddings,
      json.Int(FindKey(json, keys.max_position_embeddings), 1, kMaxPositions, positions));
  if (spec.counts_position_offset) {
    if (config.max_position_embeddings <= spec.position_offset) {
      return absl::InvalidArgumentError(
          absl::StrCat(json.Name(FindKey(json, keys.max_position_embeddings)), " is ",
                       config.max_position_embeddings, "; more than ", spec.position_offset,
                       ", the positions that no token has"));
    }
    config.max_position_embeddings -= spec.position_offset;
  }
  return absl::OkStatus();
}

// Height and width: a number for both, or the two of them.
absl::Status ReadSides(const JsonObject& json, absl::string_view key, int32_t maximum,
                       int32_t fallback, int32_t& height, int32_t& width) {
  if (!json.Text(key).starts_with('[')) {
    ASSIGN_OR_RETURN(height, json.Int(key, 1, maximum, fallback));
    width = height;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<float> sides, json.Numbers(key));
  const bool good = sides.size() == 2 && std::all_of(sides.begin(), sides.end(), [&](float side) {
                      return side >= 1 && side <= maximum && side == std::floor(side);
                    });
  if (!good) {
    return absl::InvalidArgumentError(absl::StrCat(json.Name(key), " is ", json.Text(key),
                                                   "; expected height and width, from 1 to ",
                                                   maximum));
  }
  height = static_cast<int32_t>(sides[0]);
  width = static_cast<int32_t>(sides[1]);
  return absl::OkStatus();
}

absl::Status ReadImages(const JsonObject& json, const ArchitectureSpec& spec, ModelConfig& config) {
  RETURN_IF_ERROR(
      ReadSides(json, "image_size", kMaxImageSide, 224, config.image_height, config.image_width));
  RETURN_IF_ERROR(
      ReadSides(json, "patch_size", kMaxPatchSide, 16, config.patch_height, config.patch_width));
  if (config.num_patches() < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        json.Name("patch_size"), " is ", config.patch_height, " x ", config.patch_width,
        "; images have ", config.image_height, " x ", config.image_width, " pixels"));
  }
  config.max_position_embeddings =
      config.num_patches() + (spec.Has(WeightRole::kDistillationToken) ? 2 : 1);
  return absl::OkStatus();
}

absl::Status CheckDivides(const JsonObject& json, absl::string_view divisor_key, int32_t divisor,
                          absl::string_view key, int32_t value) {
  if (value % divisor == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(json.Name(divisor_key), " is ", divisor,
                                                 ", which does not divide ", key, ", ", value));
}

absl::Status CheckFixedSettings(const JsonObject& json, const ArchitectureSpec& spec) {
  for (const FixedSetting& setting : spec.fixed_settings) {
    const std::string value = json.Text(setting.key);
    if (value.empty() || value == setting.json_value) continue;
    return absl::UnimplementedError(absl::StrCat(json.Name(setting.key), " is ", value, "; for ",
                                                 spec.model_type, " only ", setting.json_value,
                                                 " is built"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view config_json) {
  ASSIGN_OR_RETURN(const JsonObject json, JsonObject::Parse("config.json", config_json));
  ASSIGN_OR_RETURN(const std::string model_type, json.String("model_type"));
  ASSIGN_OR_RETURN(const ArchitectureSpec* spec, FindArchitecture(model_type));
  return ReadModelConfig(config_json, *spec);
}

absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view config_json,
                                            const ArchitectureSpec& spec) {
  ASSIGN_OR_RETURN(const JsonObject json, JsonObject::Parse("config.json", config_json));
  ModelConfig config;
  ASSIGN_OR_RETURN(config.model_type, json.String("model_type"));
  RETURN_IF_ERROR(CheckFixedSettings(json, spec));
  ASSIGN_OR_RETURN(config.architectures, json.Strings("architectures"));

  const ConfigKeys& keys = spec.config_keys;
  const absl::string_view heads_key = FindKey(json, keys.num_attention_heads);
  const absl::string_view hidden_key = FindKey(json, keys.hidden_size);
  if (spec.Has(WeightRole::kPatchEmbedding)) {
    RETURN_IF_ERROR(ReadImages(json, spec, config));
  } else {
    RETURN_IF_ERROR(ReadTokens(json, spec, config));
  }
  ASSIGN_OR_RETURN(config.hidden_size, json.Int(hidden_key, 1, kMaxHiddenSize));
  ASSIGN_OR_RETURN(config.num_hidden_layers,
                   json.Int(FindKey(json, keys.num_hidden_layers), 1, kMaxLayers));
  ASSIGN_OR_RETURN(config.num_attention_heads, json.Int(heads_key, 1, kMaxHeads));
  ASSIGN_OR_RETURN(config.embedding_size,
                   json.Int(keys.embedding_size, 1, kMaxHiddenSize, config.hidden_size));
  ASSIGN_OR_RETURN(
      config.num_hidden_groups,
      json.Int(keys.num_hidden_groups, 1, config.num_hidden_layers,
               spec.Has(WeightRole::kEmbeddingProjection) ? 1 : config.num_hidden_layers));
  // GPT-2's n_inner is null for the usual four times the width.
  ASSIGN_OR_RETURN(config.intermediate_size,
                   json.Int(FindKey(json, keys.intermediate_size), 1, kMaxIntermediateSize,
                            4 * config.hidden_size));
  std::optional<float> norm_eps;
  if (spec.norm_eps > 0) norm_eps = spec.norm_eps;
  ASSIGN_OR_RETURN(config.norm_eps, json.PositiveNumber(keys.norm_eps, 1, norm_eps));
  RETURN_IF_ERROR(ReadFeedForward(json, spec, config));
  RETURN_IF_ERROR(ReadRelativeBias(json, spec, config));
  RETURN_IF_ERROR(CheckTables(json, spec, config));
  config.norm_first = spec.norm_placement == NormPlacement::kPre;
  if (spec.norm_placement == NormPlacement::kConfig) {
    ASSIGN_OR_RETURN(config.norm_first, json.Bool("norm_first", false));
  }
  ASSIGN_OR_RETURN(config.tie_word_embeddings,
                   json.Bool("tie_word_embeddings", spec.tie_word_embeddings));
  ASSIGN_OR_RETURN(config.scale_embedding, json.Bool("scale_embedding", spec.scale_embedding));
  if (spec.scale_tied_logits) {
    // Newer files tie always, and say apart whether to scale.
    ASSIGN_OR_RETURN(config.scale_logits,
                     json.Bool("scale_decoder_outputs", config.tie_word_embeddings));
  }
  if (spec.Has(WeightRole::kTypeEmbedding)) {
    ASSIGN_OR_RETURN(config.type_vocab_size, json.Int("type_vocab_size", 1, kMaxTypes));
  }
  if (spec.stack == Stack::kEncoder) {
    RETURN_IF_ERROR(ReadLabels(json, config));
    RETURN_IF_ERROR(ReadProblemType(json, config));
    RETURN_IF_ERROR(ReadRankActivation(json, config));
  }
  if (spec.bias == BiasKind::kConfig) {
    ASSIGN_OR_RETURN(config.attention_bias, json.Bool("attention_bias", false));
    ASSIGN_OR_RETURN(config.mlp_bias, json.Bool("mlp_bias", false));
  }

  if (!json.Has(keys.head_dim)) {
    RETURN_IF_ERROR(
        CheckDivides(json, heads_key, config.num_attention_heads, hidden_key, config.hidden_size));
  }
  ASSIGN_OR_RETURN(config.head_dim, json.Int(keys.head_dim, 1, kMaxHeadDim,
                                             config.hidden_size / config.num_attention_heads));
  ASSIGN_OR_RETURN(config.num_key_value_heads,
                   json.Int(keys.num_key_value_heads, 1, kMaxHeads, config.num_attention_heads));
  RETURN_IF_ERROR(CheckDivides(json, keys.num_key_value_heads, config.num_key_value_heads,
                               heads_key, config.num_attention_heads));
  if (spec.position == PositionKind::kRotary) RETURN_IF_ERROR(ReadRotary(json, config));
  return config;
}

}  // namespace attendant::engine
