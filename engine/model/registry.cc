#include <algorithm>
#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/architecture.h"
#include "engine/model/architectures/families.h"

namespace attendant::engine {
namespace {

std::array<absl::Span<const ArchitectureSpec>, 10> Families() {
  return {AlbertFamily(), BartFamily(),    BertFamily(), DistilBertFamily(),  GptFamily(),
          LlamaFamily(),  RobertaFamily(), T5Family(),   TransformerFamily(), VitFamily()};
}

}  // namespace

absl::StatusOr<const ArchitectureSpec*> FindArchitecture(absl::string_view model_type) {
  for (absl::Span<const ArchitectureSpec> family : Families()) {
    for (const ArchitectureSpec& spec : family) {
      if (spec.model_type == model_type) return &spec;
    }
  }
  return absl::UnimplementedError(absl::StrCat(
      "model_type \"", model_type,
      "\" is not one of those that are built: ", absl::StrJoin(KnownModelTypes(), ", ")));
}

std::vector<absl::string_view> KnownModelTypes() {
  std::vector<absl::string_view> types;
  for (absl::Span<const ArchitectureSpec> family : Families()) {
    for (const ArchitectureSpec& spec : family) types.push_back(spec.model_type);
  }
  std::sort(types.begin(), types.end());
  return types;
}

}  // namespace attendant::engine
