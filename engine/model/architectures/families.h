#ifndef ATTENDANT_ENGINE_MODEL_ARCHITECTURES_FAMILIES_H_
#define ATTENDANT_ENGINE_MODEL_ARCHITECTURES_FAMILIES_H_

#include "absl/types/span.h"
#include "engine/model/architecture.h"

namespace attendant::engine {

// The rows of each family; registry.cc puts them together.
absl::Span<const ArchitectureSpec> AlbertFamily();
absl::Span<const ArchitectureSpec> BartFamily();
absl::Span<const ArchitectureSpec> BertFamily();
absl::Span<const ArchitectureSpec> DistilBertFamily();
absl::Span<const ArchitectureSpec> GptFamily();
absl::Span<const ArchitectureSpec> LlamaFamily();
absl::Span<const ArchitectureSpec> RobertaFamily();
absl::Span<const ArchitectureSpec> T5Family();
absl::Span<const ArchitectureSpec> TransformerFamily();
absl::Span<const ArchitectureSpec> VitFamily();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_ARCHITECTURES_FAMILIES_H_
