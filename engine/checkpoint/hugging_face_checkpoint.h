#ifndef ATTENDANT_ENGINE_CHECKPOINT_HUGGING_FACE_CHECKPOINT_H_
#define ATTENDANT_ENGINE_CHECKPOINT_HUGGING_FACE_CHECKPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace attendant::engine {

// A folder with config.json and model.safetensors, or with model.safetensors.index.json and the
// shards that it names. The index must be exact: each tensor in the shard it names, and none that
// it does not name.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFaceCheckpoint(const std::string& folder);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_HUGGING_FACE_CHECKPOINT_H_
