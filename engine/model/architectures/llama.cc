// Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023: a decoder with
// RMSNorm before the sublayers, rotary positions, grouped-query attention and a gated feed-forward.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kTokenEmbedding, "embed_tokens"},
    {WeightRole::kQuery, "layers.{}.self_attn.q_proj"},
    {WeightRole::kKey, "layers.{}.self_attn.k_proj"},
    {WeightRole::kValue, "layers.{}.self_attn.v_proj"},
    {WeightRole::kAttentionOutput, "layers.{}.self_attn.o_proj"},
    {WeightRole::kAttentionNorm, "layers.{}.input_layernorm"},
    {WeightRole::kGate, "layers.{}.mlp.gate_proj"},
    {WeightRole::kUp, "layers.{}.mlp.up_proj"},
    {WeightRole::kDown, "layers.{}.mlp.down_proj"},
    {WeightRole::kFeedForwardNorm, "layers.{}.post_attention_layernorm"},
    {WeightRole::kFinalNorm, "norm"},
    {WeightRole::kLanguageModelHead, "lm_head"},
};

constexpr HeadSpec kHeads[] = {
    {"sequence_classification", "score.weight", "ForSequenceClassification"},
    {"token_classification", "score.weight", "ForTokenClassification"},
    {"question_answering", "qa_outputs.weight"},
};

constexpr ConfigKeys kConfigKeys = {
    .num_key_value_heads = "num_key_value_heads",
    .head_dim = "head_dim",
    .norm_eps = "rms_norm_eps",
};

constexpr ArchitectureSpec kFamily[] = {{
    .model_type = "llama",
    .stack = Stack::kDecoder,
    .norm_placement = NormPlacement::kPre,
    .norm = NormKind::kRmsNorm,
    .position = PositionKind::kRotary,
    .feed_forward = FeedForwardKind::kGated,
    .bias = BiasKind::kConfig,
    .tie_word_embeddings = false,
    .prefix = "model.",
    .weight_names = kWeightNames,
    .heads = kHeads,
    .config_keys = kConfigKeys,
}};

}  // namespace

absl::Span<const ArchitectureSpec> LlamaFamily() { return kFamily; }

}  // namespace attendant::engine
