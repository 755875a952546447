#include "engine/model_runner.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/image_config.h"
#include "engine/kernels/linear.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace attendant::engine {
namespace {

Pooling ToPooling(PoolingKind kind) {
  switch (kind) {
    case PoolingKind::kMean:
      return Pooling::kMean;
    case PoolingKind::kCls:
      return Pooling::kCls;
    case PoolingKind::kMax:
      return Pooling::kMax;
    case PoolingKind::kLastToken:
      return Pooling::kLastToken;
    case PoolingKind::kNone:
      return Pooling::kNone;
  }
  return Pooling::kMean;
}

// What a model that reads images makes of them. The first token stands for all of an image.
absl::Status SetImages(const Checkpoint& checkpoint, const ModelConfig& config,
                       const EngineOptions& options, LoadedModel& model) {
  static constexpr absl::string_view kFile = "preprocessor_config.json";
  ASSIGN_OR_RETURN(const std::optional<std::string> json, checkpoint.ReadFile(kFile));
  if (!json.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        checkpoint.path(), " has no ", kFile, ", which says how images are made ready for it"));
  }
  ASSIGN_OR_RETURN(model.images, ReadImageProcessor(*json, config));
  model.max_image_pixels = options.max_image_pixels;
  model.sentence.pooling = PoolingKind::kCls;
  model.description.image_height = config.image_height;
  model.description.image_width = config.image_width;
  model.description.patch_height = config.patch_height;
  model.description.patch_width = config.patch_width;
  return absl::OkStatus();
}

