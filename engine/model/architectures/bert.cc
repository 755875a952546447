// Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2018: the encoder of
// 2017, norms after the sums, with learned positions and two segments.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kTokenEmbedding, "embeddings.word_embeddings"},
    {WeightRole::kPositionEmbedding, "embeddings.position_embeddings"},
    {WeightRole::kTypeEmbedding, "embeddings.token_type_embeddings"},
    {WeightRole::kEmbeddingNorm, "embeddings.LayerNorm"},
    {WeightRole::kQuery, "encoder.layer.{}.attention.self.query"},
    {WeightRole::kKey, "encoder.layer.{}.attention.self.key"},
    {WeightRole::kValue, "encoder.layer.{}.attention.self.value"},
    {WeightRole::kAttentionOutput, "encoder.layer.{}.attention.output.dense"},
    {WeightRole::kAttentionNorm, "encoder.layer.{}.attention.output.LayerNorm"},
    {WeightRole::kUp, "encoder.layer.{}.intermediate.dense"},
    {WeightRole::kDown, "encoder.layer.{}.output.dense"},
    {WeightRole::kFeedForwardNorm, "encoder.layer.{}.output.LayerNorm"},
};

constexpr HeadSpec kHeads[] = {
    {.name = "masked_lm",
     .tensor = "cls.predictions.transform.dense.weight",
     .kind = HeadKind::kMaskedLanguageModel,
     .output = "cls.predictions.decoder",
     .transform = "cls.predictions.transform.dense",
     .norm = "cls.predictions.transform.LayerNorm",
     .output_bias = "cls.predictions.bias"},
    {.name = "sequence_classification",
     .tensor = "classifier.weight",
     .class_part = "ForSequenceClassification",
     .kind = HeadKind::kSequenceClassification,
     .output = "classifier",
     .transform = "pooler.dense",
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
    {.name = "pooler", .tensor = "pooler.dense.weight"},
};

constexpr FixedSetting kFixedSettings[] = {
    {"position_embedding_type", "\"absolute\""},
    {"is_decoder", "false"},
    {"add_cross_attention", "false"},
};

constexpr ArchitectureSpec kFamily[] = {{
    .model_type = "bert",
    .stack = Stack::kEncoder,
    .norm_placement = NormPlacement::kPost,
    .norm = NormKind::kLayerNorm,
    .position = PositionKind::kLearned,
    .feed_forward = FeedForwardKind::kPlain,
    .bias = BiasKind::kAlways,
    .prefix = "bert.",
    .weight_names = kWeightNames,
    .heads = kHeads,
    .fixed_settings = kFixedSettings,
}};

}  // namespace

absl::Span<const ArchitectureSpec> BertFamily() { return kFamily; }

}  // namespace attendant::engine
