#ifndef ATTENDANT_ENGINE_MODEL_MODEL_CONFIG_H_
#define ATTENDANT_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/kernels/activation.h"
#include "engine/model/architecture.h"

namespace attendant::engine {

// How rotary frequencies are stretched beyond the trained context: "rope_scaling" of config.json.
struct RopeScaling {
  enum class Kind : uint8_t { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  float factor = 1.0f;
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  int32_t original_max_position_embeddings = 0;
};

// "problem_type" of config.json: what the scores of a classifier's labels are. kUnset: a sigmoid
// for one label, and else a softmax.
enum class ProblemType : uint8_t { kUnset, kRegression, kSingleLabel, kMultiLabel };

// The sizes of one stack of a model, by the names that config.json gives them (a family's own
// spellings, such as GPT-2's n_embd, are settled by its architecture).
struct ModelConfig {
  std::string model_type;
  std::vector<std::string> architectures;  // the classes it was saved from: "LlamaForCausalLM"
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t embedding_size = 0;  // of all embedding tables; hidden_size unless they are projected
  int32_t num_hidden_layers = 0;
  int32_t num_hidden_groups = 0;  // layers that share their weights are one group
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate_size = 0;
  int32_t max_position_embeddings = 0;  // that tokens can have
  int32_t type_vocab_size = 0;
  float norm_eps = 1e-12f;  // layer_norm_eps, layer_norm_epsilon or rms_norm_eps
  float rope_theta = 10000.0f;
  RopeScaling rope_scaling;
  Activation activation = Activation::kGeluErf;
  bool norm_first = false;          // before the sublayers, not after the sums
  bool gated_feed_forward = false;  // down(activation(gate(x)) * up(x))
  bool scale_embedding = false;     // token embeddings times sqrt(hidden_size)
  bool scale_logits = false;        // logits over sqrt(hidden_size)
  int32_t relative_attention_num_buckets = 0;
  int32_t relative_attention_max_distance = 0;
  bool tie_word_embeddings = true;
  std::vector<std::string> labels;  // id2label, else LABEL_0 ...; encoders only
  ProblemType problem_type = ProblemType::kUnset;
  bool raw_rank_scores = false;  // a cross-encoder's scores are its logits, not their sigmoid
  bool attention_bias = false;
  bool mlp_bias = false;

  // Of image models, for which vocab_size is 0 and max_position_embeddings the number of patches
  // and of the tokens before them.
  int32_t image_height = 0;  // in pixels
  int32_t image_width = 0;
  int32_t patch_height = 0;
  int32_t patch_width = 0;

  int32_t num_patches() const {
    return patch_height == 0 ? 0 : (image_height / patch_height) * (image_width / patch_width);
  }
};

// Reads and checks the contents of config.json. Every size is within bounds that keep products of
// sizes within 63 bits. INVALID_ARGUMENT names field, value and limit; UNIMPLEMENTED a model_type,
// an activation, a kind of rope_scaling or another setting that is not built.
//
// The first form reads the row of the file's model_type: of an encoder-decoder, its decoder.
absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view config_json);
absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view config_json,
                                            const ArchitectureSpec& spec);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_MODEL_CONFIG_H_