// As many blocks as the budget has, but no more than could ever be used.
absl::StatusOr<int32_t> NumBlocks(const KvCacheOptions& cache, const EngineOptions& options,
                                  int64_t max_tokens) {
  const int64_t block_bytes = KvCache::BlockBytes(cache);
  const int64_t affordable = options.kv_cache_bytes / block_bytes;
  if (affordable < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a key-value cache of ", options.kv_cache_bytes,
                     " bytes (--kv_cache_bytes) holds no block; one of ", cache.block_size,
                     " tokens takes ", block_bytes));
  }
  const int64_t useful = (max_tokens + cache.block_size - 1) / cache.block_size *
                         int64_t{options.max_running_sequences};
  return static_cast<int32_t>(std::min({affordable, useful, int64_t{1} << 30}));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Load(
    const ModelSource& source, const Checkpoint& checkpoint, const EngineOptions& options,
    KernelContext& context, std::shared_ptr<LoadedModel> model,
    std::function<void(double)> progress, PackedCache* cache) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(checkpoint.config_json()));
  ModelDescription& description = model->description;
  description.max_tokens = config.max_position_embeddings;
  if (model->sentence.max_tokens.has_value()) {
    description.max_tokens = std::min(description.max_tokens, *model->sentence.max_tokens);
  }
  if (config.num_patches() > 0) RETURN_IF_ERROR(SetImages(checkpoint, config, options, *model));
  if (source.max_tokens.has_value()) {
    // An image is never cut.
    const int32_t least = model->images.has_value() ? description.max_tokens : 1;
    if (*source.max_tokens < least || *source.max_tokens > description.max_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("max_tokens of model \"", source.name, "\" is ", *source.max_tokens,
                       "; the checkpoint allows ", least, " to ", description.max_tokens));
    }
    description.max_tokens = *source.max_tokens;
  }

  ASSIGN_OR_RETURN(const ArchitectureSpec* spec, FindArchitecture(config.model_type));
  const bool is_decoder = spec->stack == Stack::kDecoder;
  const bool has_sources = spec->encoder != nullptr;
  TransformerOptions transformer_options;
  transformer_options.dtype = source.dtype.value_or(DefaultDataType());
  const std::optional<DataType> stored_type =
      source.dtype ? std::nullopt : QuantizedType(checkpoint);
  transformer_options.as_stored = stored_type.has_value();
  // Prompts come in chunks; an encoder's input is computed whole.
  const int32_t max_encoder_tokens = std::max(options.max_batch_tokens, description.max_tokens);
  transformer_options.max_batch_tokens = is_decoder ? options.max_batch_tokens : max_encoder_tokens;
  transformer_options.max_source_tokens = max_encoder_tokens;
  transformer_options.max_logit_rows = options.max_running_sequences;
  transformer_options.strict_kernels = options.strict_kernels;
  ASSIGN_OR_RETURN(
      std::unique_ptr<Transformer> transformer,
      Transformer::Load(checkpoint, transformer_options, context, std::move(progress), cache));

  description.name = source.name;
  description.path = source.path;
  description.architecture = config.model_type;
  description.kind = has_sources ? "encoder-decoder" : is_decoder ? "decoder" : "encoder";
  description.num_parameters = transformer->num_parameters();
  description.dtype = stored_type.value_or(transformer_options.dtype);
  description.weight_bytes = transformer->weight_bytes();
  description.embedding_size = is_decoder && !has_sources ? 0 : config.hidden_size;
  // What requests bring are ids of the source.
  description.vocab_size =
      has_sources ? transformer->encoder()->config().vocab_size : config.vocab_size;
  description.num_layers = config.num_hidden_layers;
  description.num_heads = config.num_attention_heads;
  description.num_key_value_heads = config.num_key_value_heads;
  description.hidden_size = config.hidden_size;
  description.heads = transformer->heads();
  if (model->tokenizer != nullptr)
    description.tokenizer_kind = std::string(model->tokenizer->kind());
  description.default_pooling = ToPooling(model->sentence.pooling);
  description.default_normalize = model->sentence.normalize;
  description.prompts = model->sentence.prompts;
  description.can_encode = !is_decoder || has_sources;
  description.can_generate = is_decoder && transformer->has_language_model_head();
  if (has_sources) {
    description.max_source_tokens =
        std::min({transformer->encoder()->config().max_position_embeddings, max_encoder_tokens,
                  source.max_tokens.value_or(max_encoder_tokens)});
    description.target_vocab_size = config.vocab_size;
    RETURN_IF_ERROR(CheckDecoderStart(model->generation, config.vocab_size));
    if (model->tokenizer != nullptr && model->tokenizer->languages() != nullptr) {
      for (const auto& [language, id] : model->tokenizer->languages()->ids)
        description.languages.push_back(language);
    }
  }
  description.can_fill_mask = transformer->has_head(HeadKind::kMaskedLanguageModel);
  description.can_answer = transformer->has_head(HeadKind::kQuestionAnswering);
  description.labels_tokens = transformer->has_head(HeadKind::kTokenClassification);
  const bool labels_inputs = transformer->has_head(HeadKind::kSequenceClassification);
  description.can_classify = labels_inputs || description.labels_tokens;
  if (description.can_classify) description.labels = config.labels;
  description.can_rank = labels_inputs && config.labels.size() == 1 && !model->images.has_value();
  model->problem_type = config.problem_type;
  model->raw_rank_scores = config.raw_rank_scores;
  model->hidden_size = config.hidden_size;
  model->type_vocab_size = config.type_vocab_size;
  if (has_sources) {
    model->num_encoder_layers = transformer->encoder()->config().num_hidden_layers;
    model->num_encoder_heads = transformer->encoder()->config().num_attention_heads;
  }
  model->max_encode_bytes = options.max_encode_bytes;

  auto runner = std::unique_ptr<ModelRunner>(new ModelRunner(model));
  runner->workspace_bytes_ = transformer->workspace_bytes();
  runner->num_reference_kernels_ = transformer->num_reference_kernels();
  runner->transformer_ = std::move(transformer);
  Transformer& top = *runner->transformer_;
  if (Transformer* encoder = is_decoder ? top.encoder() : &top; encoder != nullptr) {
    runner->encoder_ = std::make_unique<TransformerNetwork>(*encoder, nullptr);
    runner->encode_ =
        std::make_unique<EncodeRunner>(*runner->encoder_, context, options.max_batch_tokens);
  }
  if (is_decoder) {
    RETURN_IF_ERROR(CheckTokenConstraints(model->generation, config.vocab_size));
    KvCacheOptions cache_options = top.cache_options(options.kv_cache_block_size);
    // A sequence may be as long as the model takes, and so may its source, in blocks of its own.
    int64_t max_tokens = description.max_tokens;
    if (has_sources) max_tokens += description.max_source_tokens + cache_options.block_size;
    ASSIGN_OR_RETURN(cache_options.num_blocks, NumBlocks(cache_options, options, max_tokens));
    runner->cache_ = std::make_unique<KvCache>(cache_options);
    description.kv_cache_bytes = runner->cache_->size_bytes();
    runner->decoder_ = std::make_unique<TransformerNetwork>(top, runner->cache_.get());
    GenerateRunnerOptions runner_options;
    runner_options.scheduler.max_batch_tokens = options.max_batch_tokens;
    runner_options.scheduler.max_running_sequences =
        std::min(options.max_running_sequences, options.max_batch_tokens);
    runner_options.target_step_time = options.target_step_time;
    runner_options.num_blocks = cache_options.num_blocks;
    runner_options.block_size = cache_options.block_size;
    runner_options.max_logit_rows = transformer_options.max_logit_rows;
    runner->generate_ =
        std::make_unique<GenerateRunner>(*runner->decoder_, context, runner_options);
    model->generation_limits = {
        .vocab_size = config.vocab_size,
        .context_tokens = description.max_tokens,
        .cache_tokens = int64_t{cache_options.num_blocks} * cache_options.block_size,
        .block_size = cache_options.block_size,
        .source_tokens = description.max_source_tokens,
        .max_new_tokens = options.max_new_tokens,
        .max_beams = std::min(options.max_beams, options.max_running_sequences)};
  }
  runner->PublishStats();
  return runner;
}

