// Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training", 2019, and the translators of
// the same build: Marian (Junczys-Dowmunt et al., 2018), mBART (Liu et al., 2020) and M2M-100 (Fan
// et al., 2020), to which NLLB belongs. The encoder and decoder of 2017; they differ in where norms
// stand and in what tells positions apart. Their learned positions begin at the table's third row,
// as did fairseq's, behind those of padding.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

// A table of its own where the vocabularies differ, or where the checkpoint was saved so.
constexpr WeightName kEncoderNames[] = {
    {WeightRole::kTokenEmbedding, "encoder.embed_tokens"},
    {WeightRole::kTokenEmbedding, "shared"},
    {WeightRole::kPositionEmbedding, "encoder.embed_positions"},
    {WeightRole::kEmbeddingNorm, "encoder.layernorm_embedding"},
    {WeightRole::kQuery, "encoder.layers.{}.self_attn.q_proj"},
    {WeightRole::kKey, "encoder.layers.{}.self_attn.k_proj"},
    {WeightRole::kValue, "encoder.layers.{}.self_attn.v_proj"},
    {WeightRole::kAttentionOutput, "encoder.layers.{}.self_attn.out_proj"},
    {WeightRole::kAttentionNorm, "encoder.layers.{}.self_attn_layer_norm"},
    {WeightRole::kUp, "encoder.layers.{}.fc1"},
    {WeightRole::kDown, "encoder.layers.{}.fc2"},
    {WeightRole::kFeedForwardNorm, "encoder.layers.{}.final_layer_norm"},
    {WeightRole::kFinalNorm, "encoder.layer_norm"},
};

constexpr WeightName kDecoderNames[] = {
    {WeightRole::kTokenEmbedding, "decoder.embed_tokens"},
    {WeightRole::kTokenEmbedding, "shared"},
    {WeightRole::kPositionEmbedding, "decoder.embed_positions"},
    {WeightRole::kEmbeddingNorm, "decoder.layernorm_embedding"},
    {WeightRole::kQuery, "decoder.layers.{}.self_attn.q_proj"},
    {WeightRole::kKey, "decoder.layers.{}.self_attn.k_proj"},
    {WeightRole::kValue, "decoder.layers.{}.self_attn.v_proj"},
    {WeightRole::kAttentionOutput, "decoder.layers.{}.self_attn.out_proj"},
    {WeightRole::kAttentionNorm, "decoder.layers.{}.self_attn_layer_norm"},
    {WeightRole::kCrossQuery, "decoder.layers.{}.encoder_attn.q_proj"},
    {WeightRole::kCrossKey, "decoder.layers.{}.encoder_attn.k_proj"},
    {WeightRole::kCrossValue, "decoder.layers.{}.encoder_attn.v_proj"},
    {WeightRole::kCrossOutput, "decoder.layers.{}.encoder_attn.out_proj"},
    {WeightRole::kCrossNorm, "decoder.layers.{}.encoder_attn_layer_norm"},
    {WeightRole::kUp, "decoder.layers.{}.fc1"},
    {WeightRole::kDown, "decoder.layers.{}.fc2"},
    {WeightRole::kFeedForwardNorm, "decoder.layers.{}.final_layer_norm"},
    {WeightRole::kFinalNorm, "decoder.layer_norm"},
    {WeightRole::kLanguageModelHead, "lm_head"},
    {WeightRole::kLogitsBias, "final_logits_bias"},
};

constexpr HeadSpec kHeads[] = {
    {"sequence_classification", "classification_head.out_proj.weight"},
    {"question_answering", "qa_outputs.weight"},
};

constexpr ConfigKeys kEncoderKeys = {
    .hidden_size = "d_model",
    .num_hidden_layers = "encoder_layers",
    .num_attention_heads = "encoder_attention_heads",
    .intermediate_size = "encoder_ffn_dim",
    .norm_eps = "",
    .activation = "activation_function",
};

