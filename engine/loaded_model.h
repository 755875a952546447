#ifndef ATTENDANT_ENGINE_LOADED_MODEL_H_
#define ATTENDANT_ENGINE_LOADED_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/generation_config.h"
#include "engine/image/image_processor.h"
#include "engine/model/model_config.h"
#include "engine/model/pooling.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// What every thread may know of a loaded model. Its weights belong to the engine's thread. All but
// the counters at the end are constant once the model is loaded.
struct LoadedModel {
  ModelDescription description;
  std::unique_ptr<Tokenizer> tokenizer;         // null if the checkpoint has none
  std::unique_ptr<Tokenizer> target_tokenizer;  // of what is generated; null if that is `tokenizer`
  SentenceConfig sentence;
  GenerationConfig generation;
  GenerationLimits generation_limits;
  int32_t hidden_size = 0;
  int32_t type_vocab_size = 0;
  // Of an encoder-decoder's encoder, else 0; the description has the decoder's.
  int32_t num_encoder_layers = 0, num_encoder_heads = 0;
  int64_t max_encode_bytes = 0;          // of one request's results
  std::optional<ImageProcessor> images;  // of a model that reads images, and these alone
  int64_t max_image_pixels = 0;          // of one image
  ProblemType problem_type = ProblemType::kUnset;
  bool raw_rank_scores = false;          // Rank's scores are logits
  std::optional<int32_t> mask_token_id;  // of the tokenizer

  // Requests that were taken and have not ended.
  std::atomic<int64_t> num_in_flight{0};

  absl::Mutex mutex;
  ModelStats stats ABSL_GUARDED_BY(mutex);  // as of the last step
};

// Counts a request as in flight while it lives, and keeps its model.
class InFlight {
 public:
  explicit InFlight(std::shared_ptr<LoadedModel> model) : model_(std::move(model)) {
    model_->num_in_flight.fetch_add(1);
  }
  InFlight(InFlight&& other) noexcept = default;
  InFlight& operator=(InFlight&&) = delete;
  ~InFlight() {
    if (model_ != nullptr) model_->num_in_flight.fetch_sub(1);
  }

  LoadedModel& model() const { return *model_; }

 private:
  std::shared_ptr<LoadedModel> model_;
};

// The tokenizer of a checkpoint: what a GGUF file carries, or what ReadSourceTokenizer of
// tokenizer_folder.h finds in a folder; null if there is none.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint);

// The tokenizer of what an encoder-decoder writes; null if that is the one of its sources.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTargetTokenizer(const Checkpoint& checkpoint);

// The tokenizer of what the model writes; null if there is none.
const Tokenizer* OutputTokenizer(const LoadedModel& model);

// The id of the mask token: tokenizer_config.json or special_tokens_map.json name it, or it is
// "[MASK]" or "<mask>". Nothing if the tokenizer has none of these.
absl::StatusOr<std::optional<int32_t>> ReadMaskToken(const Checkpoint& checkpoint,
                                                     const Tokenizer& tokenizer);

// FAILED_PRECONDITION that says what the model serves instead.
absl::Status CheckCanEncode(const ModelDescription& model);
absl::Status CheckCanGenerate(const ModelDescription& model);

// OK if the model `can` serve `rpc`, else FAILED_PRECONDITION that lists the heads it has.
absl::Status CheckHasHead(const ModelDescription& model, bool can, absl::string_view rpc);

// OK, or FAILED_PRECONDITION: text needs a tokenizer.
absl::Status CheckHasTokenizer(const LoadedModel& model);

// OK, or INVALID_ARGUMENT naming the first of `ids` that is outside the vocabulary.
absl::Status CheckTokenIds(const LoadedModel& model, absl::Span<const int32_t> ids);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_LOADED_MODEL_H_
