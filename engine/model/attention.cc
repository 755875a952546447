#include "engine/model/attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/kernels/rotary.h"

namespace attendant::engine {
namespace {

// Llama 3's stretching: waves shorter than the trained context stay, those longer are slowed by
// `factor`, and those between are blended.
double Llama3Frequency(const RopeScaling& scaling, double frequency) {
  const double waves =
      scaling.original_max_position_embeddings * frequency / (2 * std::numbers::pi);
  if (waves < scaling.low_freq_factor) return frequency / scaling.factor;
  if (waves > scaling.high_freq_factor) return frequency;
  const double smooth =
      (waves - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

AttentionOptions OptionsOf(const ArchitectureSpec& spec, const ModelConfig& config,
                           DataType dtype) {
  return {
      .num_heads = config.num_attention_heads,
      .num_key_value_heads = config.num_key_value_heads,
      .head_dim = config.head_dim,
      .scale = spec.scaled_scores ? 1.0f / std::sqrt(static_cast<float>(config.head_dim)) : 1.0f,
      .dtype = dtype};
}

PagedKeysValues LayerOf(KvCache& cache, int32_t layer) {
  return {.dtype = cache.options().dtype,
          .keys = cache.keys(layer),
          .values = cache.values(layer),
          .block_size = cache.options().block_size,
          .block_stride = cache.block_stride()};
}

}  // namespace

std::vector<float> InverseFrequencies(const ModelConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(double{config.rope_theta}, -2.0 * i / config.head_dim);
    switch (config.rope_scaling.kind) {
      case RopeScaling::Kind::kNone:
        break;
      case RopeScaling::Kind::kLinear:
        frequency /= config.rope_scaling.factor;
        break;
      case RopeScaling::Kind::kLlama3:
        frequency = Llama3Frequency(config.rope_scaling, frequency);
        break;
    }
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

SelfAttention::SelfAttention(const ArchitectureSpec& spec, const ModelConfig& config,
                             DataType dtype, int32_t max_tokens,
                             absl::Span<const float> relative_bias)
    : options_(OptionsOf(spec, config, dtype)) {
  options_.causal = spec.stack == Stack::kDecoder;
  if (!relative_bias.empty()) {
    options_.relative_bias = {relative_bias.data(), config.max_position_embeddings};
  }
  if (spec.position == PositionKind::kRotary) inverse_frequencies_ = InverseFrequencies(config);
  sequences_.reserve(max_tokens);
}

void SelfAttention::Begin(const Batch& batch, KvCache* cache) {
  positions_ = batch.positions;
  cache_ = cache;
  walked_ = {};
  sequences_.clear();
  for (const BatchSequence& sequence : batch.sequences) {
    sequences_.push_back({.query_start = sequence.query_start,
                          .num_queries = sequence.num_queries,
                          .key_start = sequence.query_start,
                          .num_keys = sequence.num_past_tokens + sequence.num_queries,
                          .blocks = sequence.blocks});
  }
}

void SelfAttention::BeginWalk(const Batch& batch, Matrix query_key_value, int32_t num_tokens) {
  const auto num_keys = static_cast<int32_t>(query_key_value.rows);
  positions_ = absl::MakeConstSpan(batch.positions).subspan(num_keys - num_tokens, num_tokens);
  cache_ = nullptr;
  walked_ = query_key_value;
  sequences_.assign(1, {.num_queries = num_tokens, .num_keys = num_keys});
}

void SelfAttention::Apply(KernelContext& context, const LayerWeights& weights, int32_t layer,
                          const InputRows& input, Workspace& workspace, Matrix residual) {
  const auto num_tokens = static_cast<int32_t>(input.rows());
  const int64_t query_size = int64_t{options_.num_heads} * options_.head_dim;
  const int64_t key_size = int64_t{options_.num_key_value_heads} * options_.head_dim;
  const Matrix all = walked_.data != nullptr ? walked_ : workspace.query_key_value(num_tokens);
  const Matrix query_key_value = all.Rows(all.rows - num_tokens, num_tokens);
  const Matrix attended = workspace.attention(num_tokens);
  weights.query_key_value.Apply(context, input, query_key_value);

  if (!inverse_frequencies_.empty()) {
    // Queries and keys lie side by side, so that one call turns the heads of both.
    ApplyRotary(context, query_key_value.Cols(0, query_size + key_size),
                options_.num_heads + options_.num_key_value_heads, positions_,
                inverse_frequencies_);
  }
  const Matrix query = query_key_value.Cols(0, query_size);
  const Matrix key = query_key_value.Cols(query_size, key_size);
  const Matrix value = query_key_value.Cols(query_size + key_size, key_size);
  if (cache_ == nullptr) {
    Attention(context, options_, query, all.Cols(query_size, key_size),
              all.Cols(query_size + key_size, key_size), sequences_, attended);
  } else {
    const PagedKeysValues paged = LayerOf(*cache_, layer);
    StoreKeysValues(context, options_, key, value, sequences_, paged);
    PagedAttention(context, options_, query, paged, sequences_, attended);
  }
  weights.attention_output.ApplyAdd(context, attended, residual);
}

CrossAttention::CrossAttention(const ArchitectureSpec& spec, const ModelConfig& config,
                               DataType dtype, int32_t max_tokens)
    : options_(OptionsOf(spec, config, dtype)) {
  sequences_.reserve(max_tokens);
}

void CrossAttention::Store(KernelContext& context, const LayerWeights& weights, int32_t layer,
                           ConstMatrix encoded, const Batch& sources, KvCache& cache,
                           Workspace& workspace) {
  const int64_t key_size = int64_t{options_.num_key_value_heads} * options_.head_dim;
  const Matrix key_value = workspace.cross_key_value(static_cast<int32_t>(encoded.rows));
  weights.cross->key_value.Apply(context, encoded, key_value);
  sequences_.clear();
  for (const BatchSequence& source : sources.sequences) {
    sequences_.push_back({.query_start = source.query_start,
                          .num_queries = source.num_queries,
                          .num_keys = source.num_queries,
                          .blocks = source.source_blocks});
  }
  StoreKeysValues(context, options_, key_value.Cols(0, key_size),
                  key_value.Cols(key_size, key_size), sequences_, LayerOf(cache, layer));
}

void CrossAttention::Begin(const Batch& batch, KvCache& cache) {
  cache_ = &cache;
  sequences_.clear();
  for (const BatchSequence& sequence : batch.sequences) {
    sequences_.push_back({.query_start = sequence.query_start,
                          .num_queries = sequence.num_queries,
                          .num_keys = sequence.num_source_tokens,
                          .blocks = sequence.source_blocks});
  }
  aligned_.clear();
  int32_t most_keys = 0;
  for (const int32_t index : batch.aligned_sequences) {
    AttentionSequence last = sequences_[index];
    last.query_start += last.num_queries - 1;
    last.num_queries = 1;
    most_keys = std::max(most_keys, last.num_keys);
    aligned_.push_back(last);
  }
  aligned_values_.resize(std::max(aligned_values_.size(), aligned_.size() * most_keys));
  aligned_weights_ =
      Matrix(aligned_values_.data(), static_cast<int64_t>(aligned_.size()), most_keys);
}

void CrossAttention::BeginWalk(ConstMatrix key_value, Matrix query) {
  cache_ = nullptr;
  walked_key_value_ = key_value;
  walked_query_ = query;
  sequences_.assign(1, {.num_queries = static_cast<int32_t>(query.rows),
                        .num_keys = static_cast<int32_t>(key_value.rows)});
}

void CrossAttention::Apply(KernelContext& context, const LayerWeights& weights, int32_t layer,
                           const InputRows& input, Workspace& workspace, Matrix residual) {
  const auto num_tokens = static_cast<int32_t>(input.rows());
  const Matrix query = cache_ == nullptr ? walked_query_ : workspace.cross_query(num_tokens);
  const Matrix attended = workspace.attention(num_tokens);
  weights.cross->query.Apply(context, input, query);
  if (cache_ == nullptr) {
    const int64_t key_size = walked_key_value_.cols / 2;
    Attention(context, options_, query, walked_key_value_.Cols(0, key_size),
              walked_key_value_.Cols(key_size, key_size), sequences_, attended);
  } else {
    const PagedKeysValues paged = LayerOf(*cache_, layer);
    PagedAttention(context, options_, query, paged, sequences_, attended);
    if (!aligned_.empty() && layer + 1 == cache_->options().num_layers) {
      PagedMeanWeights(context, options_, query, paged, aligned_, aligned_weights_);
    }
  }
  weights.cross->output.ApplyAdd(context, attended, residual);
}

}  // namespace attendant::engine
