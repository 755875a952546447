#ifndef ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
#define ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/kernels/norm.h"

namespace attendant::engine {

// What makes one model differ from another, as data. Numbers come from config.json; what code must
// branch on is here. A variant of a known family is one row of its table in architectures/; a new
// family is one file there, and its line in registry.cc.

enum class Stack : uint8_t { kEncoder, kDecoder };

// After the residual sum (Vaswani et al., 2017), or before each sublayer, and once more at the end.
// kConfig: as norm_first of config.json says.
enum class NormPlacement : uint8_t { kPost, kPre, kConfig };

// What is added to the token embeddings, or done to queries and keys. kNone: nothing; the scores
// may have a relative bias.
enum class PositionKind : uint8_t { kNone, kLearned, kSinusoidal, kRotary };

// How the sines and cosines of a position lie in its row, position_tables.h.
enum class SinusoidKind : uint8_t { kInterleaved, kHalves, kFairseq };

// down(activation(up(x))), or down(activation(gate(x)) * up(x)). kConfig: as feed_forward_proj of
// config.json says ("relu", "gated-gelu").
enum class FeedForwardKind : uint8_t { kPlain, kGated, kConfig };

// Which linear layers add a bias. kConfig: those that attention_bias and mlp_bias of config.json
// say. kStored: those, and the norms, for which the checkpoint has one.
enum class BiasKind : uint8_t { kNever, kAlways, kConfig, kStored };

// How linear weights lie in the checkpoint: as torch.nn.Linear keeps them, or transposed, as
// GPT-2's Conv1D does.
enum class LinearLayout : uint8_t { kOutIn, kInOut };

// The part that a tensor plays. A linear layer or a norm is one role: its bias is found beside it.
enum class WeightRole : uint8_t {
  kTokenEmbedding,
  kPatchEmbedding,     // of images, which have no token embeddings
  kClassToken,         // before an image's patches
  kDistillationToken,  // behind that
  kPositionEmbedding,
  kPositionBuffer,  // a whole tensor's name: positions that would else be computed
  kTypeEmbedding,
  kEmbeddingNorm,
  kEmbeddingProjection,  // from embedding_size to hidden_size, behind the norm
  kRelativeBias,  // one value for each bucket of distances and each head, shared by all layers
  kQuery,
  kKey,
  kValue,
  kQueryKeyValue,  // the three of them in one tensor, in this order
  kAttentionOutput,
  kAttentionNorm,
  kCrossQuery,
  kCrossKey,
  kCrossValue,
  kCrossQueryKeyValue,
  kCrossOutput,
  kCrossNorm,
  kGate,
  kUp,
  kDown,
  kFeedForwardNorm,
  kFinalNorm,
  kLanguageModelHead,
  kLogitsBias,  // a whole tensor's name: [1, vocab_size], if the checkpoint has it
};

// What a checkpoint calls a role, without ".weight" or ".bias" ("weight" and "bias", where the name
// ends in an underscore); "{}" is the layer's number. A role may stand several times: the first of
// its names that the checkpoint has is taken. The tokens and positions of images are tensors by
// themselves, and have neither.
struct WeightName {
  WeightRole role;
  absl::string_view name;

  // A checkpoint without it computes without it, or from what takes its place.
  bool optional = false;
};

// What config.json calls a size. Alternatives are parted by '|': the first that is there is read.
// An empty key is never there.
struct ConfigKeys {
  absl::string_view vocab_size = "vocab_size";
  absl::string_view hidden_size = "hidden_size";
  absl::string_view num_hidden_layers = "num_hidden_layers";
  absl::string_view num_attention_heads = "num_attention_heads";
  absl::string_view num_key_value_heads = "";  // as many as there are queries' heads
  absl::string_view head_dim = "";             // hidden_size / num_attention_heads
  absl::string_view embedding_size = "";       // hidden_size
  absl::string_view num_hidden_groups = "";    // as many as there are layers
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

// What a head says of the hidden states.
enum class HeadKind : uint8_t {
  kMaskedLanguageModel,     // of a token: a logit for each token that could stand there
  kSequenceClassification,  // of an input, by its first token: a logit for each label
  kTokenClassification,     // of a token: a logit for each label
  kQuestionAnswering,       // of a token: that the answer starts there, and that it ends there
};

// Between a head's transform and what follows. kConfig: what config.json says for the layers.
enum class HeadActivation : uint8_t { kConfig, kGelu, kRelu, kTanh };

// A head that a checkpoint may carry beside the stack, known by one of its tensors. What it
// computes is output(norm(activation(transform(x)))), where transform and norm may be absent. Names
// are without ".weight" and ".bias", and stand in the checkpoint as they are or behind the prefix.
struct HeadSpec {
  absl::string_view name;
  absl::string_view tensor;

