// Vaswani et al., "Attention Is All You Need", 2017, as PyTorch's nn.Transformer modules compute it
// and as people wrap them. A folder holds config.json, model.safetensors (the module's state_dict),
// tokenizer.json, perhaps target_tokenizer.json and generation_config.json.
//
// config.json, the constructor's own arguments by their names:
//   model_type               "transformer"
//   vocab_size               of the source
//   target_vocab_size        of the target; absent: vocab_size
//   d_model                  width; nhead divides it
//   nhead
//   num_encoder_layers, num_decoder_layers
//   dim_feedforward          absent: 4 * d_model
//   activation               "relu" (absent), "gelu", or another that other models have
//   norm_first               absent: false, norms after the sums
//   layer_norm_eps           absent: 1e-5
//   scale_embedding          token embeddings times sqrt(d_model); absent: true, as in the paper
//   max_position_embeddings  longest source and target, in tokens; absent: 512
//   tie_word_embeddings      the head is the target's embedding; absent: false
// pad_token_id, bos_token_id, decoder_start_token_id and eos_token_id stand there or in
// generation_config.json.
//
// Positions are the paper's: sine and cosine of a frequency side by side. Where the checkpoint has
// them as a buffer, that is read instead, whatever they are.
//
// Names: those of nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, in_proj_weight and
// all, below encoder.layers and decoder.layers or, for who holds an nn.Transformer, below
// transformer.; a final norm or none. Or those of the usual tutorials, with four matrices wq, wk,
// wv, dense (or W_q, W_k, W_v, W_o) to an attention. Biases are those that the checkpoint has.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kEncoderNames[] = {
    {WeightRole::kTokenEmbedding, "encoder_embedding"},
    {WeightRole::kTokenEmbedding, "encoder.embedding"},
    {WeightRole::kTokenEmbedding, "src_embedding"},
    {WeightRole::kTokenEmbedding, "src_tok_emb.embedding"},
    {WeightRole::kPositionBuffer, "positional_encoding.pe"},
    {WeightRole::kPositionBuffer, "positional_encoding.pos_embedding"},
    {WeightRole::kPositionBuffer, "pos_encoder.pe"},
    {WeightRole::kPositionBuffer, "encoder.positional_encoding.pe"},
    {WeightRole::kQueryKeyValue, "encoder.layers.{}.self_attn.in_proj_"},
    {WeightRole::kQuery, "encoder.layers.{}.mha.wq"},
    {WeightRole::kQuery, "encoder.enc_layers.{}.mha.wq"},
    {WeightRole::kQuery, "encoder_layers.{}.self_attn.W_q"},
    {WeightRole::kKey, "encoder.layers.{}.mha.wk"},
    {WeightRole::kKey, "encoder.enc_layers.{}.mha.wk"},
    {WeightRole::kKey, "encoder_layers.{}.self_attn.W_k"},
    {WeightRole::kValue, "encoder.layers.{}.mha.wv"},
    {WeightRole::kValue, "encoder.enc_layers.{}.mha.wv"},
    {WeightRole::kValue, "encoder_layers.{}.self_attn.W_v"},
    {WeightRole::kAttentionOutput, "encoder.layers.{}.self_attn.out_proj"},
    {WeightRole::kAttentionOutput, "encoder.layers.{}.mha.dense"},
    {WeightRole::kAttentionOutput, "encoder.enc_layers.{}.mha.dense"},
    {WeightRole::kAttentionOutput, "encoder_layers.{}.self_attn.W_o"},
    {WeightRole::kAttentionNorm, "encoder.layers.{}.norm1"},
    {WeightRole::kAttentionNorm, "encoder.layers.{}.layernorm1"},
    {WeightRole::kAttentionNorm, "encoder.enc_layers.{}.layernorm1"},
    {WeightRole::kAttentionNorm, "encoder_layers.{}.norm1"},
    {WeightRole::kUp, "encoder.layers.{}.linear1"},
    {WeightRole::kUp, "encoder.layers.{}.ffn.0"},
    {WeightRole::kUp, "encoder.layers.{}.ffn.linear1"},
    {WeightRole::kUp, "encoder.enc_layers.{}.ffn.0"},
    {WeightRole::kUp, "encoder.enc_layers.{}.ffn.linear1"},
    {WeightRole::kUp, "encoder_layers.{}.feed_forward.fc1"},
    {WeightRole::kDown, "encoder.layers.{}.linear2"},
    {WeightRole::kDown, "encoder.layers.{}.ffn.2"},
    {WeightRole::kDown, "encoder.layers.{}.ffn.linear2"},
    {WeightRole::kDown, "encoder.enc_layers.{}.ffn.2"},
    {WeightRole::kDown, "encoder.enc_layers.{}.ffn.linear2"},
    {WeightRole::kDown, "encoder_layers.{}.feed_forward.fc2"},
    {WeightRole::kFeedForwardNorm, "encoder.layers.{}.norm2"},
    {WeightRole::kFeedForwardNorm, "encoder.layers.{}.layernorm2"},
    {WeightRole::kFeedForwardNorm, "encoder.enc_layers.{}.layernorm2"},
    {WeightRole::kFeedForwardNorm, "encoder_layers.{}.norm2"},
    {WeightRole::kFinalNorm, "encoder.norm", true},
};

