// Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
// Transformer", 2020 (v1.0), with a gated feed-forward in v1.1 and Flan-T5 (Shazeer, 2020). Norms
// are RMS norms before the sublayers, nothing has a bias, scores are not scaled, and the distance
// of query and key biases them, by one table for all layers of a stack.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kEncoderNames[] = {
    {WeightRole::kTokenEmbedding, "encoder.embed_tokens"},
    {WeightRole::kTokenEmbedding, "shared"},
    {WeightRole::kRelativeBias, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    {WeightRole::kQuery, "encoder.block.{}.layer.0.SelfAttention.q"},
    {WeightRole::kKey, "encoder.block.{}.layer.0.SelfAttention.k"},
    {WeightRole::kValue, "encoder.block.{}.layer.0.SelfAttention.v"},
    {WeightRole::kAttentionOutput, "encoder.block.{}.layer.0.SelfAttention.o"},
    {WeightRole::kAttentionNorm, "encoder.block.{}.layer.0.layer_norm"},
    {WeightRole::kGate, "encoder.block.{}.layer.1.DenseReluDense.wi_0"},
    {WeightRole::kUp, "encoder.block.{}.layer.1.DenseReluDense.wi"},
    {WeightRole::kUp, "encoder.block.{}.layer.1.DenseReluDense.wi_1"},
    {WeightRole::kDown, "encoder.block.{}.layer.1.DenseReluDense.wo"},
    {WeightRole::kFeedForwardNorm, "encoder.block.{}.layer.1.layer_norm"},
    {WeightRole::kFinalNorm, "encoder.final_layer_norm"},
};

constexpr WeightName kDecoderNames[] = {
    {WeightRole::kTokenEmbedding, "decoder.embed_tokens"},
    {WeightRole::kTokenEmbedding, "shared"},
    {WeightRole::kRelativeBias, "decoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    {WeightRole::kQuery, "decoder.block.{}.layer.0.SelfAttention.q"},
    {WeightRole::kKey, "decoder.block.{}.layer.0.SelfAttention.k"},
    {WeightRole::kValue, "decoder.block.{}.layer.0.SelfAttention.v"},
    {WeightRole::kAttentionOutput, "decoder.block.{}.layer.0.SelfAttention.o"},
    {WeightRole::kAttentionNorm, "decoder.block.{}.layer.0.layer_norm"},
    {WeightRole::kCrossQuery, "decoder.block.{}.layer.1.EncDecAttention.q"},
    {WeightRole::kCrossKey, "decoder.block.{}.layer.1.EncDecAttention.k"},
    {WeightRole::kCrossValue, "decoder.block.{}.layer.1.EncDecAttention.v"},
    {WeightRole::kCrossOutput, "decoder.block.{}.layer.1.EncDecAttention.o"},
    {WeightRole::kCrossNorm, "decoder.block.{}.layer.1.layer_norm"},
    {WeightRole::kGate, "decoder.block.{}.layer.2.DenseReluDense.wi_0"},
    {WeightRole::kUp, "decoder.block.{}.layer.2.DenseReluDense.wi"},
    {WeightRole::kUp, "decoder.block.{}.layer.2.DenseReluDense.wi_1"},
    {WeightRole::kDown, "decoder.block.{}.layer.2.DenseReluDense.wo"},
    {WeightRole::kFeedForwardNorm, "decoder.block.{}.layer.2.layer_norm"},
    {WeightRole::kFinalNorm, "decoder.final_layer_norm"},
    {WeightRole::kLanguageModelHead, "lm_head"},
};

constexpr HeadSpec kHeads[] = {
    {"sequence_classification", "classification_head.out_proj.weight"},
    {"question_answering", "qa_outputs.weight"},
};

constexpr ConfigKeys Keys(absl::string_view num_layers) {
  return {
      .hidden_size = "d_model",
      .num_hidden_layers = num_layers,
      .num_attention_heads = "num_heads",
      .head_dim = "d_kv",
      .intermediate_size = "d_ff",
      .max_position_embeddings = "n_positions",
      .norm_eps = "layer_norm_epsilon",
      .activation = "",
  };
}

constexpr ArchitectureSpec kCommon = {
    .model_type = "t5",
    .norm_placement = NormPlacement::kPre,
    .norm = NormKind::kRmsNorm,
    .position = PositionKind::kNone,
    .feed_forward = FeedForwardKind::kConfig,
    .bias = BiasKind::kNever,
    .scaled_scores = false,
    .scale_tied_logits = true,
    .norm_eps = 1e-6f,
    // What all of them were trained with; newer files leave it out.
    .max_position_embeddings = 512,
    .language_model_class = "ForConditionalGeneration",
};

constexpr ArchitectureSpec Encoder() {
  ArchitectureSpec spec = kCommon;
  spec.stack = Stack::kEncoder;
  spec.weight_names = kEncoderNames;
  spec.config_keys = Keys("num_layers");
  return spec;
}
constexpr ArchitectureSpec kEncoder = Encoder();

constexpr ArchitectureSpec Decoder() {
  ArchitectureSpec spec = kCommon;
  spec.stack = Stack::kDecoder;
  spec.encoder = &kEncoder;
  spec.weight_names = kDecoderNames;
  spec.heads = kHeads;
  spec.config_keys = Keys("num_decoder_layers|num_layers");
  return spec;
}
constexpr ArchitectureSpec kFamily[] = {Decoder()};

}  // namespace

absl::Span<const ArchitectureSpec> T5Family() { return kFamily; }

}  // namespace attendant::engine
