#include "engine/model/model_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/quantized_matrix.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/quantized_weights.h"
#include "engine/model/position_tables.h"

namespace attendant::engine {
namespace {

// out [cols, rows] = in [rows, cols], in squares that stay in the cache.
void Transpose(const float* in, int64_t rows, int64_t cols, float* out) {
  constexpr int64_t kSquare = 32;
  for (int64_t r0 = 0; r0 < rows; r0 += kSquare) {
    for (int64_t c0 = 0; c0 < cols; c0 += kSquare) {
      for (int64_t r = r0; r < std::min(rows, r0 + kSquare); ++r) {
        for (int64_t c = c0; c < std::min(cols, c0 + kSquare); ++c) {
          out[c * rows + r] = in[r * cols + c];
        }
      }
    }
  }
}

// True if none is infinite or NaN: x * 0 is 0 for all others, and NaN spreads through a sum.
bool AllFinite(absl::Span<const float> values) {
  float sum = 0;
  for (float value : values) sum += value * 0.0f;
  return sum == 0;
}

bool SavedFrom(const ModelConfig& config, absl::string_view class_part) {
  return std::any_of(config.architectures.begin(), config.architectures.end(),
                     [&](const std::string& name) { return absl::StrContains(name, class_part); });
}

// The tensor of a name in a table of WeightNames; `suffix` is "weight" or "bias".
std::string TensorName(absl::string_view name, absl::string_view suffix) {
  return absl::StrCat(name, absl::EndsWith(name, "_") ? "" : ".", suffix);
}

// Of the names that `role` may have, each behind each prefix, the first that has weights in the
// checkpoint; the very first if none has.
std::string FindName(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                     absl::Span<const absl::string_view> prefixes, WeightRole role,
                     int32_t layer = 0) {
  std::string first;
  for (const WeightName& weight : spec.weight_names) {
    if (weight.role != role) continue;
    for (absl::string_view prefix : prefixes) {
      std::string name =
          absl::StrReplaceAll(absl::StrCat(prefix, weight.name), {{"{}", absl::StrCat(layer)}});
      if (checkpoint.TensorShape(TensorName(name, "weight"))) return name;
      if (first.empty()) first = std::move(name);
    }
  }
  return first;
}

// Heads stand beside the stack, without its prefix.
std::string FindHeadName(const Checkpoint& checkpoint, const ArchitectureSpec& spec) {
  return FindName(checkpoint, spec, {""}, WeightRole::kLanguageModelHead);
}

// A model saved from the head's class must have the head; others may.
bool HasLanguageModelHead(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                          const ModelConfig& config) {
  if (!spec.Has(WeightRole::kLanguageModelHead)) return false;
  return config.tie_word_embeddings || SavedFrom(config, spec.language_model_class) ||
         checkpoint.TensorShape(TensorName(FindHeadName(checkpoint, spec), "weight")).has_value();
}

// What the checkpoint calls a tensor that a head reads: `name` with `suffix`, behind the prefix if
// it belongs to the stack, as the pooler does.
std::string HeadTensorName(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                           absl::string_view name, absl::string_view suffix = "") {
  const std::string prefixed = absl::StrCat(spec.prefix, name, suffix);
  return checkpoint.TensorShape(prefixed) ? prefixed : absl::StrCat(name, suffix);
}

bool HasHead(const Checkpoint& checkpoint, const ArchitectureSpec& spec, const ModelConfig& config,
             const HeadSpec& head) {
  return checkpoint.TensorShape(HeadTensorName(checkpoint, spec, head.tensor)).has_value() &&
         (head.class_part.empty() || SavedFrom(config, head.class_part));
}

struct EmbeddingOptions {
  int64_t first_row = 0;  // rows before it are dropped
  float scale = 1.0f;
};

// Walks over the tensors of a model in a fixed order. The same walk is taken twice: with kCheck it
// only compares names and shapes and counts; with kPack it reads; with kTake it reads all but the
// matrices, which the cache has packed.
class WeightReader {
 public:
  enum class Mode : uint8_t { kCheck, kPack, kTake };

  WeightReader(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
               const ModelConfig& config, const LoadWeightsOptions& options, KernelContext& context,
               PackedCache* cache)
      : checkpoint_(checkpoint),
        spec_(spec),
        config_(config),
        options_(options),
        context_(context),
        cache_(cache),
        prefixes_(FindPrefixes(checkpoint, spec)) {}

  absl::StatusOr<ModelWeights> Walk(Mode mode, const std::function<void(double)>& progress) {
    mode_ = mode;
    progress_ = progress;
    num_elements_of_all_ = std::exchange(num_elements_, 0);
    weights_ = ModelWeights();
    RETURN_IF_ERROR(ReadEmbeddings());
    weights_.layers.resize(config_.num_hidden_groups);
    for (int32_t layer = 0; layer < config_.num_hidden_groups; ++layer) {
      RETURN_IF_ERROR(ReadLayer(layer, weights_.layers[layer]));
    }
    if (Has(WeightRole::kFinalNorm)) {
      ASSIGN_OR_RETURN(weights_.final_norm, ReadNorm(NameOf(WeightRole::kFinalNorm)));
    }
    RETURN_IF_ERROR(ReadLanguageModelHead());
    for (const HeadSpec& head : spec_.heads) {
      if (!head.kind || !HasHead(checkpoint_, spec_, config_, head)) continue;
      ASSIGN_OR_RETURN(HeadWeights weights, ReadHead(head));
      weights_.heads.push_back(std::move(weights));
    }
    return std::move(weights_);
  }

