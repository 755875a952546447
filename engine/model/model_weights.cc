#include "engine/model/model_weights.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"

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

// A model saved from the head's class must have the head; others may.
bool HasLanguageModelHead(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                          const ModelConfig& config) {
  const absl::string_view name = spec.NameOf(WeightRole::kLanguageModelHead);
  if (name.empty()) return false;
  return config.tie_word_embeddings || SavedFrom(config, spec.language_model_class) ||
         checkpoint.TensorShape(absl::StrCat(name, ".weight")).has_value();
}

// Walks over the tensors of a model in a fixed order. The same walk is taken twice: with kCheck it
// only compares names and shapes and counts, with kPack it reads.
class WeightReader {
 public:
  enum class Mode : uint8_t { kCheck, kPack };

  WeightReader(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
               const ModelConfig& config, const LoadWeightsOptions& options, KernelContext& context)
      : checkpoint_(checkpoint),
        spec_(spec),
        config_(config),
        options_(options),
        context_(context),
        prefix_(FindPrefix(checkpoint, spec)) {}

  absl::StatusOr<ModelWeights> Walk(Mode mode, const std::function<void(double)>& progress) {
    mode_ = mode;
    progress_ = progress;
    num_elements_of_all_ = std::exchange(num_elements_, 0);
    weights_ = ModelWeights();
    RETURN_IF_ERROR(ReadEmbeddings());
    weights_.layers.resize(config_.num_hidden_layers);
    for (int32_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      RETURN_IF_ERROR(ReadLayer(layer, weights_.layers[layer]));
    }
    if (spec_.Has(WeightRole::kFinalNorm)) {
      ASSIGN_OR_RETURN(weights_.final_norm, ReadNorm(NameOf(WeightRole::kFinalNorm)));
    }
    RETURN_IF_ERROR(ReadLanguageModelHead());
    return std::move(weights_);
  }

 private:
  // A part of a linear layer: so many rows, from one tensor.
  struct LinearPart {
    WeightRole role;
    int64_t out_features;
  };

  // Checkpoints of a bare model lack the prefix that those of a task have. Whichever form names the
  // token embeddings is taken for all.
  static std::string FindPrefix(const Checkpoint& checkpoint, const ArchitectureSpec& spec) {
    const std::string bare = absl::StrCat(spec.NameOf(WeightRole::kTokenEmbedding), ".weight");
    return checkpoint.TensorShape(bare) ? "" : std::string(spec.prefix);
  }

  std::string NameOf(WeightRole role, int32_t layer = 0) const {
    return absl::StrReplaceAll(absl::StrCat(prefix_, spec_.NameOf(role)),
                               {{"{}", absl::StrCat(layer)}});
  }

  absl::Status ReadEmbeddings() {
    ASSIGN_OR_RETURN(weights_.token_embedding, ReadEmbedding(WeightRole::kTokenEmbedding,
                                                             config_.vocab_size, options_.dtype));
    // The small tables stay exact: they cost little, and are added to every token.
    if (spec_.Has(WeightRole::kPositionEmbedding)) {
      ASSIGN_OR_RETURN(weights_.position_embedding,
                       ReadEmbedding(WeightRole::kPositionEmbedding,
                                     config_.max_position_embeddings, DataType::kFloat32));
    }
    if (spec_.Has(WeightRole::kTypeEmbedding)) {
      ASSIGN_OR_RETURN(
          weights_.type_embedding,
          ReadEmbedding(WeightRole::kTypeEmbedding, config_.type_vocab_size, DataType::kFloat32));
    }
    if (spec_.Has(WeightRole::kEmbeddingNorm)) {
      ASSIGN_OR_RETURN(weights_.embedding_norm, ReadNorm(NameOf(WeightRole::kEmbeddingNorm)));
    }
    return absl::OkStatus();
  }

