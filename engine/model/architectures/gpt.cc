// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019: a decoder with norms
// before the sublayers and learned positions. Its checkpoints keep linear weights transposed, and
// queries, keys and values in one tensor.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kTokenEmbedding, "wte"},
    {WeightRole::kPositionEmbedding, "wpe"},
    {WeightRole::kQueryKeyValue, "h.{}.attn.c_attn"},
    {WeightRole::kAttentionOutput, "h.{}.attn.c_proj"},
    {WeightRole::kAttentionNorm, "h.{}.ln_1"},
    {WeightRole::kUp, "h.{}.mlp.c_fc"},
    {WeightRole::kDown, "h.{}.mlp.c_proj"},
    {WeightRole::kFeedForwardNorm, "h.{}.ln_2"},
    {WeightRole::kFinalNorm, "ln_f"},
    {WeightRole::kLanguageModelHead, "lm_head"},
};

constexpr HeadSpec kHeads[] = {
    {"sequence_classification", "score.weight"},
    {"token_classification", "classifier.weight"},
    {"question_answering", "qa_outputs.weight"},
};

constexpr ConfigKeys kConfigKeys = {
    .hidden_size = "n_embd",
    .num_hidden_layers = "n_layer",
    .num_attention_heads = "n_head",
    .intermediate_size = "n_inner",
    .max_position_embeddings = "n_positions",
    .norm_eps = "layer_norm_epsilon",
    .activation = "activation_function",
};

constexpr FixedSetting kFixedSettings[] = {
    {"scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "false"},
    {"add_cross_attention", "false"},
};

constexpr ArchitectureSpec kFamily[] = {{
    .model_type = "gpt2",
    .stack = Stack::kDecoder,
    .norm_placement = NormPlacement::kPre,
    .norm = NormKind::kLayerNorm,
    .position = PositionKind::kLearned,
    .feed_forward = FeedForwardKind::kPlain,
    .bias = BiasKind::kAlways,
    .linear_layout = LinearLayout::kInOut,
    .prefix = "transformer.",
    .weight_names = kWeightNames,
    .heads = kHeads,
    .language_model_class = "LMHeadModel",
    .config_keys = kConfigKeys,
    .fixed_settings = kFixedSettings,
}};

}  // namespace

absl::Span<const ArchitectureSpec> GptFamily() { return kFamily; }

}  // namespace attendant::engine
