// Sanh et al., "DistilBERT, a distilled version of BERT", 2019: BERT of half the depth, without
// segments and pooler, under names of its own. Its norms' epsilon is not in config.json.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kTokenEmbedding, "embeddings.word_embeddings"},
    {WeightRole::kPositionEmbedding, "embeddings.position_embeddings"},
    {WeightRole::kEmbeddingNorm, "embeddings.LayerNorm"},
    {WeightRole::kQuery, "transformer.layer.{}.attention.q_lin"},
    {WeightRole::kKey, "transformer.layer.{}.attention.k_lin"},
    {WeightRole::kValue, "transformer.layer.{}.attention.v_lin"},
    {WeightRole::kAttentionOutput, "transformer.layer.{}.attention.out_lin"},
    {WeightRole::kAttentionNorm, "transformer.layer.{}.sa_layer_norm"},
    {WeightRole::kUp, "transformer.layer.{}.ffn.lin1"},
    {WeightRole::kDown, "transformer.layer.{}.ffn.lin2"},
    {WeightRole::kFeedForwardNorm, "transformer.layer.{}.output_layer_norm"},
};

constexpr HeadSpec kHeads[] = {
    {.name = "masked_lm",
     .tensor = "vocab_transform.weight",
     .kind = HeadKind::kMaskedLanguageModel,
     .output = "vocab_projector",
     .transform = "vocab_transform",
     .norm = "vocab_layer_norm"},
    {.name = "sequence_classification",
     .tensor = "pre_classifier.weight",
     .class_part = "ForSequenceClassification",
     .kind = HeadKind::kSequenceClassification,
     .output = "classifier",
     .transform = "pre_classifier",
     .activation = HeadActivation::kRelu},
    {.name = "token_classification",
     .tensor = "classifier.weight",
     .class_part = "ForTokenClassification",
     .kind = HeadKind::kTokenClassification,
     .output = "classifier"},
    {.name = "question_answering",
     .tensor = "qa_outputs.weight",
     .kind = HeadKind::kQuestionAnswering,
     .output = "qa_outputs"},
};

constexpr ConfigKeys kConfigKeys = {
    .hidden_size = "dim",
    .num_hidden_layers = "n_layers",
    .num_attention_heads = "n_heads",
    .intermediate_size = "hidden_dim",
    .norm_eps = "",
    .activation = "activation",
};

constexpr ArchitectureSpec kFamily[] = {{
    .model_type = "distilbert",
    .stack = Stack::kEncoder,
    .norm_placement = NormPlacement::kPost,
    .norm = NormKind::kLayerNorm,
    .position = PositionKind::kLearned,
    .feed_forward = FeedForwardKind::kPlain,
    .bias = BiasKind::kAlways,
    .norm_eps = 1e-12f,
    .prefix = "distilbert.",
    .weight_names = kWeightNames,
    .heads = kHeads,
    .config_keys = kConfigKeys,
}};

}  // namespace

absl::Span<const ArchitectureSpec> DistilBertFamily() { return kFamily; }

}  // namespace attendant::engine
