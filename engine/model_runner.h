#ifndef ATTENDANT_ENGINE_MODEL_RUNNER_H_
#define ATTENDANT_ENGINE_MODEL_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_cache.h"
#include "engine/encode_runner.h"
#include "engine/engine.h"
#include "engine/generate_runner.h"
#include "engine/kernels/kernel_context.h"
#include "engine/loaded_model.h"
#include "engine/network.h"

namespace attendant::engine {

// A loaded model as the engine's thread has it: its weights, and what runs its requests.
class ModelRunner {
 public:
  // Packs the weights of `checkpoint`, or takes them from `cache`, unless it is null, calling
  // `progress` between tensors, and completes `model`, which has its tokenizer and the
  // configurations already. Errors as Transformer::Load;
  // INVALID_ARGUMENT if the cache is too small for one block; RESOURCE_EXHAUSTED if there is no
  // memory.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Load(
      const ModelSource& source, const Checkpoint& checkpoint, const EngineOptions& options,
      KernelContext& context, std::shared_ptr<LoadedModel> model,
      std::function<void(double)> progress, PackedCache* cache);

  LoadedModel& model() { return *model_; }
  Transformer& transformer() { return *transformer_; }
  EncodeRunner* encode() { return encode_.get(); }        // if there is an encoder, else null
  GenerateRunner* generate() { return generate_.get(); }  // if there is a decoder, else null

  void EndOverdue(absl::Time now);
  void EndAll(const absl::Status& status);

  // A step of each kind that has something to compute; false if there was none. Reports each.
  bool Step(absl::FunctionRef<void(const StepReport&)> report);

  bool has_jobs() const;
  absl::Time next_deadline() const;

  // Writes the model's stats where every thread may read them.
  void PublishStats();

  int64_t workspace_bytes() const { return workspace_bytes_; }
  int32_t num_reference_kernels() const { return num_reference_kernels_; }

 private:
  explicit ModelRunner(std::shared_ptr<LoadedModel> model) : model_(std::move(model)) {}

  const std::shared_ptr<LoadedModel> model_;
  std::unique_ptr<Transformer> transformer_;  // an encoder, or a decoder, perhaps with its encoder
  std::unique_ptr<KvCache> cache_;            // null without a decoder
  std::unique_ptr<Network> encoder_;          // views of a stack, null without one
  std::unique_ptr<Network> decoder_;
  std::unique_ptr<EncodeRunner> encode_;
  std::unique_ptr<GenerateRunner> generate_;
  StepReport report_;  // of the step that is reported, kept for the memory of the model's name
  int64_t workspace_bytes_ = 0;
  int32_t num_reference_kernels_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_RUNNER_H_