  absl::Status ReadLayer(int32_t layer, LayerWeights& weights) {
    const int64_t hidden = config_.hidden_size;
    const int64_t query = int64_t{config_.num_attention_heads} * config_.head_dim;
    const int64_t key = int64_t{config_.num_key_value_heads} * config_.head_dim;
    const bool always = spec_.bias == BiasKind::kAlways;
    const bool attention_bias = always || config_.attention_bias;
    const bool mlp_bias = always || config_.mlp_bias;

    std::vector<LinearPart> query_key_value = {
        {WeightRole::kQuery, query}, {WeightRole::kKey, key}, {WeightRole::kValue, key}};
    if (spec_.Has(WeightRole::kQueryKeyValue)) {
      query_key_value = {{WeightRole::kQueryKeyValue, query + 2 * key}};
    }
    ASSIGN_OR_RETURN(weights.query_key_value,
                     ReadLinear(layer, query_key_value, hidden, attention_bias, Activation::kNone));
    ASSIGN_OR_RETURN(weights.attention_output,
                     ReadLinear(layer, {{WeightRole::kAttentionOutput, hidden}}, query,
                                attention_bias, Activation::kNone));
    ASSIGN_OR_RETURN(weights.attention_norm, ReadNorm(NameOf(WeightRole::kAttentionNorm, layer)));

    const int64_t intermediate = config_.intermediate_size;
    if (spec_.feed_forward == FeedForwardKind::kGated) {
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

  absl::Status ReadLanguageModelHead() {
    if (!HasLanguageModelHead(checkpoint_, spec_, config_)) return absl::OkStatus();
    std::string name = absl::StrCat(spec_.NameOf(WeightRole::kLanguageModelHead), ".weight");
    const bool tied = config_.tie_word_embeddings && !checkpoint_.TensorShape(name);
    if (tied) name = absl::StrCat(NameOf(WeightRole::kTokenEmbedding), ".weight");

    const int64_t num_parameters = weights_.num_parameters;
    matrix_.clear();
    RETURN_IF_ERROR(ReadTensor(name, {config_.vocab_size, config_.hidden_size}, matrix_));
    if (tied) weights_.num_parameters = num_parameters;
    ASSIGN_OR_RETURN(weights_.language_model_head,
                     Pack(name, config_.vocab_size, {}, Activation::kNone));
    return absl::OkStatus();
  }

  absl::StatusOr<EmbeddingTable> ReadEmbedding(WeightRole role, int64_t num_rows, DataType dtype) {
    matrix_.clear();
    RETURN_IF_ERROR(ReadTensor(absl::StrCat(NameOf(role), ".weight"),
                               {num_rows, config_.hidden_size}, matrix_));
    if (mode_ == Mode::kCheck) return EmbeddingTable();
    EmbeddingTable table(ConstMatrix(matrix_.data(), num_rows, config_.hidden_size), dtype);
    weights_.packed_bytes += static_cast<int64_t>(table.size_bytes());
    return table;
  }

  // Parts that read the same input lie below each other in one packed matrix.
  absl::StatusOr<Linear> ReadLinear(int32_t layer, absl::Span<const LinearPart> parts,
                                    int64_t in_features, bool has_bias, Activation activation) {
    int64_t out_features = 0;
    for (const LinearPart& part : parts) out_features += part.out_features;
    std::vector<float> bias;
    matrix_.clear();
    if (mode_ == Mode::kPack) matrix_.reserve(out_features * in_features);
    for (const LinearPart& part : parts) {
      const std::string name = NameOf(part.role, layer);
      RETURN_IF_ERROR(ReadMatrix(absl::StrCat(name, ".weight"), part.out_features, in_features));
      if (has_bias) {
        RETURN_IF_ERROR(ReadTensor(absl::StrCat(name, ".bias"), {part.out_features}, bias));
      }
    }
    return Pack(NameOf(parts.front().role, layer), out_features, bias, activation);
  }

  // Packs the rows gathered in `matrix_`.
  absl::StatusOr<Linear> Pack(const std::string& name, int64_t out_features,
                              absl::Span<const float> bias, Activation activation) {
    if (mode_ == Mode::kCheck) return Linear();
    const int64_t in_features = static_cast<int64_t>(matrix_.size()) / out_features;
    auto linear = Linear::Create(
        context_, ConstMatrix(matrix_.data(), out_features, in_features), bias,
        {.dtype = options_.dtype, .activation = activation, .strict = options_.strict_kernels});
    if (!linear.ok()) {
      return absl::Status(linear.status().code(),
                          absl::StrCat(name, ": ", linear.status().message()));
    }
    weights_.packed_bytes += static_cast<int64_t>(linear->packed_bytes());
    if (absl::StrContains(linear->implementation(), "ref")) ++weights_.num_reference_kernels;
    return linear;
  }

  absl::StatusOr<NormWeights> ReadNorm(const std::string& name) {
    NormWeights norm;
    RETURN_IF_ERROR(ReadNormVector(name, ".weight", ".gamma", norm.weight));
    if (spec_.norm == NormKind::kLayerNorm) {
      RETURN_IF_ERROR(ReadNormVector(name, ".bias", ".beta", norm.bias));
    }
    return norm;
  }

  // Checkpoints that came from TensorFlow still say gamma and beta.
  absl::Status ReadNormVector(const std::string& name, absl::string_view suffix,
                              absl::string_view legacy_suffix, std::vector<float>& values) {
    const std::string tensor = absl::StrCat(name, suffix);
    const std::string legacy = absl::StrCat(name, legacy_suffix);
    const bool is_legacy = !checkpoint_.TensorShape(tensor) && checkpoint_.TensorShape(legacy);
    return ReadTensor(is_legacy ? legacy : tensor, {config_.hidden_size}, values);
  }

  // Appends a linear layer's weights to `matrix_` as [out_features, in_features].
  absl::Status ReadMatrix(const std::string& name, int64_t out_features, int64_t in_features) {
    if (spec_.linear_layout == LinearLayout::kOutIn) {
      return ReadTensor(name, {out_features, in_features}, matrix_);
    }
    stored_.clear();
    RETURN_IF_ERROR(ReadTensor(name, {in_features, out_features}, stored_));
    if (mode_ == Mode::kCheck) return absl::OkStatus();
    const size_t begin = matrix_.size();
    matrix_.resize(begin + stored_.size());
    Transpose(stored_.data(), in_features, out_features, matrix_.data() + begin);
    return absl::OkStatus();
  }

  // Appends the values of a tensor to `values`, or, when checking, only looks at its shape.
  absl::Status ReadTensor(const std::string& name, std::vector<int64_t> shape,
                          std::vector<float>& values) {
    const int64_t num_elements = NumElements(shape);
    weights_.num_parameters += num_elements;
    num_elements_ += num_elements;
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
    if (progress_) {
      progress_(static_cast<double>(num_elements_) / static_cast<double>(num_elements_of_all_));
    }
    return absl::OkStatus();
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
  const std::string prefix_;

  Mode mode_ = Mode::kCheck;
  std::function<void(double)> progress_;
  int64_t num_elements_ = 0;         // read in this walk
  int64_t num_elements_of_all_ = 0;  // counted in the walk before
  ModelWeights weights_;
  std::vector<float> matrix_;  // what is packed next
  std::vector<float> stored_;  // before it is transposed
};

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                         const ModelConfig& config,
                                         const LoadWeightsOptions& options, KernelContext& context,
                                         const std::function<void(double)>& progress) {
  WeightReader reader(checkpoint, spec, config, options, context);
  RETURN_IF_ERROR(reader.Walk(WeightReader::Mode::kCheck, nullptr).status());
  return reader.Walk(WeightReader::Mode::kPack, progress);
}

std::vector<std::string> FindHeads(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                   const ModelConfig& config) {
  std::vector<std::string> heads;
  if (HasLanguageModelHead(checkpoint, spec, config)) heads.push_back("lm");
  for (const HeadTensor& head : spec.heads) {
    // The pooler belongs to the stack, and has its prefix.
    if (!checkpoint.TensorShape(head.tensor) &&
        !checkpoint.TensorShape(absl::StrCat(spec.prefix, head.tensor))) {
      continue;
    }
    if (head.class_part.empty() || SavedFrom(config, head.class_part)) {
      heads.emplace_back(head.head);
    }
  }
  std::sort(heads.begin(), heads.end());
  return heads;
}

}  // namespace attendant::engine
