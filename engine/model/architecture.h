#ifndef ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
#define ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attendant::engine {

// What makes one model differ from another, as data. Numbers come from config.json; what code must branch on is here.
// A variant of a known family is one row of its table in architectures/; a new family is one file.

enum class Stack : uint8_t { kEncoder, kDecoder };
enum class NormPlacement : uint8_t { kPost, kPre };  // after the residual sum (2017), or before each sublayer
enum class NormKind : uint8_t { kLayerNorm, kRmsNorm };
enum class PositionKind : uint8_t { kLearned, kRotary };

// The implementer (engine/model) completes this: feed-forward kind, biases, weight names by role, storage differences
// (transposed Conv1D, fused qkv), config spellings.
struct ArchitectureSpec {
  absl::string_view model_type;
  Stack stack = Stack::kEncoder;
  NormPlacement norm_placement = NormPlacement::kPost;
  NormKind norm = NormKind::kLayerNorm;
  PositionKind position = PositionKind::kLearned;
};

// The row of a model_type. UNIMPLEMENTED names it and lists those that are known.
absl::StatusOr<const ArchitectureSpec*> FindArchitecture(absl::string_view model_type);

// Every known model_type, sorted.
std::vector<absl::string_view> KnownModelTypes();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
