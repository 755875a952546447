// Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019, its multilingual
// form (Conneau et al., "XLM-R", 2019), and MPNet (Song et al., 2020), which adds a bias by
// distance to the scores and has no segments. Positions begin behind the row of padding, which is
// token 1.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kRobertaNames[] = {
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

constexpr WeightName kMpnetNames[] = {
    {WeightRole::kTokenEmbedding, "embeddings.word_embeddings"},
    {WeightRole::kPositionEmbedding, "embeddings.position_embeddings"},
    {WeightRole::kEmbeddingNorm, "embeddings.LayerNorm"},
    {WeightRole::kRelativeBias, "encoder.relative_attention_bias"},
    {WeightRole::kQuery, "encoder.layer.{}.attention.attn.q"},
    {WeightRole::kKey, "encoder.layer.{}.attention.attn.k"},
    {WeightRole::kValue, "encoder.layer.{}.attention.attn.v"},
    {WeightRole::kAttentionOutput, "encoder.layer.{}.attention.attn.o"},
    {WeightRole::kAttentionNorm, "encoder.layer.{}.attention.LayerNorm"},
    {WeightRole::kUp, "encoder.layer.{}.intermediate.dense"},
    {WeightRole::kDown, "encoder.layer.{}.output.dense"},
    {WeightRole::kFeedForwardNorm, "encoder.layer.{}.output.LayerNorm"},
};

constexpr HeadSpec kHeads[] = {
    {.name = "masked_lm",
     .tensor = "lm_head.dense.weight",
     .kind = HeadKind::kMaskedLanguageModel,
     .output = "lm_head.decoder",
     .transform = "lm_head.dense",
     .activation = HeadActivation::kGelu,
     .norm = "lm_head.layer_norm",
     .output_bias = "lm_head.bias"},
    {.name = "sequence_classification",
     .tensor = "classifier.out_proj.weight",
     .kind = HeadKind::kSequenceClassification,
     .output = "classifier.out_proj",
     .transform = "classifier.dense",
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
    {"pad_token_id", "1"},
    {"is_decoder", "false"},
    {"add_cross_attention", "false"},
};

// MPNet has these numbers in its code.
constexpr FixedSetting kMpnetSettings[] = {
    {"pad_token_id", "1"},
    {"relative_attention_num_buckets", "32"},
    {"relative_attention_max_distance", "128"},
};

constexpr ArchitectureSpec Roberta(absl::string_view model_type, absl::string_view prefix,
                                   absl::Span<const WeightName> weight_names,
                                   absl::Span<const FixedSetting> fixed_settings) {
  return {
      .model_type = model_type,
      .stack = Stack::kEncoder,
      .norm_placement = NormPlacement::kPost,
      .norm = NormKind::kLayerNorm,
      .position = PositionKind::kLearned,
      .feed_forward = FeedForwardKind::kPlain,
      .bias = BiasKind::kAlways,
      .position_offset = 2,
      .counts_position_offset = true,
      .prefix = prefix,
      .weight_names = weight_names,
      .heads = kHeads,
      .fixed_settings = fixed_settings,
  };
}

constexpr ArchitectureSpec kFamily[] = {
    Roberta("mpnet", "mpnet.", kMpnetNames, kMpnetSettings),
    Roberta("roberta", "roberta.", kRobertaNames, kFixedSettings),
    Roberta("xlm-roberta", "roberta.", kRobertaNames, kFixedSettings),
};

}  // namespace

absl::Span<const ArchitectureSpec> RobertaFamily() { return kFamily; }

}  // namespace attendant::engine