 private:
  // A part of a linear layer: so many rows, from one tensor.
  struct LinearPart {
    WeightRole role;
    int64_t out_features;
  };

  // Checkpoints of a bare model lack the prefix that those of a task have. The form that names the
  // embeddings comes first.
  static std::array<absl::string_view, 2> FindPrefixes(const Checkpoint& checkpoint,
                                                       const ArchitectureSpec& spec) {
    const WeightRole embedding = spec.Has(WeightRole::kPatchEmbedding)
                                     ? WeightRole::kPatchEmbedding
                                     : WeightRole::kTokenEmbedding;
    const std::string bare = FindName(checkpoint, spec, {""}, embedding);
    if (checkpoint.TensorShape(TensorName(bare, "weight"))) return {"", spec.prefix};
    return {spec.prefix, ""};
  }

  std::string NameOf(WeightRole role, int32_t layer = 0) const {
    return FindName(checkpoint_, spec_, prefixes_, role, layer);
  }

  // The tensor of a role whose names are those of whole tensors, if the checkpoint has it.
  std::optional<std::string> FindTensor(WeightRole role) const {
    for (const WeightName& weight : spec_.weight_names) {
      if (weight.role != role) continue;
      for (absl::string_view prefix : {absl::string_view(), spec_.prefix}) {
        std::string name = absl::StrCat(prefix, weight.name);
        if (checkpoint_.TensorShape(name)) return name;
      }
    }
    return std::nullopt;
  }

  bool IsStored(WeightRole role) const {
    return checkpoint_.TensorShape(TensorName(NameOf(role), "weight")).has_value();
  }

  // Whether the model has these weights; where they are optional, whether this checkpoint does.
  bool Has(WeightRole role) const {
    if (!spec_.Has(role)) return false;
    const bool optional = std::any_of(
        spec_.weight_names.begin(), spec_.weight_names.end(),
        [&](const WeightName& weight) { return weight.role == role && weight.optional; });
    return !optional || IsStored(role);
  }

  bool HasBias(const std::string& name, bool by_config) const {
    switch (spec_.bias) {
      case BiasKind::kNever:
        return false;
      case BiasKind::kAlways:
        return true;
      case BiasKind::kConfig:
        return by_config;
      case BiasKind::kStored:
        return checkpoint_.TensorShape(TensorName(name, "bias")).has_value();
    }
    return true;
  }

