#include "engine/model/transformer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/log/check.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/norm.h"
#include "engine/model/attention.h"
#include "engine/model/feed_forward.h"
#include "engine/model/model_weights.h"
#include "engine/model/workspace.h"

namespace attendant::engine {

struct Transformer::Impl {
  Impl(const ArchitectureSpec& spec, ModelConfig config, std::vector<std::string> heads,
       ModelWeights weights, const TransformerOptions& options, KernelContext& context)
      : spec(spec),
        config(std::move(config)),
        heads(std::move(heads)),
        weights(std::move(weights)),
        options(options),
        context(context),
        attention(spec, this->config, options.dtype, options.max_batch_tokens),
        workspace(spec, this->config, options.max_batch_tokens, options.max_logit_rows,
                  this->weights.language_model_head.has_value()) {}

  void Embed(const Batch& batch, Matrix hidden);
  void RunLayer(int32_t layer, Matrix hidden);
  ConstMatrix NormBefore(const NormWeights& norm, Matrix hidden);
  void NormAfter(const NormWeights& norm, Matrix hidden);
  void Norm(const NormWeights& norm, ConstMatrix x, Matrix y);

  const ArchitectureSpec& spec;
  const ModelConfig config;
  const std::vector<std::string> heads;
  const ModelWeights weights;
  const TransformerOptions options;
  KernelContext& context;
  SelfAttention attention;
  Workspace workspace;
};

void Transformer::Impl::Embed(const Batch& batch, Matrix hidden) {
  weights.token_embedding.Gather(context, batch.token_ids, hidden);
  if (weights.position_embedding) {
    weights.position_embedding->GatherAdd(context, batch.positions, hidden);
  }
  if (weights.type_embedding) {
    const absl::Span<const int32_t> type_ids =
        batch.type_ids.empty() ? workspace.zeros().first(batch.num_tokens()) : batch.type_ids;
    weights.type_embedding->GatherAdd(context, type_ids, hidden);
  }
  if (weights.embedding_norm) Norm(*weights.embedding_norm, hidden, hidden);
}

void Transformer::Impl::RunLayer(int32_t layer, Matrix hidden) {
  const LayerWeights& layer_weights = weights.layers[layer];

  ConstMatrix input = NormBefore(layer_weights.attention_norm, hidden);
  attention.Apply(context, layer_weights, layer, input, workspace, hidden);
  NormAfter(layer_weights.attention_norm, hidden);

  input = NormBefore(layer_weights.feed_forward_norm, hidden);
  ApplyFeedForward(context, spec, config, layer_weights, input, workspace, hidden);
  NormAfter(layer_weights.feed_forward_norm, hidden);
}

// What the sublayer reads: the residual stream, or its norm.
ConstMatrix Transformer::Impl::NormBefore(const NormWeights& norm, Matrix hidden) {
  if (spec.norm_placement == NormPlacement::kPost) return hidden;
  const Matrix normed = workspace.normed(static_cast<int32_t>(hidden.rows));
  Norm(norm, hidden, normed);
  return normed;
}

void Transformer::Impl::NormAfter(const NormWeights& norm, Matrix hidden) {
  if (spec.norm_placement == NormPlacement::kPost) Norm(norm, hidden, hidden);
}

void Transformer::Impl::Norm(const NormWeights& norm, ConstMatrix x, Matrix y) {
  if (spec.norm == NormKind::kRmsNorm) {
    RmsNorm(context, x, norm.weight, config.norm_eps, y);
  } else {
    LayerNorm(context, x, norm.weight, norm.bias, config.norm_eps, y);
  }
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Load(
    const Checkpoint& checkpoint, const TransformerOptions& options, KernelContext& context,
    std::function<void(double)> progress) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(checkpoint.config_json()));
  ASSIGN_OR_RETURN(const ArchitectureSpec* spec, FindArchitecture(config.model_type));
  ASSIGN_OR_RETURN(ModelWeights weights,
                   LoadWeights(checkpoint, *spec, config,
                               {.dtype = options.dtype, .strict_kernels = options.strict_kernels},
                               context, progress));
  std::vector<std::string> heads = FindHeads(checkpoint, *spec, config);
  return std::unique_ptr<Transformer>(new Transformer(std::make_unique<Impl>(
      *spec, std::move(config), std::move(heads), std::move(weights), options, context)));
}

Transformer::Transformer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transformer::~Transformer() = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
const ArchitectureSpec& Transformer::spec() const { return impl_->spec; }
bool Transformer::has_language_model_head() const {
  return impl_->weights.language_model_head.has_value();
}
const std::vector<std::string>& Transformer::heads() const { return impl_->heads; }
int64_t Transformer::num_parameters() const { return impl_->weights.num_parameters; }
int64_t Transformer::weight_bytes() const { return impl_->weights.packed_bytes; }
int64_t Transformer::workspace_bytes() const { return impl_->workspace.size_bytes(); }
int32_t Transformer::num_reference_kernels() const { return impl_->weights.num_reference_kernels; }

KvCacheOptions Transformer::cache_options(int32_t block_size) const {
  CHECK(impl_->spec.stack == Stack::kDecoder) << "an encoder needs no cache";
  return {.num_layers = impl_->config.num_hidden_layers,
          .num_key_value_heads = impl_->config.num_key_value_heads,
          .head_dim = impl_->config.head_dim,
          .block_size = block_size,
          .dtype = impl_->options.dtype};
}

ConstMatrix Transformer::Forward(const Batch& batch, KvCache* cache) {
  return Forward(batch, cache, [](int32_t, ConstMatrix) {});
}

ConstMatrix Transformer::Forward(const Batch& batch, KvCache* cache, HiddenStateObserver observer) {
  Impl& impl = *impl_;
  CHECK_EQ(cache != nullptr, impl.spec.stack == Stack::kDecoder) << "decoders need a cache";
  const Matrix hidden = impl.workspace.hidden(batch.num_tokens());
  if (batch.num_tokens() == 0) return hidden;

  impl.Embed(batch, hidden);
  impl.attention.Begin(batch, cache);
  for (int32_t layer = 0; layer < impl.config.num_hidden_layers; ++layer) {
    observer(layer, hidden);
    impl.RunLayer(layer, hidden);
  }
  if (impl.weights.final_norm) impl.Norm(*impl.weights.final_norm, hidden, hidden);
  observer(impl.config.num_hidden_layers, hidden);
  return hidden;
}

Matrix Transformer::Logits(ConstMatrix hidden, absl::Span<const int32_t> rows) {
  Impl& impl = *impl_;
  CHECK(has_language_model_head());
  const auto num_rows = static_cast<int32_t>(rows.size());
  const Matrix wanted = impl.workspace.logit_hidden(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    std::copy_n(hidden.row(rows[i]), hidden.cols, wanted.row(i));
  }
  const Matrix logits = impl.workspace.logits(num_rows);
  impl.weights.language_model_head->Apply(impl.context, wanted, logits);
  return logits;
}

}  // namespace attendant::engine