constexpr WeightName kDecoderNames[] = {
    {WeightRole::kTokenEmbedding, "decoder_embedding"},
    {WeightRole::kTokenEmbedding, "decoder.embedding"},
    {WeightRole::kTokenEmbedding, "tgt_embedding"},
    {WeightRole::kTokenEmbedding, "tgt_tok_emb.embedding"},
    {WeightRole::kPositionBuffer, "positional_encoding.pe"},
    {WeightRole::kPositionBuffer, "positional_encoding.pos_embedding"},
    {WeightRole::kPositionBuffer, "pos_encoder.pe"},
    {WeightRole::kPositionBuffer, "decoder.positional_encoding.pe"},
    {WeightRole::kQueryKeyValue, "decoder.layers.{}.self_attn.in_proj_"},
    {WeightRole::kQuery, "decoder.layers.{}.mha1.wq"},
    {WeightRole::kQuery, "decoder.dec_layers.{}.mha1.wq"},
    {WeightRole::kQuery, "decoder_layers.{}.self_attn.W_q"},
    {WeightRole::kKey, "decoder.layers.{}.mha1.wk"},
    {WeightRole::kKey, "decoder.dec_layers.{}.mha1.wk"},
    {WeightRole::kKey, "decoder_layers.{}.self_attn.W_k"},
    {WeightRole::kValue, "decoder.layers.{}.mha1.wv"},
    {WeightRole::kValue, "decoder.dec_layers.{}.mha1.wv"},
    {WeightRole::kValue, "decoder_layers.{}.self_attn.W_v"},
    {WeightRole::kAttentionOutput, "decoder.layers.{}.self_attn.out_proj"},
    {WeightRole::kAttentionOutput, "decoder.layers.{}.mha1.dense"},
    {WeightRole::kAttentionOutput, "decoder.dec_layers.{}.mha1.dense"},
    {WeightRole::kAttentionOutput, "decoder_layers.{}.self_attn.W_o"},
    {WeightRole::kAttentionNorm, "decoder.layers.{}.norm1"},
    {WeightRole::kAttentionNorm, "decoder.layers.{}.layernorm1"},
    {WeightRole::kAttentionNorm, "decoder.dec_layers.{}.layernorm1"},
    {WeightRole::kAttentionNorm, "decoder_layers.{}.norm1"},
    {WeightRole::kCrossQueryKeyValue, "decoder.layers.{}.multihead_attn.in_proj_"},
    {WeightRole::kCrossQuery, "decoder.layers.{}.mha2.wq"},
    {WeightRole::kCrossQuery, "decoder.dec_layers.{}.mha2.wq"},
    {WeightRole::kCrossQuery, "decoder_layers.{}.cross_attn.W_q"},
    {WeightRole::kCrossKey, "decoder.layers.{}.mha2.wk"},
    {WeightRole::kCrossKey, "decoder.dec_layers.{}.mha2.wk"},
    {WeightRole::kCrossKey, "decoder_layers.{}.cross_attn.W_k"},
    {WeightRole::kCrossValue, "decoder.layers.{}.mha2.wv"},
    {WeightRole::kCrossValue, "decoder.dec_layers.{}.mha2.wv"},
    {WeightRole::kCrossValue, "decoder_layers.{}.cross_attn.W_v"},
    {WeightRole::kCrossOutput, "decoder.layers.{}.multihead_attn.out_proj"},
    {WeightRole::kCrossOutput, "decoder.layers.{}.mha2.dense"},
    {WeightRole::kCrossOutput, "decoder.dec_layers.{}.mha2.dense"},
    {WeightRole::kCrossOutput, "decoder_layers.{}.cross_attn.W_o"},
    {WeightRole::kCrossNorm, "decoder.layers.{}.norm2"},
    {WeightRole::kCrossNorm, "decoder.layers.{}.layernorm2"},
    {WeightRole::kCrossNorm, "decoder.dec_layers.{}.layernorm2"},
    {WeightRole::kCrossNorm, "decoder_layers.{}.norm2"},
    {WeightRole::kUp, "decoder.layers.{}.linear1"},
    {WeightRole::kUp, "decoder.layers.{}.ffn.0"},
    {WeightRole::kUp, "decoder.layers.{}.ffn.linear1"},
    {WeightRole::kUp, "decoder.dec_layers.{}.ffn.0"},
    {WeightRole::kUp, "decoder.dec_layers.{}.ffn.linear1"},
    {WeightRole::kUp, "decoder_layers.{}.feed_forward.fc1"},
    {WeightRole::kDown, "decoder.layers.{}.linear2"},
    {WeightRole::kDown, "decoder.layers.{}.ffn.2"},
    {WeightRole::kDown, "decoder.layers.{}.ffn.linear2"},
    {WeightRole::kDown, "decoder.dec_layers.{}.ffn.2"},
    {WeightRole::kDown, "decoder.dec_layers.{}.ffn.linear2"},
    {WeightRole::kDown, "decoder_layers.{}.feed_forward.fc2"},
    {WeightRole::kFeedForwardNorm, "decoder.layers.{}.norm3"},
    {WeightRole::kFeedForwardNorm, "decoder.layers.{}.layernorm3"},
    {WeightRole::kFeedForwardNorm, "decoder.dec_layers.{}.layernorm3"},
    {WeightRole::kFeedForwardNorm, "decoder_layers.{}.norm3"},
    {WeightRole::kFinalNorm, "decoder.norm", true},
    {WeightRole::kLanguageModelHead, "fc_out"},
    {WeightRole::kLanguageModelHead, "generator"},
    {WeightRole::kLanguageModelHead, "final_layer"},
    {WeightRole::kLanguageModelHead, "fc"},
};