  absl::Status ReadEmbeddings() {
    if (spec_.Has(WeightRole::kPatchEmbedding)) return ReadImageEmbeddings();
    const float scale =
        config_.scale_embedding ? std::sqrt(static_cast<float>(config_.hidden_size)) : 1.0f;
    ASSIGN_OR_RETURN(weights_.token_embedding, ReadTokenEmbedding(scale));
    // The small tables stay exact: they cost little, and are added to every token.
    if (Has(WeightRole::kPositionEmbedding)) {
      ASSIGN_OR_RETURN(
          weights_.position_embedding,
          ReadEmbedding(WeightRole::kPositionEmbedding, config_.max_position_embeddings,
                        DataType::kFloat32, {.first_row = spec_.position_offset}));
    } else if (spec_.position == PositionKind::kSinusoidal) {
      ASSIGN_OR_RETURN(weights_.position_embedding, ReadOrComputePositions());
    }
    if (spec_.Has(WeightRole::kRelativeBias)) RETURN_IF_ERROR(ReadRelativeBias());
    if (spec_.Has(WeightRole::kTypeEmbedding)) {
      ASSIGN_OR_RETURN(
          weights_.type_embedding,
          ReadEmbedding(WeightRole::kTypeEmbedding, config_.type_vocab_size, DataType::kFloat32));
    }
    if (spec_.Has(WeightRole::kEmbeddingNorm)) {
      ASSIGN_OR_RETURN(weights_.embedding_norm,
                       ReadNorm(NameOf(WeightRole::kEmbeddingNorm), config_.embedding_size));
    }
    if (spec_.Has(WeightRole::kEmbeddingProjection)) {
      ASSIGN_OR_RETURN(weights_.embedding_projection,
                       ReadLinear(0, {{WeightRole::kEmbeddingProjection, config_.hidden_size}},
                                  config_.embedding_size, /*has_bias=*/true, Activation::kNone));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<EmbeddingTable> ReadTokenEmbedding(float scale) {
    const std::string name = TensorName(NameOf(WeightRole::kTokenEmbedding), "weight");
    head_is_shared_ = HeadIsTied() && !config_.scale_logits && BitsOf(TypeOf({name}, true)) != 0 &&
                      config_.embedding_size == config_.hidden_size;
    if (!head_is_shared_ && !KeepsQuantized({name}, /*is_head=*/true)) {
      return ReadEmbedding(WeightRole::kTokenEmbedding, config_.vocab_size,
                           ActivationType(options_.dtype), {.scale = scale});
    }
    BeginMatrix();
    RETURN_IF_ERROR(ReadRows({{name, config_.vocab_size}}, config_.embedding_size,
                             /*is_head=*/true));
    if (mode_ == Mode::kCheck) return EmbeddingTable();
    ASSIGN_OR_RETURN(embeddings_,
                     PackQuantized(name, 0, config_.vocab_size, config_.embedding_size));
    weights_.packed_bytes += static_cast<int64_t>(embeddings_->size_bytes());
    return EmbeddingTable(embeddings_, scale);
  }

  // Whether the language-model head is the token embeddings.
  bool HeadIsTied() const {
    return HasLanguageModelHead(checkpoint_, spec_, config_) && config_.tie_word_embeddings &&
           !checkpoint_.TensorShape(TensorName(FindHeadName(checkpoint_, spec_), "weight"));
  }

  // A convolution whose windows do not overlap is a linear layer on each.
  absl::Status ReadImageEmbeddings() {
    const int64_t hidden = config_.hidden_size;
    const int64_t patch_values = int64_t{3} * config_.patch_height * config_.patch_width;
    const std::string name = NameOf(WeightRole::kPatchEmbedding);
    BeginMatrix();
    RETURN_IF_ERROR(ReadMatrixTensor(TensorName(name, "weight"),
                                     {hidden, 3, config_.patch_height, config_.patch_width},
                                     matrix_));
    RETURN_IF_ERROR(ReadTensor(TensorName(name, "bias"), {hidden}, bias_));
    ASSIGN_OR_RETURN(weights_.patch_embedding,
                     Pack(name, 0, hidden, patch_values, Activation::kNone));

    matrix_.clear();
    int64_t num_tokens = 0;
    for (WeightRole role : {WeightRole::kClassToken, WeightRole::kDistillationToken}) {
      if (!spec_.Has(role)) continue;
      RETURN_IF_ERROR(ReadMatrixTensor(NameOf(role), {1, 1, hidden}, matrix_));
      ++num_tokens;
    }
    ASSIGN_OR_RETURN(weights_.token_embedding, PackTable(NameOf(WeightRole::kClassToken), 0,
                                                         num_tokens, hidden, DataType::kFloat32));
    matrix_.clear();
    const int64_t num_positions = config_.max_position_embeddings;
    const std::string positions = NameOf(WeightRole::kPositionEmbedding);
    RETURN_IF_ERROR(ReadMatrixTensor(positions, {1, num_positions, hidden}, matrix_));
    ASSIGN_OR_RETURN(weights_.position_embedding,
                     PackTable(positions, 0, num_positions, hidden, DataType::kFloat32));
    return absl::OkStatus();
  }

  absl::StatusOr<EmbeddingTable> ReadOrComputePositions() {
    const int64_t num_rows = config_.max_position_embeddings;
    const int64_t hidden = config_.hidden_size;
    std::string name = "sinusoidal positions";
    matrix_.clear();
    if (const std::optional<std::string> buffer = FindTensor(WeightRole::kPositionBuffer)) {
      name = *buffer;
      // Modules keep it as [rows, size], [1, rows, size] or [rows, 1, size], and longer than need
      // be.
      std::vector<int64_t> shape = checkpoint_.TensorShape(*buffer).value();
      const int64_t stored =
          shape.empty() ? 0 : std::max(shape[0], shape.size() == 3 ? shape[1] : 0);
      std::vector<int64_t> expected = {std::max(stored, num_rows), hidden};
      if (shape.size() == 3) expected.insert(expected.begin() + (shape[0] == 1 ? 0 : 1), 1);
      RETURN_IF_ERROR(ReadMatrixTensor(name, std::move(expected), matrix_));
    } else if (mode_ == Mode::kPack) {
      matrix_ = SinusoidalPositions(spec_.sinusoid, spec_.position_offset, num_rows, hidden);
    }
    return PackTable(name, 0, num_rows, hidden, DataType::kFloat32);
  }

  absl::Status ReadRelativeBias() {
    const int64_t num_buckets = config_.relative_attention_num_buckets;
    const int64_t num_heads = config_.num_attention_heads;
    matrix_.clear();
    RETURN_IF_ERROR(ReadTensor(TensorName(NameOf(WeightRole::kRelativeBias), "weight"),
                               {num_buckets, num_heads}, matrix_));
    if (mode_ == Mode::kCheck) return absl::OkStatus();
    weights_.relative_bias = RelativeBiasByDistance(
        ConstMatrix(matrix_.data(), num_buckets, num_heads), spec_.stack == Stack::kEncoder,
        config_.relative_attention_max_distance, config_.max_position_embeddings);
    weights_.packed_bytes += static_cast<int64_t>(weights_.relative_bias.size() * sizeof(float));
    return absl::OkStatus();
  }

  absl::Status ReadLayer(int32_t layer, LayerWeights& weights) {
    const int64_t hidden = config_.hidden_size;
    const int64_t query = int64_t{config_.num_attention_heads} * config_.head_dim;
    const int64_t key = int64_t{config_.num_key_value_heads} * config_.head_dim;
    const bool attention_bias = config_.attention_bias;
    const bool mlp_bias = config_.mlp_bias;

    std::vector<LinearPart> query_key_value = {
        {WeightRole::kQuery, query}, {WeightRole::kKey, key}, {WeightRole::kValue, key}};
    if (IsFused(WeightRole::kQueryKeyValue, WeightRole::kQuery, layer)) {
      query_key_value = {{WeightRole::kQueryKeyValue, query + 2 * key}};
    }
    ASSIGN_OR_RETURN(weights.query_key_value,
                     ReadLinear(layer, query_key_value, hidden, attention_bias, Activation::kNone));
    ASSIGN_OR_RETURN(weights.attention_output,
                     ReadLinear(layer, {{WeightRole::kAttentionOutput, hidden}}, query,
                                attention_bias, Activation::kNone));
    ASSIGN_OR_RETURN(weights.attention_norm, ReadNorm(NameOf(WeightRole::kAttentionNorm, layer)));
    if (spec_.encoder != nullptr) RETURN_IF_ERROR(ReadCross(layer, weights.cross.emplace()));

    const int64_t intermediate = config_.intermediate_size;
    if (config_.gated_feed_forward) {
      ASSIGN_OR_RETURN(
          weights.up,
          ReadLinear(layer, {{WeightRole::kGate, intermediate}, {WeightRole::kUp, intermediate}},
                     hidden, mlp_bias, Activation::kNone));
    } else {
      ASSIGN_OR_RETURN(weights.up, ReadLinear(layer, {{WeightRole::kUp, intermediate}}, hidden,
                                              mlp_bias, config_.activation));
    }
    ASSIGN_OR_RETURN(weights.down, ReadLinear(layer, {{WeightRole::kDown, hidden}}, intermediate,
                                              mlp_bias, Activation::kNone));
    ASSIGN_OR_RETURN(weights.feed_forward_norm,
                     ReadNorm(NameOf(WeightRole::kFeedForwardNorm, layer)));
    return absl::OkStatus();
  }

  // Whether the layer's queries, keys and values are in one tensor, where they may be in either.
  bool IsFused(WeightRole fused, WeightRole apart, int32_t layer) const {
    if (!spec_.Has(fused) || !spec_.Has(apart)) return spec_.Has(fused);
    return !checkpoint_.TensorShape(TensorName(NameOf(apart, layer), "weight")).has_value();
  }

  // Queries read the target, keys and values the source: two linear layers, though they may have
  // been stored as one.
  absl::Status ReadCross(int32_t layer, LayerWeights::Cross& cross) {
    const int64_t hidden = config_.hidden_size;
    const int64_t query = int64_t{config_.num_attention_heads} * config_.head_dim;
    const int64_t key = int64_t{config_.num_key_value_heads} * config_.head_dim;
    std::vector<LinearPart> parts = {{WeightRole::kCrossQuery, query},
                                     {WeightRole::kCrossKey, key},
                                     {WeightRole::kCrossValue, key}};
    if (IsFused(WeightRole::kCrossQueryKeyValue, WeightRole::kCrossQuery, layer)) {
      parts = {{WeightRole::kCrossQueryKeyValue, query + 2 * key}};
    }
    RETURN_IF_ERROR(Gather(layer, parts, hidden, config_.attention_bias));
    const std::string name = NameOf(parts.front().role, layer);
    ASSIGN_OR_RETURN(cross.query, Pack(name, 0, query, hidden, Activation::kNone));
    ASSIGN_OR_RETURN(cross.key_value, Pack(name, query, 2 * key, hidden, Activation::kNone));
    ASSIGN_OR_RETURN(cross.output, ReadLinear(layer, {{WeightRole::kCrossOutput, hidden}}, query,
                                              config_.attention_bias, Activation::kNone));
    ASSIGN_OR_RETURN(cross.norm, ReadNorm(NameOf(WeightRole::kCrossNorm, layer)));
    return absl::OkStatus();
  }

  absl::Status ReadLanguageModelHead() {
    if (!HasLanguageModelHead(checkpoint_, spec_, config_)) return absl::OkStatus();
    const std::string head = FindHeadName(checkpoint_, spec_);
    std::string name = TensorName(head, "weight");
    const bool tied = HeadIsTied();
    if (tied) name = TensorName(NameOf(WeightRole::kTokenEmbedding), "weight");
    BeginMatrix();
    if (head_is_shared_) {
      RETURN_IF_ERROR(ReadLogitsBias(TensorName(head, "bias")));
      weights_.language_model_head.emplace();
      if (mode_ == Mode::kCheck) return absl::OkStatus();
      ASSIGN_OR_RETURN(*weights_.language_model_head, Linear::Create(embeddings_, bias_, {}));
      return absl::OkStatus();
    }

    const int64_t num_parameters = weights_.num_parameters;
    RETURN_IF_ERROR(ReadRows({{name, config_.vocab_size}}, config_.hidden_size,
                             /*is_head=*/!config_.scale_logits));
    if (tied) weights_.num_parameters = num_parameters;
    if (config_.scale_logits) Scale(1.0f / std::sqrt(static_cast<float>(config_.hidden_size)));
    RETURN_IF_ERROR(ReadLogitsBias(TensorName(head, "bias")));
    ASSIGN_OR_RETURN(weights_.language_model_head,
                     Pack(name, 0, config_.vocab_size, config_.hidden_size, Activation::kNone));
    return absl::OkStatus();
  }

  // The head's own bias, or one that stands apart; both may be absent.
  absl::Status ReadLogitsBias(const std::string& own) {
    if (spec_.bias == BiasKind::kStored && checkpoint_.TensorShape(own)) {
      return ReadTensor(own, {config_.vocab_size}, bias_);
    }
    if (const std::optional<std::string> name = FindTensor(WeightRole::kLogitsBias)) {
      return ReadTensor(*name, {1, config_.vocab_size}, bias_);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<HeadWeights> ReadHead(const HeadSpec& spec) {
    HeadWeights head{.kind = *spec.kind};
    const bool is_masked_lm = spec.kind == HeadKind::kMaskedLanguageModel;
    const int64_t width = is_masked_lm ? config_.embedding_size : config_.hidden_size;
    if (!spec.transform.empty()) {
      Activation activation = config_.activation;
      if (spec.activation == HeadActivation::kGelu) activation = Activation::kGeluErf;
      if (spec.activation == HeadActivation::kRelu) activation = Activation::kRelu;
      if (spec.activation == HeadActivation::kTanh) activation = Activation::kNone;
      head.has_tanh = spec.activation == HeadActivation::kTanh;
      const std::string weight = HeadTensorName(checkpoint_, spec_, spec.transform, ".weight");
      const std::string bias = HeadTensorName(checkpoint_, spec_, spec.transform, ".bias");
      BeginMatrix();
      RETURN_IF_ERROR(ReadMatrixTensor(weight, {width, config_.hidden_size}, matrix_));
      RETURN_IF_ERROR(ReadTensor(bias, {width}, bias_));
      ASSIGN_OR_RETURN(head.transform, Pack(weight, 0, width, config_.hidden_size, activation));
    }
    if (!spec.norm.empty()) {
      ASSIGN_OR_RETURN(head.norm, ReadNorm(std::string(spec.norm), width));
    }
    if (spec.second_output.empty()) {
      ASSIGN_OR_RETURN(head.output, ReadHeadOutput(spec, width));
    } else {
      ASSIGN_OR_RETURN(head.output, ReadMeanOutput(spec, width));
    }
    return head;
  }

  // The mean of two outputs, of one token and of the next, is one output of the values of both.
  absl::StatusOr<Linear> ReadMeanOutput(const HeadSpec& spec, int64_t width) {
    const auto num_outputs = static_cast<int64_t>(config_.labels.size());
    BeginMatrix();
    std::vector<float> weights[2], biases[2];
    const absl::string_view names[] = {spec.output, spec.second_output};
    for (int i = 0; i < 2; ++i) {
      RETURN_IF_ERROR(
          ReadMatrixTensor(absl::StrCat(names[i], ".weight"), {num_outputs, width}, weights[i]));
      RETURN_IF_ERROR(ReadTensor(absl::StrCat(names[i], ".bias"), {num_outputs}, biases[i]));
    }
    for (int64_t row = 0; mode_ != Mode::kCheck && row < num_outputs; ++row) {
      bias_.push_back((biases[0][row] + biases[1][row]) / 2);
      if (mode_ == Mode::kTake) continue;
      for (const std::vector<float>& weight : weights) {
        for (int64_t i = 0; i < width; ++i) matrix_.push_back(weight[row * width + i] / 2);
      }
    }
    return Pack(std::string(spec.output), 0, num_outputs, 2 * width, Activation::kNone);
  }

  absl::StatusOr<Linear> ReadHeadOutput(const HeadSpec& spec, int64_t width) {
    int64_t num_outputs = static_cast<int64_t>(config_.labels.size());
    if (spec.kind == HeadKind::kMaskedLanguageModel) num_outputs = config_.vocab_size;
    if (spec.kind == HeadKind::kQuestionAnswering) num_outputs = 2;

    std::string weight = absl::StrCat(spec.output, ".weight");
    const bool tied = spec.kind == HeadKind::kMaskedLanguageModel && config_.tie_word_embeddings &&
                      !checkpoint_.TensorShape(weight);
    if (tied) weight = TensorName(NameOf(WeightRole::kTokenEmbedding), "weight");
    std::string bias = absl::StrCat(spec.output, ".bias");
    if (!spec.output_bias.empty() && checkpoint_.TensorShape(spec.output_bias)) {
      bias = std::string(spec.output_bias);
    }

    const int64_t num_parameters = weights_.num_parameters;
    BeginMatrix();
    RETURN_IF_ERROR(ReadMatrixTensor(weight, {num_outputs, width}, matrix_));
    if (tied) weights_.num_parameters = num_parameters;
    RETURN_IF_ERROR(ReadTensor(bias, {num_outputs}, bias_));
    return Pack(weight, 0, num_outputs, width, Activation::kNone);
  }

  absl::StatusOr<EmbeddingTable> ReadEmbedding(WeightRole role, int64_t num_rows, DataType dtype,
                                               const EmbeddingOptions& options = {}) {
    const int64_t size = config_.embedding_size;
    const std::string name = TensorName(NameOf(role), "weight");
    matrix_.clear();
    RETURN_IF_ERROR(ReadMatrixTensor(name, {options.first_row + num_rows, size}, matrix_));
    Scale(options.scale);
    return PackTable(name, options.first_row, num_rows, size, dtype);
  }

  // Rows [first, first + num_rows) of what was gathered.
  absl::StatusOr<EmbeddingTable> PackTable(const std::string& name, int64_t first, int64_t num_rows,
                                           int64_t size, DataType dtype) {
    if (mode_ == Mode::kCheck) return EmbeddingTable();
    ASSIGN_OR_RETURN(EmbeddingTable table,
                     TakeOrPack(
                         name, first,
                         [&](const PackedMatrix& packed) {
                           return EmbeddingTable::FromPacked(packed, num_rows, size, dtype);
                         },
                         [&]() -> absl::StatusOr<EmbeddingTable> {
                           return EmbeddingTable(Gathered(first, num_rows, size), dtype);
                         }));
    weights_.packed_bytes += static_cast<int64_t>(table.size_bytes());
    return table;
  }

  // Rows of what was gathered in floats.
  ConstMatrix Gathered(int64_t first, int64_t num_rows, int64_t size) const {
    return {matrix_.data() + first * size, num_rows, size};
  }

  // A Linear, QuantizedWeights or EmbeddingTable: `take` makes it of what the cache has, `pack` of
  // what was gathered.
  template <typename Take, typename Pack>
  std::invoke_result_t<Pack> TakeOrPack(absl::string_view name, int64_t first, const Take& take,
                                        const Pack& pack) {
    const std::string key =
        first == 0 ? std::string(name) : absl::StrCat(name, " from row ", first);
    if (mode_ == Mode::kTake) {
      ASSIGN_OR_RETURN(const PackedMatrix packed, cache_->Take(key));
      ReportProgress();
      return take(packed);
    }
    std::invoke_result_t<Pack> made = pack();
    if (made.ok() && cache_ != nullptr) cache_->Keep(key, made->packed());
    return made;
  }

  // Multiplies what was gathered in `matrix_`.
  void Scale(float factor) {
    if (factor == 1.0f) return;
    for (float& value : matrix_) value *= factor;
  }

  // Parts that read the same input lie below each other in one packed matrix.
  absl::StatusOr<Linear> ReadLinear(int32_t layer, absl::Span<const LinearPart> parts,
                                    int64_t in_features, bool has_bias, Activation activation) {
    RETURN_IF_ERROR(Gather(layer, parts, in_features, has_bias));
    int64_t out_features = 0;
    for (const LinearPart& part : parts) out_features += part.out_features;
    return Pack(NameOf(parts.front().role, layer), 0, out_features, in_features, activation);
  }

  // Gathers the parts' weights and their biases, if they have any.
  absl::Status Gather(int32_t layer, absl::Span<const LinearPart> parts, int64_t in_features,
                      bool has_bias) {
    BeginMatrix();
    std::vector<StoredRows> rows;
    for (const LinearPart& part : parts) {
      rows.push_back({TensorName(NameOf(part.role, layer), "weight"), part.out_features});
    }
    RETURN_IF_ERROR(ReadRows(rows, in_features, /*is_head=*/false));
    // Whether there is a bias is one question for all parts.
    if (!HasBias(NameOf(parts.front().role, layer), has_bias)) return absl::OkStatus();
    for (const LinearPart& part : parts) {
      const std::string name = TensorName(NameOf(part.role, layer), "bias");
      RETURN_IF_ERROR(ReadTensor(name, {part.out_features}, bias_));
    }
    return absl::OkStatus();
  }

  // A matrix of the checkpoint, and its rows.
  struct StoredRows {
    std::string name;
    int64_t rows;
  };

  static int BitsOf(DataType dtype) {
    return dtype == DataType::kInt8 ? 8 : dtype == DataType::kInt4 ? 4 : 0;
  }

  // What the matrix is packed in that the tensors `names` make.
  DataType TypeOf(const std::vector<std::string>& names, bool is_head) const {
    DataType type = options_.dtype;
    if (options_.as_stored) {
      for (const std::string& name : names) {
        if (checkpoint_.TensorQuantization(name)) type = DataType::kInt8;
      }
    }
    return is_head && type == DataType::kInt4 ? DataType::kInt8 : type;
  }

  // Whether most products of the model's layers are of many rows: of an encoder, and of the decoder
  // behind one, which has the beams of many translations at once.
  bool HasManyRows() const { return spec_.stack == Stack::kEncoder || spec_.encoder != nullptr; }

  // Whether that matrix is made of the integers that the checkpoint has.
  bool KeepsQuantized(const std::vector<std::string>& names, bool is_head) const {
    if (is_head ? config_.scale_logits : spec_.linear_layout != LinearLayout::kOutIn) return false;
    const std::optional<Checkpoint::Quantization> form =
        checkpoint_.TensorQuantization(names.front());
    const int most_bits = options_.as_stored ? 8 : BitsOf(TypeOf(names, is_head));
    return form && form->in_groups && form->bits <= most_bits &&
           std::all_of(names.begin(), names.end(), [&](const std::string& name) {
             return checkpoint_.TensorQuantization(name) == form;
           });
  }

  // Forgets what was gathered. What is gathered next is packed as a head is, unless ReadRows says
  // otherwise.
  void BeginMatrix() {
    matrix_.clear();
    bias_.clear();
    quantized_.reset();
    form_.reset();
    matrix_type_ = TypeOf({}, /*is_head=*/true);
    scale_per_output_ = false;
  }

  // Gathers matrices below each other, in `matrix_` or in `quantized_`.
  absl::Status ReadRows(const std::vector<StoredRows>& parts, int64_t in_features, bool is_head) {
    std::vector<std::string> names;
    int64_t out_features = 0;
    for (const StoredRows& part : parts) {
      names.push_back(part.name);
      out_features += part.rows;
    }
    matrix_type_ = TypeOf(names, is_head);
    scale_per_output_ = !is_head && matrix_type_ == DataType::kInt8 && HasManyRows();
    if (!KeepsQuantized(names, is_head)) {
      if (mode_ == Mode::kPack) matrix_.reserve(out_features * in_features);
      for (const StoredRows& part : parts) {
        RETURN_IF_ERROR(is_head ? ReadMatrixTensor(part.name, {part.rows, in_features}, matrix_)
                                : ReadMatrix(part.name, part.rows, in_features));
      }
      return absl::OkStatus();
    }
    form_ = checkpoint_.TensorQuantization(names.front());
    quantized_ = QuantizedMatrix{.bits = form_->bits, .cols = in_features};
    for (const StoredRows& part : parts) {
      const std::vector<int64_t> shape = {part.rows, in_features};
      CountElements(shape);
      if (mode_ != Mode::kPack) {
        RETURN_IF_ERROR(CheckTensor(part.name, shape));
        continue;
      }
      RETURN_IF_ERROR(checkpoint_.AppendQuantized(part.name, shape, *quantized_));
      checkpoint_.Release(part.name);
      ReportProgress();
    }
    return absl::OkStatus();
  }

  // Packs rows [first, first + out_features) of what was gathered.
  absl::StatusOr<Linear> Pack(const std::string& name, int64_t first, int64_t out_features,
                              int64_t in_features, Activation activation) {
    if (mode_ == Mode::kCheck) return Linear();
    absl::Span<const float> bias = bias_;
    if (!bias.empty()) bias = bias.subspan(first, out_features);
    const LinearOptions options = {.dtype = matrix_type_,
                                   .scale_per_output = scale_per_output_,
                                   .activation = activation,
                                   .strict = options_.strict_kernels};
    absl::StatusOr<Linear> linear;
    if (quantized_) {
      ASSIGN_OR_RETURN(std::shared_ptr<const QuantizedWeights> packed,
                       PackQuantized(name, first, out_features, in_features));
      linear = Linear::Create(std::move(packed), bias, options);
    } else {
      linear = TakeOrPack(
          name, first,
          [&](const PackedMatrix& packed) {
            return Linear::FromPacked(context_, packed, out_features, in_features, bias, options);
          },
          [&] {
            return Linear::Create(context_, Gathered(first, out_features, in_features), bias,
                                  options);
          });
    }
    if (!linear.ok()) {
      return absl::Status(linear.status().code(),
                          absl::StrCat(name, ": ", linear.status().message()));
    }
    weights_.packed_bytes += static_cast<int64_t>(linear->packed_bytes());
    if (absl::StrContains(linear->implementation(), "ref")) ++weights_.num_reference_kernels;
    return linear;
  }

  // The same in small integers, of which a Linear and an EmbeddingTable may be made.
  absl::StatusOr<std::shared_ptr<const QuantizedWeights>> PackQuantized(const std::string& name,
                                                                        int64_t first,
                                                                        int64_t out_features,
                                                                        int64_t in_features) {
    const QuantizedWeights::Form form = {.bits = form_ ? form_->bits : BitsOf(matrix_type_),
                                         .has_minimums = form_ && form_->has_minimums,
                                         .out_features = out_features,
                                         .in_features = in_features};
    absl::StatusOr<QuantizedWeights> weights = TakeOrPack(
        name, first,
        [&](const PackedMatrix& packed) { return QuantizedWeights::FromPacked(form, packed); },
        [&]() -> absl::StatusOr<QuantizedWeights> {
          if (quantized_) {
            CHECK(first == 0 && quantized_->rows == out_features) << name << " is packed in pieces";
            return QuantizedWeights(context_, *quantized_);
          }
          ASSIGN_OR_RETURN(
              const QuantizedMatrix matrix,
              Quantize(context_, Gathered(first, out_features, in_features), form.bits));
          return QuantizedWeights(context_, matrix);
        });
    if (!weights.ok()) {
      return absl::Status(weights.status().code(),
                          absl::StrCat(name, ": ", weights.status().message()));
    }
    return std::make_shared<const QuantizedWeights>(*std::move(weights));
  }

  absl::StatusOr<NormWeights> ReadNorm(const std::string& name) {
    return ReadNorm(name, config_.hidden_size);
  }

  absl::StatusOr<NormWeights> ReadNorm(const std::string& name, int64_t size) {
    NormWeights norm;
    RETURN_IF_ERROR(ReadNormVector(name, ".weight", ".gamma", size, norm.weight));
    const bool no_bias = spec_.norm == NormKind::kRmsNorm ||
                         (spec_.bias == BiasKind::kStored && !HasBias(name, false));
    if (!no_bias) {
      RETURN_IF_ERROR(ReadNormVector(name, ".bias", ".beta", size, norm.bias));
    }
    return norm;
  }

  // Checkpoints that came from TensorFlow still say gamma and beta.
  absl::Status ReadNormVector(const std::string& name, absl::string_view suffix,
                              absl::string_view legacy_suffix, int64_t size,
                              std::vector<float>& values) {
    const std::string tensor = absl::StrCat(name, suffix);
    const std::string legacy = absl::StrCat(name, legacy_suffix);
    const bool is_legacy = !checkpoint_.TensorShape(tensor) && checkpoint_.TensorShape(legacy);
    return ReadTensor(is_legacy ? legacy : tensor, {size}, values);
  }

  // Appends a linear layer's weights to `matrix_` as [out_features, in_features].
  absl::Status ReadMatrix(const std::string& name, int64_t out_features, int64_t in_features) {
    if (spec_.linear_layout == LinearLayout::kOutIn) {
      return ReadMatrixTensor(name, {out_features, in_features}, matrix_);
    }
    stored_.clear();
    RETURN_IF_ERROR(ReadMatrixTensor(name, {in_features, out_features}, stored_));
    if (mode_ != Mode::kPack) return absl::OkStatus();
    const size_t begin = matrix_.size();
    matrix_.resize(begin + stored_.size());
    Transpose(stored_.data(), in_features, out_features, matrix_.data() + begin);
    return absl::OkStatus();
  }

  // The same for a tensor that is packed, and so may come from the cache.
  absl::Status ReadMatrixTensor(const std::string& name, std::vector<int64_t> shape,
                                std::vector<float>& values) {
    if (mode_ != Mode::kTake) return ReadTensor(name, std::move(shape), values);
    CountElements(shape);
    return CheckTensor(name, shape);
  }

  // Appends the values of a tensor to `values`, or, when checking, only looks at its shape.
  absl::Status ReadTensor(const std::string& name, std::vector<int64_t> shape,
                          std::vector<float>& values) {
    const int64_t num_elements = CountElements(shape);
    if (mode_ == Mode::kCheck) return CheckTensor(name, shape);

    const size_t begin = values.size();
    values.resize(begin + num_elements);
    const absl::Span<float> tensor = absl::MakeSpan(values).subspan(begin);
    RETURN_IF_ERROR(checkpoint_.ReadTensor(name, shape, tensor));
    checkpoint_.Release(name);
    if (!AllFinite(tensor)) {
      return absl::InvalidArgumentError(absl::StrCat(checkpoint_.path(), ": tensor ", name,
                                                     " holds a value that is infinite or NaN"));
    }
    ReportProgress();
    return absl::OkStatus();
  }

  int64_t CountElements(absl::Span<const int64_t> shape) {
    const int64_t num_elements = NumElements(shape);
    weights_.num_parameters += num_elements;
    num_elements_ += num_elements;
    return num_elements;
  }

  void ReportProgress() const {
    if (progress_ == nullptr) return;
    progress_(static_cast<double>(num_elements_) / static_cast<double>(num_elements_of_all_));
  }

  absl::Status CheckTensor(const std::string& name, absl::Span<const int64_t> shape) const {
    const std::optional<std::vector<int64_t>> stored = checkpoint_.TensorShape(name);
    if (stored && absl::MakeConstSpan(*stored) == shape) return absl::OkStatus();
    const std::string found =
        stored ? absl::StrCat(" has the shape ", ShapeString(*stored)) : " is missing";
    return absl::InvalidArgumentError(absl::StrCat(checkpoint_.path(), ": tensor ", name, found,
                                                   "; config.json asks for ", ShapeString(shape)));
  }

  const Checkpoint& checkpoint_;
  const ArchitectureSpec& spec_;
  const ModelConfig& config_;
  const LoadWeightsOptions& options_;
  KernelContext& context_;
  PackedCache* const cache_;  // or null
  const std::array<absl::string_view, 2> prefixes_;

  Mode mode_ = Mode::kCheck;
  std::function<void(double)> progress_;
  int64_t num_elements_ = 0;         // read in this walk
  int64_t num_elements_of_all_ = 0;  // counted in the walk before
  ModelWeights weights_;
  // What is packed next: floats, or integers as they are stored; its type; and its bias, or empty.
  std::vector<float> matrix_;
  std::optional<QuantizedMatrix> quantized_;
  std::optional<Checkpoint::Quantization> form_;  // of those integers
  DataType matrix_type_ = DataType::kFloat32;
  bool scale_per_output_ = false;
  std::vector<float> bias_;
  std::shared_ptr<const QuantizedWeights> embeddings_;  // of the tokens, where they are integers
  bool head_is_shared_ = false;  // those weights are the language-model head's as well
  std::vector<float> stored_;    // before it is transposed
};

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                         const ModelConfig& config,
                                         const LoadWeightsOptions& options, KernelContext& context,
                                         const std::function<void(double)>& progress,
                                         PackedCache* cache) {
  using Mode = WeightReader::Mode;
  WeightReader reader(checkpoint, spec, config, options, context, cache);
  RETURN_IF_ERROR(reader.Walk(Mode::kCheck, nullptr).status());
  const bool take = cache != nullptr && cache->has_matrices();
  return reader.Walk(take ? Mode::kTake : Mode::kPack, progress);
}

std::optional<DataType> QuantizedType(const Checkpoint& checkpoint) {
  int64_t plain = 0, four = 0, eight = 0;
  for (const std::string& name : checkpoint.TensorNames()) {
    const std::vector<int64_t> shape = checkpoint.TensorShape(name).value();
    if (shape.size() != 2) continue;
    const std::optional<Checkpoint::Quantization> form = checkpoint.TensorQuantization(name);
    (!form ? plain : form->bits == 4 ? four : eight) += NumElements(shape);
  }
  if (four + eight <= plain) return std::nullopt;
  return four > eight ? DataType::kInt4 : DataType::kInt8;
}

std::vector<std::string> FindHeads(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                   const ModelConfig& config) {
  std::vector<std::string> heads;
  if (HasLanguageModelHead(checkpoint, spec, config)) heads.push_back("lm");
  for (const HeadSpec& head : spec.heads) {
    if (HasHead(checkpoint, spec, config, head)) heads.emplace_back(head.name);
  }
  std::sort(heads.begin(), heads.end());
  return heads;
}

}  // namespace attendant::engine
