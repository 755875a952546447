#ifndef ATTENDANT_ENGINE_CHECKPOINT_GGUF_CHECKPOINT_H_
#define ATTENDANT_ENGINE_CHECKPOINT_GGUF_CHECKPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/gguf_file.h"

namespace attendant::engine {

// A GGUF file of the architecture "llama", seen as the Hugging Face model that it was made from.
// UNIMPLEMENTED for other architectures, and for what no Hugging Face Llama has (experts, partial
// rotation).
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path);

// The same for a file that is open already.
absl::StatusOr<std::unique_ptr<Checkpoint>> MakeGgufCheckpoint(GgufFile file);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_GGUF_CHECKPOINT_H_
