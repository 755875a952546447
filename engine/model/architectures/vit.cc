// Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
// 2020: an encoder, norms before the sublayers, whose tokens are the patches of an image and one
// that stands for all of it. Touvron et al., "Training data-efficient image transformers &
// distillation through attention", 2020, add another, which has learned from a teacher.

#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

constexpr WeightName kWeightNames[] = {
    {WeightRole::kDistillationToken, "embeddings.distillation_token"},
    {WeightRole::kClassToken, "embeddings.cls_token"},
    {WeightRole::kPatchEmbedding, "embeddings.patch_embeddings.projection"},
    {WeightRole::kPositionEmbedding, "embeddings.position_embeddings"},
    {WeightRole::kQuery, "encoder.layer.{}.attention.attention.query"},
    {WeightRole::kKey, "encoder.layer.{}.attention.attention.key"},
    {WeightRole::kValue, "encoder.layer.{}.attention.attention.value"},
    {WeightRole::kAttentionOutput, "encoder.layer.{}.attention.output.dense"},
    {WeightRole::kAttentionNorm, "encoder.layer.{}.layernorm_before"},
    {WeightRole::kUp, "encoder.layer.{}.intermediate.dense"},
    {WeightRole::kDown, "encoder.layer.{}.output.dense"},
    {WeightRole::kFeedForwardNorm, "encoder.layer.{}.layernorm_after"},
    {WeightRole::kFinalNorm, "layernorm"},
};

constexpr WeightRole kAbsentFromVit[] = {WeightRole::kDistillationToken};

constexpr HeadSpec kClassifier = {.name = "image_classification",
                                  .tensor = "classifier.weight",
                                  .kind = HeadKind::kSequenceClassification,
                                  .output = "classifier"};
constexpr HeadSpec kPooler = {.name = "pooler", .tensor = "pooler.dense.weight"};

constexpr HeadSpec kVitHeads[] = {kClassifier, kPooler};

constexpr HeadSpec kDeitHeads[] = {
    kClassifier,
    {.name = "image_classification",
     .tensor = "cls_classifier.weight",
     .kind = HeadKind::kSequenceClassification,
     .output = "cls_classifier",
     .second_output = "distillation_classifier"},
    kPooler,
};

constexpr FixedSetting kFixedSettings[] = {{"num_channels", "3"}};

constexpr ArchitectureSpec Vit(absl::string_view model_type, absl::string_view prefix,
                               absl::Span<const WeightRole> absent_roles,
                               absl::Span<const HeadSpec> heads) {
  return {
      .model_type = model_type,
      .stack = Stack::kEncoder,
      .norm_placement = NormPlacement::kPre,
      .norm = NormKind::kLayerNorm,
      .position = PositionKind::kLearned,
      .feed_forward = FeedForwardKind::kPlain,
      .bias = BiasKind::kStored,  // queries, keys and values may have none
      .prefix = prefix,
      .weight_names = kWeightNames,
      .absent_roles = absent_roles,
      .heads = heads,
      .fixed_settings = kFixedSettings,
  };
}

constexpr ArchitectureSpec kFamily[] = {
    Vit("vit", "vit.", kAbsentFromVit, kVitHeads),
    Vit("deit", "deit.", {}, kDeitHeads),
};

}  // namespace

absl::Span<const ArchitectureSpec> VitFamily() { return kFamily; }

}  // namespace attendant::engine
