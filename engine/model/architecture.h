#ifndef ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
#define ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attendant::engine {

// What makes one model differ from another, as data. Numbers come from config.json; what code must
// branch on is here. A variant of a known family is one row of its table in architectures/; a new
// family is one file there, and its line in registry.cc.

enum class Stack : uint8_t { kEncoder, kDecoder };

// After the residual sum (Vaswani et al., 2017), or before each sublayer, and once more at the end.
enum class NormPlacement : uint8_t { kPost, kPre };

enum class NormKind : uint8_t { kLayerNorm, kRmsNorm };
enum class PositionKind : uint8_t { kLearned, kRotary };

// down(activation(up(x))), or down(activation(gate(x)) * up(x)).
enum class FeedForwardKind : uint8_t { kPlain, kGated };

// Which linear layers add a bias. kConfig: those that attention_bias and mlp_bias of config.json
// say.
enum class BiasKind : uint8_t { kAlways, kConfig };

// How linear weights lie in the checkpoint: as torch.nn.Linear keeps them, or transposed, as
// GPT-2's Conv1D does.
enum class LinearLayout : uint8_t { kOutIn, kInOut };

// The part that a tensor plays. A linear layer or a norm is one role: its bias is found beside it.
enum class WeightRole : uint8_t {
  kTokenEmbedding,
  kPositionEmbedding,
  kTypeEmbedding,
  kEmbeddingNorm,
  kQuery,
  kKey,
  kValue,
  kQueryKeyValue,  // the three of them in one tensor, in this order
  kAttentionOutput,
  kAttentionNorm,
  kGate,
  kUp,
  kDown,
  kFeedForwardNorm,
  kFinalNorm,
  kLanguageModelHead,
};

// What a checkpoint calls a role, without ".weight" or ".bias"; "{}" is the layer's number.
struct WeightName {
  WeightRole role;
  absl::string_view name;
};

// What config.json calls a size.
struct ConfigKeys {
  absl::string_view hidden_size = "hidden_size";
  absl::string_view num_hidden_layers = "num_hidden_layers";
  absl::string_view num_attention_heads = "num_attention_heads";
  absl::string_view intermediate_size = "intermediate_size";
  absl::string_view max_position_embeddings = "max_position_embeddings";
  absl::string_view norm_eps = "layer_norm_eps";
  absl::string_view activation = "hidden_act";
};

// A setting that changes what the model computes, and the only value of it that is built; an absent
// setting has this value.
struct FixedSetting {
  absl::string_view key;
  absl::string_view json_value;
};

// A head that a checkpoint may carry beside the stack, known by one of its tensors.
struct HeadTensor {
  absl::string_view head;
  absl::string_view tensor;

  // Where two heads share a tensor's name: a part of the class in config.json's `architectures`
  // that tells them apart.
  absl::string_view class_part = "";
};

struct ArchitectureSpec {
  absl::string_view model_type;
  Stack stack = Stack::kEncoder;
  NormPlacement norm_placement = NormPlacement::kPost;
  NormKind norm = NormKind::kLayerNorm;
  PositionKind position = PositionKind::kLearned;
  FeedForwardKind feed_forward = FeedForwardKind::kPlain;
  BiasKind bias = BiasKind::kAlways;
  LinearLayout linear_layout = LinearLayout::kOutIn;

  // When config.json does not say; only a decoder's head is ever tied.
  bool tie_word_embeddings = true;

  // Stands before every name but the heads', or is absent: a bare model was saved without its task.
  absl::string_view prefix;

  absl::Span<const WeightName> weight_names;
  absl::Span<const HeadTensor> heads;

  // A part of the class, in config.json's `architectures`, that has the language-model head.
  absl::string_view language_model_class = "ForCausalLM";

  ConfigKeys config_keys;
  absl::Span<const FixedSetting> fixed_settings;

  // The name of `role`; empty if the architecture has no such weights.
  constexpr absl::string_view NameOf(WeightRole role) const {
    for (const WeightName& weight : weight_names) {
      if (weight.role == role) return weight.name;
    }
    return {};
  }
  constexpr bool Has(WeightRole role) const { return !NameOf(role).empty(); }
};

// The row of a model_type. UNIMPLEMENTED names it and lists those that are known.
absl::StatusOr<const ArchitectureSpec*> FindArchitecture(absl::string_view model_type);

// Every known model_type, sorted.
std::vector<absl::string_view> KnownModelTypes();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