constexpr ConfigKeys Keys(absl::string_view vocab_size, absl::string_view num_layers) {
  return {
      .vocab_size = vocab_size,
      .hidden_size = "d_model",
      .num_hidden_layers = num_layers,
      .num_attention_heads = "nhead",
      .intermediate_size = "dim_feedforward",
      .activation = "activation",
  };
}

constexpr ArchitectureSpec kCommon = {
    .model_type = "transformer",
    .norm_placement = NormPlacement::kConfig,
    .norm = NormKind::kLayerNorm,
    .position = PositionKind::kSinusoidal,
    .feed_forward = FeedForwardKind::kPlain,
    .bias = BiasKind::kStored,
    .sinusoid = SinusoidKind::kInterleaved,
    .scale_embedding = true,
    .activation = "relu",
    .norm_eps = 1e-5f,
    .max_position_embeddings = 512,
    .tie_word_embeddings = false,
    .prefix = "transformer.",
    .language_model_class = "",
};

constexpr ArchitectureSpec Encoder() {
  ArchitectureSpec spec = kCommon;
  spec.stack = Stack::kEncoder;
  spec.weight_names = kEncoderNames;
  spec.config_keys = Keys("vocab_size", "num_encoder_layers");
  return spec;
}
constexpr ArchitectureSpec kEncoder = Encoder();

constexpr ArchitectureSpec Decoder() {
  ArchitectureSpec spec = kCommon;
  spec.stack = Stack::kDecoder;
  spec.encoder = &kEncoder;
  spec.weight_names = kDecoderNames;
  spec.config_keys = Keys("target_vocab_size|vocab_size", "num_decoder_layers");
  return spec;
}
constexpr ArchitectureSpec kFamily[] = {Decoder()};

}  // namespace

absl::Span<const ArchitectureSpec> TransformerFamily() { return kFamily; }

}  // namespace attendant::engine
