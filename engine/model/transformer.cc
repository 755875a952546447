#include "engine/model/transformer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/log/check.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/norm.h"
#include "engine/model/attention.h"
#include "engine/model/feed_forward.h"
#include "engine/model/model_weights.h"
#include "engine/model/workspace.h"

namespace attendant::engine {

struct Transformer::Impl {
  Impl(const ArchitectureSpec& spec, ModelConfig config, std::vector<std::string> heads,
       ModelWeights weights, const TransformerOptions& options, KernelContext& context,
       std::unique_ptr<Transformer> encoder)
      : spec(spec),
        config(std::move(config)),
        heads(std::move(heads)),
        weights(std::move(weights)),
        options(options),
        context(context),
        encoder(std::move(encoder)),
        attention(spec, this->config, ActivationType(options.dtype), options.max_batch_tokens,
                  this->weights.relative_bias),
        cross_attention(spec, this->config, ActivationType(options.dtype),
                        options.max_batch_tokens),
        workspace(spec, this->config, options.max_batch_tokens,
                  this->encoder == nullptr ? 0 : options.max_source_tokens, options.max_logit_rows,
                  this->weights.language_model_head.has_value()) {
    for (HeadWeights& head : this->weights.heads) {
      computed_heads.emplace_back(std::move(head), this->config);
    }
    this->weights.heads.clear();
  }

  const LayerWeights& Layer(int32_t index) const {
    return weights.Layer(index, config.num_hidden_layers);
  }
  const Head* FindHead(HeadKind kind) const {
    const auto it = std::find_if(computed_heads.begin(), computed_heads.end(),
                                 [kind](const Head& head) { return head.kind() == kind; });
    return it == computed_heads.end() ? nullptr : &*it;
  }

  void Embed(const Batch& batch, Matrix hidden);
  void EmbedImages(const Batch& batch, Matrix hidden);
  void RunLayer(int32_t layer, Matrix hidden);
  Norm NormOf(const NormWeights& weights) const {
    return {spec.norm, weights.weight, weights.bias, config.norm_eps};
  }
  void NormInPlace(const NormWeights& weights, Matrix hidden) {
    ApplyNorm(context, NormOf(weights), hidden, hidden);
  }

