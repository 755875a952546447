#ifndef ATTENDANT_ENGINE_MODEL_TRANSFORMER_H_
#define ATTENDANT_ENGINE_MODEL_TRANSFORMER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/batch.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_cache.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/model/architecture.h"
#include "engine/model/heads/head.h"
#include "engine/model/model_config.h"

namespace attendant::engine {

struct TransformerOptions {
  // Of weights and products, as LoadWeightsOptions has them.
  DataType dtype = DataType::kFloat32;
  bool as_stored = false;
  int32_t max_batch_tokens = 2048;   // activations are sized for a Batch of so many tokens
  int32_t max_source_tokens = 2048;  // of an encoder-decoder: and for sources of so many
  int32_t max_logit_rows = 64;       // and for so many rows of logits
  bool strict_kernels = false;
};

// A transformer: embeddings, layers and, where the checkpoint has one, the language-model head. Of
// an encoder-decoder it is the decoder, and has the encoder, a transformer itself. It sees tokens
// and cache blocks, never requests. All methods but the accessors are for the thread that owns the
// KernelContext.
class Transformer {
 public:
  // Checks every tensor against the config, then packs the weights one by one, or takes them from
  // `cache`, if there is one and it has them; `progress` is called with 0 to 1. INVALID_ARGUMENT
  // for a malformed config or checkpoint; UNIMPLEMENTED for a model_type that the registry does not
  // know, listing those it does. `context` must outlive the model.
  static absl::StatusOr<std::unique_ptr<Transformer>> Load(
      const Checkpoint& checkpoint, const TransformerOptions& options, KernelContext& context,
      std::function<void(double)> progress = nullptr, PackedCache* cache = nullptr);
  ~Transformer();

  // Null but for an encoder-decoder. It has no other owner: whoever runs it alone and whoever
  // calls EncodeSources take turns.
  Transformer* encoder();

  const ModelConfig& config() const;
  const ArchitectureSpec& spec() const;
  bool has_language_model_head() const;
  // What the checkpoint carries beside the stack, see FindHeads; and whether it has a head that is
  // computed.
  const std::vector<std::string>& heads() const;
  bool has_head(HeadKind kind) const;

  // Of an encoder-decoder: of both. Embeddings that the stacks share count for each.
  int64_t num_parameters() const;
  int64_t weight_bytes() const;     // packed
  int64_t workspace_bytes() const;  // activations and logits
  int32_t num_reference_kernels() const;
  int32_t max_batch_tokens() const;

  // The cache that this model needs, but for num_blocks. Decoders only.
  KvCacheOptions cache_options(int32_t block_size) const;

  // Encoder-decoders: runs the encoder over `sources` (at most max_source_tokens, each sequence
  // whole) and stores the cross-attention keys and values that every decoder layer makes of its
  // hidden states in the sequences' source_blocks of `cache`. A source of n tokens takes as many
  // blocks as n tokens of the decoder's own.
  void EncodeSources(const Batch& sources, KvCache& cache);

  // Sees the hidden states after the embeddings (layer 0) and after each layer (1 ...
  // num_hidden_layers; the last with the final norm applied), [num_tokens, hidden_size]; valid
  // during the call.
  using HiddenStateObserver = absl::FunctionRef<void(int32_t layer, ConstMatrix hidden)>;

  // Runs the stack over `batch` (at most max_batch_tokens) and returns its hidden states after the
  // final norm, [num_tokens, hidden_size]; valid until the next call. `cache` is null for encoders;
  // for decoders the batch's block_copies are made in it first, and then the batch's own keys and
  // values are stored into it. Ids and positions were checked by the caller. An empty batch gives
  // no rows.
  ConstMatrix Forward(const Batch& batch, KvCache* cache);
  ConstMatrix Forward(const Batch& batch, KvCache* cache, HiddenStateObserver observer);

  // Whether Forward of so many tokens, or Logits of so many rows, is partly oneDNN's work, which
  // has one thread in ThreadTeam::RunInOneRegion; else whoever calls both saves time there. Forward
  // by itself chooses.
  bool UsesOnednn(int32_t num_tokens, int32_t num_logit_rows) const;

  // What the batch's aligned_sequences gave to their sources in the Forward that just was: in row
  // i, the weights of the i-th of them, num_source_tokens values, which sum to 1: the mean over the
  // heads of the last layer. Valid until the next call.
  ConstMatrix SourceWeights() const;

  // One sequence on its way through the stack, a layer at a time and without a cache, for those who
  // want to see inside. All memory is the caller's, so that steps of others may come in between.
  struct Walk {
    const Batch& batch;  // of the one sequence, of n tokens; all of them at once

    Matrix hidden;  // [n, hidden_size]: the residual stream, before or after a layer

    // [n, (num_heads + 2 num_key_value_heads) head_dim]: of the layer that was walked last, as its
    // attention multiplies them (rotated): queries, then keys, then values.
    Matrix query_key_value;

    // Of an encoder-decoder's decoder: the encoder's hidden states [m, hidden_size], what a layer
    // makes of them, keys and then values [m, 2 num_key_value_heads head_dim], and the queries of
    // its cross-attention [n, num_heads head_dim].
    ConstMatrix source = {};
    Matrix cross_key_value = {};
    Matrix cross_query = {};
  };

  // Of every layer's self-attention: head h of q reads head h / (num_heads / num_key_value_heads)
  // of k. Cross-attention has the same heads and scale; it is not causal, and has no bias.
  const AttentionOptions& attention_options() const;

  // Fills walk.hidden with the embeddings.
  void BeginWalk(const Walk& walk);

  // Takes the tokens [first, first + count) through `layer`. Of a decoder, whose tokens see only
  // those before them, the tokens of a layer may come in several calls, ascending, of at most
  // max_batch_tokens each; of an encoder all come at once.
  void WalkLayer(const Walk& walk, int32_t layer, int32_t first, int32_t count);

  // After the last layer: walk.hidden through the final norm, if there is one.
  void EndWalk(const Walk& walk);

  // Logits [rows.size(), vocab_size] of the given rows of the hidden states that Forward just
  // returned; valid until the next call. At most max_logit_rows rows; models with a head only.
  Matrix Logits(ConstMatrix hidden, absl::Span<const int32_t> rows);

  // The logits of a head that the checkpoint has, for any number of the hidden states' rows; see
  // Head::Apply.
  void HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                  Head::LogitsVisitor visit);

 private:
  struct Impl;
  static absl::StatusOr<std::unique_ptr<Transformer>> LoadStacks(
      const Checkpoint& checkpoint, const ArchitectureSpec& spec, const TransformerOptions& options,
      KernelContext& context, const std::function<void(double)>& progress, PackedCache* cache);
  static absl::StatusOr<std::unique_ptr<Transformer>> LoadStack(
      const Checkpoint& checkpoint, const ArchitectureSpec& spec, const TransformerOptions& options,
      KernelContext& context, std::unique_ptr<Transformer> encoder,
      const std::function<void(double)>& progress, PackedCache* cache);
  explicit Transformer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_TRANSFORMER_H_