constexpr ConfigKeys kDecoderKeys = {
    .vocab_size = "decoder_vocab_size|vocab_size",
    .hidden_size = "d_model",
    .num_hidden_layers = "decoder_layers",
    .num_attention_heads = "decoder_attention_heads",
    .intermediate_size = "decoder_ffn_dim",
    .norm_eps = "",
    .activation = "activation_function",
};

constexpr WeightRole kNoFinalNorm[] = {WeightRole::kFinalNorm};
constexpr WeightRole kNoTablesOrEmbeddingNorm[] = {WeightRole::kPositionEmbedding,
                                                   WeightRole::kEmbeddingNorm};
constexpr WeightRole kLayerNormsAlone[] = {WeightRole::kPositionEmbedding,
                                           WeightRole::kEmbeddingNorm, WeightRole::kFinalNorm};

// What the members of the family differ in.
struct Member {
  absl::string_view model_type;
  NormPlacement norm_placement = NormPlacement::kPost;
  absl::Span<const WeightRole> absent_roles;
  PositionKind position = PositionKind::kLearned;
  SinusoidKind sinusoid = SinusoidKind::kHalves;
  int32_t position_offset = 2;
  bool scale_embedding = false;
  absl::string_view language_model_class = "ForConditionalGeneration";
};

constexpr Member kMembers[] = {
    {.model_type = "bart", .absent_roles = kNoFinalNorm},
    {.model_type = "mbart", .norm_placement = NormPlacement::kPre},
    {.model_type = "m2m_100",
     .norm_placement = NormPlacement::kPre,
     .absent_roles = kNoTablesOrEmbeddingNorm,
     .position = PositionKind::kSinusoidal,
     .sinusoid = SinusoidKind::kFairseq,
     .scale_embedding = true},
    {.model_type = "marian",
     .absent_roles = kLayerNormsAlone,
     .position = PositionKind::kSinusoidal,
     .sinusoid = SinusoidKind::kHalves,
     .position_offset = 0,
     .language_model_class = "MarianMTModel"},
};

constexpr ArchitectureSpec Common(const Member& member) {
  return {
      .model_type = member.model_type,
      .norm_placement = member.norm_placement,
      .norm = NormKind::kLayerNorm,
      .position = member.position,
      .feed_forward = FeedForwardKind::kPlain,
      .bias = BiasKind::kAlways,
      .sinusoid = member.sinusoid,
      .position_offset = member.position_offset,
      .scale_embedding = member.scale_embedding,
      .norm_eps = 1e-5f,
      .prefix = "model.",
      .absent_roles = member.absent_roles,
      .language_model_class = member.language_model_class,
  };
}

constexpr ArchitectureSpec Encoder(const Member& member) {
  ArchitectureSpec spec = Common(member);
  spec.stack = Stack::kEncoder;
  spec.weight_names = kEncoderNames;
  spec.config_keys = kEncoderKeys;
  return spec;
}

constexpr ArchitectureSpec Decoder(const Member& member, const ArchitectureSpec& encoder) {
  ArchitectureSpec spec = Common(member);
  spec.stack = Stack::kDecoder;
  spec.encoder = &encoder;
  spec.weight_names = kDecoderNames;
  spec.heads = kHeads;
  spec.config_keys = kDecoderKeys;
  return spec;
}

constexpr ArchitectureSpec kEncoders[] = {Encoder(kMembers[0]), Encoder(kMembers[1]),
                                          Encoder(kMembers[2]), Encoder(kMembers[3])};
constexpr ArchitectureSpec kFamily[] = {
    Decoder(kMembers[0], kEncoders[0]), Decoder(kMembers[1], kEncoders[1]),
    Decoder(kMembers[2], kEncoders[2]), Decoder(kMembers[3], kEncoders[3])};

}  // namespace

absl::Span<const ArchitectureSpec> BartFamily() { return kFamily; }

}  // namespace attendant::engine