  const ArchitectureSpec& spec;
  const ModelConfig config;
  const std::vector<std::string> heads;
  ModelWeights weights;
  const TransformerOptions options;
  KernelContext& context;
  const std::unique_ptr<Transformer> encoder;
  SelfAttention attention;
  CrossAttention cross_attention;
  Workspace workspace;
  std::vector<Head> computed_heads;
};

void Transformer::Impl::Embed(const Batch& batch, Matrix hidden) {
  const Matrix embedded =
      weights.embedding_projection ? workspace.embedding(batch.num_tokens()) : hidden;
  if (weights.patch_embedding) {
    EmbedImages(batch, embedded);
  } else {
    weights.token_embedding.Gather(context, batch.token_ids, embedded);
  }
  if (weights.position_embedding) {
    weights.position_embedding->GatherAdd(context, batch.positions, embedded);
  }
  if (weights.type_embedding) {
    const absl::Span<const int32_t> type_ids =
        batch.type_ids.empty() ? workspace.zeros().first(batch.num_tokens()) : batch.type_ids;
    weights.type_embedding->GatherAdd(context, type_ids, embedded);
  }
  if (weights.embedding_norm) NormInPlace(*weights.embedding_norm, embedded);
  if (weights.embedding_projection) {
    weights.embedding_projection->Apply(context, embedded, hidden);
  }
}

// Of each image the tokens before its patches, and those: a product for each image, whose values
// then do not depend on the others'.
void Transformer::Impl::EmbedImages(const Batch& batch, Matrix hidden) {
  const auto num_tokens = static_cast<int32_t>(weights.token_embedding.num_rows());
  for (const BatchSequence& sequence : batch.sequences) {
    const absl::Span<const int32_t> ids(batch.token_ids.data() + sequence.query_start, num_tokens);
    weights.token_embedding.Gather(context, ids, hidden.Rows(sequence.query_start, num_tokens));
    const int32_t num_patches = sequence.num_queries - num_tokens;
    const int64_t patch_size = weights.patch_embedding->in_features();
    DCHECK_EQ(sequence.patches.size(), num_patches * patch_size);
    weights.patch_embedding->Apply(context,
                                   ConstMatrix(sequence.patches.data(), num_patches, patch_size),
                                   hidden.Rows(sequence.query_start + num_tokens, num_patches));
  }
}

// Each sublayer reads the residual stream - normed on its way, or by the norm that came after the
// sublayer before, which stays - and adds to it.
void Transformer::Impl::RunLayer(int32_t layer, Matrix hidden) {
  const LayerWeights& layer_weights = Layer(layer);
  const auto input = [&](const NormWeights& before, const NormWeights* after_last) -> InputRows {
    if (config.norm_first) return InputRows::Normed(NormOf(before), hidden);
    if (after_last != nullptr) return InputRows::NormedInPlace(NormOf(*after_last), hidden);
    return hidden;
  };

  const NormWeights* last = &layer_weights.attention_norm;
  attention.Apply(context, layer_weights, layer, input(*last, nullptr), workspace, hidden);
  if (encoder != nullptr) {
    const NormWeights& norm = layer_weights.cross->norm;
    cross_attention.Apply(context, layer_weights, layer, input(norm, last), workspace, hidden);
    last = &norm;
  }
  const NormWeights& norm = layer_weights.feed_forward_norm;
  ApplyFeedForward(context, config, layer_weights, input(norm, last), workspace, hidden);
  if (!config.norm_first) NormInPlace(norm, hidden);
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Load(const Checkpoint& checkpoint,
                                                               const TransformerOptions& options,
                                                               KernelContext& context,
                                                               std::function<void(double)> progress,
                                                               PackedCache* cache) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(checkpoint.config_json()));
  ASSIGN_OR_RETURN(const ArchitectureSpec* spec, FindArchitecture(config.model_type));
  if (cache != nullptr && cache->has_matrices()) {
    auto model = LoadStacks(checkpoint, *spec, options, context, progress, cache);
    if (model.ok()) return model;
    cache->Reject(model.status());
  }
  return LoadStacks(checkpoint, *spec, options, context, progress, cache);
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::LoadStacks(
    const Checkpoint& checkpoint, const ArchitectureSpec& spec, const TransformerOptions& options,
    KernelContext& context, const std::function<void(double)>& progress, PackedCache* cache) {
  if (spec.encoder == nullptr) {
    return LoadStack(checkpoint, spec, options, context, nullptr, progress, cache);
  }
  const auto half = [&](double begin) -> std::function<void(double)> {
    if (progress == nullptr) return nullptr;
    return [&progress, begin](double fraction) { progress(begin + fraction / 2); };
  };
  TransformerOptions encoder_options = options;
  encoder_options.max_batch_tokens = options.max_source_tokens;
  ASSIGN_OR_RETURN(
      std::unique_ptr<Transformer> encoder,
      LoadStack(checkpoint, *spec.encoder, encoder_options, context, nullptr, half(0), cache));
  return LoadStack(checkpoint, spec, options, context, std::move(encoder), half(0.5), cache);
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::LoadStack(
    const Checkpoint& checkpoint, const ArchitectureSpec& spec, const TransformerOptions& options,
    KernelContext& context, std::unique_ptr<Transformer> encoder,
    const std::function<void(double)>& progress, PackedCache* cache) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(checkpoint.config_json(), spec));
  CHECK(encoder == nullptr || encoder->config().hidden_size == config.hidden_size)
      << "the stacks of an architecture read their width from one key";
  ASSIGN_OR_RETURN(ModelWeights weights, LoadWeights(checkpoint, spec, config,
                                                     {.dtype = options.dtype,
                                                      .as_stored = options.as_stored,
                                                      .strict_kernels = options.strict_kernels},
                                                     context, progress, cache));
  std::vector<std::string> heads = FindHeads(checkpoint, spec, config);
  return std::unique_ptr<Transformer>(new Transformer(
      std::make_unique<Impl>(spec, std::move(config), std::move(heads), std::move(weights), options,
                             context, std::move(encoder))));
}

Transformer::Transformer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transformer::~Transformer() = default;

Transformer* Transformer::encoder() { return impl_->encoder.get(); }
const ModelConfig& Transformer::config() const { return impl_->config; }
const ArchitectureSpec& Transformer::spec() const { return impl_->spec; }
bool Transformer::has_language_model_head() const {
  return impl_->weights.language_model_head.has_value();
}
const std::vector<std::string>& Transformer::heads() const { return impl_->heads; }
bool Transformer::has_head(HeadKind kind) const { return impl_->FindHead(kind) != nullptr; }
int64_t Transformer::num_parameters() const {
  return impl_->weights.num_parameters + (impl_->encoder ? impl_->encoder->num_parameters() : 0);
}
int64_t Transformer::weight_bytes() const {
  return impl_->weights.packed_bytes + (impl_->encoder ? impl_->encoder->weight_bytes() : 0);
}
int64_t Transformer::workspace_bytes() const {
  int64_t bytes = impl_->workspace.size_bytes();
  for (const Head& head : impl_->computed_heads) bytes += head.workspace_bytes();
  return bytes + (impl_->encoder ? impl_->encoder->workspace_bytes() : 0);
}
int32_t Transformer::num_reference_kernels() const {
  return impl_->weights.num_reference_kernels +
         (impl_->encoder ? impl_->encoder->num_reference_kernels() : 0);
}