  // Where two heads share a tensor's name: a part of the class in config.json's `architectures`
  // that tells them apart.
  absl::string_view class_part = "";

  // Unset: the head is named, and not computed.
  std::optional<HeadKind> kind = std::nullopt;
  absl::string_view output = "";
  absl::string_view transform = "";
  HeadActivation activation = HeadActivation::kConfig;
  absl::string_view norm = "";

  // Where the output's bias is not found beside it: the whole name of its tensor. A masked language
  // model's output may be absent itself: it is then tied to the token embeddings.
  absl::string_view output_bias = "";

  // Another output, for the next token: logits are the mean of both.
  absl::string_view second_output = "";
};

// An encoder-decoder is a decoder's row that names its encoder's, a row of its own that is read
// from the same config.json and checkpoint.
struct ArchitectureSpec {
  absl::string_view model_type;
  Stack stack = Stack::kEncoder;
  NormPlacement norm_placement = NormPlacement::kPost;
  NormKind norm = NormKind::kLayerNorm;
  PositionKind position = PositionKind::kLearned;
  FeedForwardKind feed_forward = FeedForwardKind::kPlain;
  BiasKind bias = BiasKind::kAlways;
  LinearLayout linear_layout = LinearLayout::kOutIn;

  const ArchitectureSpec* encoder = nullptr;

  SinusoidKind sinusoid = SinusoidKind::kInterleaved;

  // The first rows of the position table that no token reads.
  int32_t position_offset = 0;

  // Whether max_position_embeddings of config.json counts those rows.
  bool counts_position_offset = false;

  // Whether scores are multiplied by 1/sqrt(head_dim).
  bool scaled_scores = true;

  // When config.json does not say whether token embeddings are multiplied by sqrt(hidden_size).
  bool scale_embedding = false;

  // Whether a tied head's logits are multiplied by 1/sqrt(hidden_size).
  bool scale_tied_logits = false;

  // When config.json does not say; it must where these are empty or 0.
  absl::string_view activation = "";
  float norm_eps = 0;
  int32_t max_position_embeddings = 0;

  // When config.json does not say; only a decoder's head is ever tied.
  bool tie_word_embeddings = true;

  // Stands before every name but the heads', or is absent: a bare model was saved without its task.
  absl::string_view prefix;

  absl::Span<const WeightName> weight_names;

  // The roles of `weight_names` that this row of the family lacks.
  absl::Span<const WeightRole> absent_roles;
  absl::Span<const HeadSpec> heads;

  // A part of the class, in config.json's `architectures`, that has the language-model head.
  absl::string_view language_model_class = "ForCausalLM";

  ConfigKeys config_keys;
  absl::Span<const FixedSetting> fixed_settings;

  // Whether the architecture has such weights, all of its checkpoints or some.
  constexpr bool Has(WeightRole role) const {
    for (WeightRole absent : absent_roles) {
      if (absent == role) return false;
    }
    for (const WeightName& weight : weight_names) {
      if (weight.role == role) return true;
    }
    return false;
  }
};

// The row of a model_type. UNIMPLEMENTED names it and lists those that are known.
absl::StatusOr<const ArchitectureSpec*> FindArchitecture(absl::string_view model_type);

// Every known model_type, sorted.
std::vector<absl::string_view> KnownModelTypes();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_ARCHITECTURE_H_