void ModelRunner::EndOverdue(absl::Time now) {
  if (encode_ != nullptr) encode_->EndOverdue(now);
  if (generate_ != nullptr) generate_->EndOverdue(now);
}

void ModelRunner::EndAll(const absl::Status& status) {
  if (encode_ != nullptr) encode_->EndAll(status);
  if (generate_ != nullptr) generate_->EndAll(status);
}

bool ModelRunner::Step(absl::FunctionRef<void(const StepReport&)> report) {
  const auto report_named = [&](const StepReport& part) {
    report_ = part;
    report_.model = model_->description.name;
    report(report_);
  };
  bool stepped = false;
  if (StepReport part; encode_ != nullptr && encode_->Step(part)) {
    report_named(part);
    stepped = true;
  }
  if (generate_ != nullptr) stepped |= generate_->Step(report_named);
  return stepped;
}

bool ModelRunner::has_jobs() const {
  return (encode_ != nullptr && encode_->has_jobs()) ||
         (generate_ != nullptr && generate_->has_jobs());
}

absl::Time ModelRunner::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  if (encode_ != nullptr) next = std::min(next, encode_->next_deadline());
  if (generate_ != nullptr) next = std::min(next, generate_->next_deadline());
  return next;
}

void ModelRunner::PublishStats() {
  absl::MutexLock lock(&model_->mutex);
  ModelStats& stats = model_->stats;
  stats.name = model_->description.name;
  stats.weight_bytes = model_->description.weight_bytes;
  stats.kv_cache_bytes = model_->description.kv_cache_bytes;
  stats.requests_running = stats.tokens_waiting = 0;
  if (encode_ != nullptr) {
    stats.requests_running += encode_->num_running();
    stats.tokens_waiting += encode_->num_tokens_waiting();
  }
  if (generate_ != nullptr) {
    stats.requests_running += generate_->num_running();
    stats.tokens_waiting += generate_->num_tokens_waiting();
    stats.kv_cache_usage_ratio = generate_->cache_usage_ratio();
    stats.preemptions = generate_->num_preemptions();
  }
}

}  // namespace attendant::engine