KvCacheOptions Transformer::cache_options(int32_t block_size) const {
  CHECK(impl_->spec.stack == Stack::kDecoder) << "an encoder needs no cache";
  return {.num_layers = impl_->config.num_hidden_layers,
          .num_key_value_heads = impl_->config.num_key_value_heads,
          .head_dim = impl_->config.head_dim,
          .block_size = block_size,
          .dtype = ActivationType(impl_->options.dtype)};
}

void Transformer::EncodeSources(const Batch& sources, KvCache& cache) {
  if (sources.num_tokens() == 0) return;
  Impl& impl = *impl_;
  CHECK(impl.encoder != nullptr) << "only an encoder-decoder has sources";
  const ConstMatrix encoded = impl.encoder->Forward(sources, nullptr);
  for (int32_t layer = 0; layer < impl.config.num_hidden_layers; ++layer) {
    impl.cross_attention.Store(impl.context, impl.Layer(layer), layer, encoded, sources, cache,
                               impl.workspace);
  }
}

ConstMatrix Transformer::Forward(const Batch& batch, KvCache* cache) {
  return Forward(batch, cache, [](int32_t, ConstMatrix) {});
}

ConstMatrix Transformer::Forward(const Batch& batch, KvCache* cache, HiddenStateObserver observer) {
  Impl& impl = *impl_;
  CHECK_EQ(cache != nullptr, impl.spec.stack == Stack::kDecoder) << "decoders need a cache";
  for (const auto& [from, to] : batch.block_copies) cache->CopyBlock(from, to);
  const Matrix hidden = impl.workspace.hidden(batch.num_tokens());
  if (batch.num_tokens() == 0) return hidden;

  impl.attention.Begin(batch, cache);
  if (impl.encoder != nullptr) impl.cross_attention.Begin(batch, *cache);
  const auto run = [&] {
    impl.Embed(batch, hidden);
    for (int32_t layer = 0; layer < impl.config.num_hidden_layers; ++layer) {
      observer(layer, hidden);
      impl.RunLayer(layer, hidden);
    }
    if (impl.weights.final_norm) impl.NormInPlace(*impl.weights.final_norm, hidden);
    observer(impl.config.num_hidden_layers, hidden);
  };
  if (UsesOnednn(batch.num_tokens(), 0)) {
    run();
  } else {
    impl.context.team().RunInOneRegion(run);
  }
  return hidden;
}

bool Transformer::UsesOnednn(int32_t num_tokens, int32_t num_logit_rows) const {
  const ModelWeights& weights = impl_->weights;
  const auto uses = [&](const Linear& linear) { return linear.UsesOnednn(num_tokens); };
  const auto layer_uses = [&](const LayerWeights& layer) {
    return uses(layer.query_key_value) || uses(layer.attention_output) || uses(layer.up) ||
           uses(layer.down) ||
           (layer.cross && (uses(layer.cross->query) || uses(layer.cross->output)));
  };
  return (weights.patch_embedding && uses(*weights.patch_embedding)) ||
         (weights.embedding_projection && uses(*weights.embedding_projection)) ||
         absl::c_any_of(weights.layers, layer_uses) ||
         (num_logit_rows > 0 && weights.language_model_head->UsesOnednn(num_logit_rows));
}

ConstMatrix Transformer::SourceWeights() const { return impl_->cross_attention.aligned_weights(); }

int32_t Transformer::max_batch_tokens() const { return impl_->options.max_batch_tokens; }

const AttentionOptions& Transformer::attention_options() const {
  return impl_->attention.options();
}

void Transformer::BeginWalk(const Walk& walk) { impl_->Embed(walk.batch, walk.hidden); }

void Transformer::WalkLayer(const Walk& walk, int32_t layer, int32_t first, int32_t count) {
  Impl& impl = *impl_;
  CHECK(impl.spec.stack == Stack::kDecoder || count == walk.hidden.rows)
      << "an encoder's tokens see those behind them";
  impl.attention.BeginWalk(walk.batch, walk.query_key_value.Rows(0, first + count), count);
  if (impl.encoder != nullptr) {
    if (first == 0) {
      impl.weights.layers[layer].cross->key_value.Apply(impl.context, walk.source,
                                                        walk.cross_key_value);
    }
    impl.cross_attention.BeginWalk(walk.cross_key_value, walk.cross_query.Rows(first, count));
  }
  impl.RunLayer(layer, walk.hidden.Rows(first, count));
}

void Transformer::EndWalk(const Walk& walk) {
  if (impl_->weights.final_norm) impl_->NormInPlace(*impl_->weights.final_norm, walk.hidden);
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

void Transformer::HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                             Head::LogitsVisitor visit) {
  const Head* head = impl_->FindHead(kind);
  CHECK(head != nullptr) << "the checkpoint has no such head";
  head->Apply(impl_->context, hidden, rows, visit);
}

}  // namespace attendant::engine
