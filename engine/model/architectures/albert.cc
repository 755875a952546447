// Lan et al., "ALBERT: A Lite BERT", 2019: BERT whose embeddings are narrower than its layers, and
// whose layers share their weights, all of them or in groups.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kTokenEmbedding, "embeddings.word_embeddings"},
    {WeightRole::kPositionEmbedding, "embeddings.position_embeddings"},
    {WeightRole::kTypeEmbedding, "embeddings.token_type_embeddings"},
    {WeightRole::kEmbeddingNorm, "embeddings.LayerNorm"},
    {WeightRole::kEmbeddingProjection, "encoder.embedding_hidden_mapping_in"},
    {WeightRole::kQuery, "encoder.albert_layer_groups.{}.albert_layers.0.attention.query"},
    {WeightRole::kKey, "encoder.albert_layer_groups.{}.albert_layers.0.attention.key"},
    {WeightRole::kValue, "encoder.albert_layer_groups.{}.albert_layers.0.attention.value"},
    {WeightRole::kAttentionOutput,
     "encoder.albert_layer_groups.{}.albert_layers.0.attention.dense"},
    {WeightRole::kAttentionNorm,
     "encoder.albert_layer_groups.{}.albert_layers.0.attention.LayerNorm"},
    {WeightRole::kUp, "encoder.albert_layer_groups.{}.albert_layers.0.ffn"},
    {WeightRole::kDown, "encoder.albert_layer_groups.{}.albert_layers.0.ffn_output"},
    {WeightRole::kFeedForwardNorm,
     "encoder.albert_layer_groups.{}.albert_layers.0.full_layer_layer_norm"},
};

constexpr HeadSpec kHeads[] = {
    {.name = "masked_lm",
     .tensor = "predictions.dense.weight",
     .kind = HeadKind::kMaskedLanguageModel,
     .output = "predictions.decoder",
     .transform = "predictions.dense",
     .norm = "predictions.LayerNorm",
     .output_bias = "predictions.bias"},
    {.name = "sequence_classification",
     .tensor = "classifier.weight",
     .class_part = "ForSequenceClassification",
     .kind = HeadKind::kSequenceClassification,
     .output = "classifier",
     .transform = "pooler",
     .activation = HeadActivation::kTanh},
    {.name = "token_classification",
     .tensor = "classifier.weight",
     .class_part = "ForTokenClassification",
     .kind = HeadKind::kTokenClassification,
     .output = "classifier"},
    {.name = "question_answering",
     .tensor = "qa_outputs.weight",
     .kind = HeadKind::kQuestionAnswering,
     .output = "qa_outputs"},
    {.name = "pooler", .tensor = "pooler.weight"},
};

constexpr ConfigKeys kConfigKeys = {
    .embedding_size = "embedding_size",
    .num_hidden_groups = "num_hidden_groups",
};

constexpr FixedSetting kFixedSettings[] = {
    {"position_embedding_type", "\"absolute\""},
    {"inner_group_num", "1"},
    {"is_decoder", "false"},
};

constexpr ArchitectureSpec kFamily[] = {{
    .model_type = "albert",
    .stack = Stack::kEncoder,
    .norm_placement = NormPlacement::kPost,
    .norm = NormKind::kLayerNorm,
    .position = PositionKind::kLearned,
    .feed_forward = FeedForwardKind::kPlain,
    .bias = BiasKind::kAlways,
    .prefix = "albert.",
    .weight_names = kWeightNames,
    .heads = kHeads,
    .config_keys = kConfigKeys,
    .fixed_settings = kFixedSettings,
}};

}  // namespace

absl::Span<const ArchitectureSpec> AlbertFamily() { return kFamily; }

}  // namespace attendant::engine
