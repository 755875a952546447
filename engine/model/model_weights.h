#ifndef ATTENDANT_ENGINE_MODEL_MODEL_WEIGHTS_H_
#define ATTENDANT_ENGINE_MODEL_MODEL_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_cache.h"
#include "engine/kernels/embedding.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/model/architecture.h"
#include "engine/model/model_config.h"

namespace attendant::engine {

// The weights of one stack as the step reads them. How the checkpoint stored them - transposed,
// fused or apart, tied, under older names - is settled here; Transformer has one case.

struct NormWeights {
  std::vector<float> weight;  // [hidden_size]
  std::vector<float> bias;    // the same, or empty
};

struct LayerWeights {
  // [(num_attention_heads + 2 * num_key_value_heads) * head_dim, hidden_size]: queries, then keys,
  // then values.
  Linear query_key_value;
  Linear attention_output;
  NormWeights attention_norm;

  // Cross-attention, of an encoder-decoder's decoder: queries [num_attention_heads * head_dim,
  // hidden_size] from the target; keys, then values, [2 * num_key_value_heads * head_dim,
  // hidden_size] from the source.
  struct Cross {
    Linear query;
    Linear key_value;
    Linear output;
    NormWeights norm;
  };
  std::optional<Cross> cross;

  // [intermediate_size, hidden_size], or twice the rows: those of the gate, then those of up.
  Linear up;
  Linear down;
  NormWeights feed_forward_norm;
};

// A head as its HeadSpec describes it.
struct HeadWeights {
  HeadKind kind = HeadKind::kMaskedLanguageModel;
  std::optional<Linear> transform;  // its activation included, unless it is tanh
  bool has_tanh = false;            // behind the transform
  std::optional<NormWeights> norm;
  Linear output;
};

struct ModelWeights {
  EmbeddingTable token_embedding;         // of an image model, the tokens before the patches
  std::optional<Linear> patch_embedding;  // [hidden_size, 3 * patch height * patch width]
  std::optional<EmbeddingTable> position_embedding;
  std::optional<EmbeddingTable> type_embedding;
  std::optional<NormWeights> embedding_norm;
  std::optional<Linear> embedding_projection;  // [hidden_size, embedding_size]
  std::vector<float> relative_bias;            // RelativeBiasByDistance; empty without
  std::vector<LayerWeights> layers;            // one for each group of layers that share them
  std::optional<NormWeights> final_norm;
  std::optional<Linear> language_model_head;
  std::vector<HeadWeights> heads;  // of the kinds that are computed

  int64_t num_parameters = 0;  // a tied head counts once
  int64_t packed_bytes = 0;
  int32_t num_reference_kernels = 0;  // linear layers for which oneDNN has only reference code

  // The weights of layer `index` of `num_hidden_layers`: groups follow each other, as even in size
  // as may be.
  const LayerWeights& Layer(int32_t index, int32_t num_hidden_layers) const {
    return layers[int64_t{index} * static_cast<int64_t>(layers.size()) / num_hidden_layers];
  }
};

// What most of a checkpoint's matrices are stored in, as LinearOptions has types: kInt4 or kInt8
// for one that was quantized, of about so many bits; else nothing.
std::optional<DataType> QuantizedType(const Checkpoint& checkpoint);

struct LoadWeightsOptions {
  // Of linear layers, as LinearOptions has it. Heads, whose outputs are what a model says, have 8
  // bits at least; token embeddings are in ActivationType(dtype), or share the weights of a
  // quantized head that is tied to them.
  //
  // Matrices that are stored in as few bits or fewer, in groups that the kernels know, are kept as
  // they are.
  DataType dtype = DataType::kFloat32;
  // Every matrix that is stored in integers keeps its bits, whatever `dtype`, which the others get.
  bool as_stored = false;
  bool strict_kernels = false;  // refuse oneDNN's reference code
};

// Checks the name and shape of every tensor that the model needs, and only then packs them, one at
// a time: the memory this takes is that of the result and of one tensor as floats (two, where it
// must be transposed). Tensors that the model does not need are ignored. `progress` is called with
// values that rise to 1. INVALID_ARGUMENT names file, tensor and expectation.
//
// Of a `cache` that has them, matrices are taken instead, and only what is small - norms, biases -
// is read; any error may then be the cache's. Of another, it keeps what is packed.
absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                         const ModelConfig& config,
                                         const LoadWeightsOptions& options, KernelContext& context,
                                         const std::function<void(double)>& progress = nullptr,
                                         PackedCache* cache = nullptr);

// The heads, of those that the row of config's model_type names, whose tensors the checkpoint
// carries, sorted: "lm", "masked_lm", "pooler", "question_answering", "sequence_classification",
// "token_classification". A decoder whose head is tied to its embeddings has "lm".
std::vector<std::string> FindHeads(const Checkpoint& checkpoint, const ArchitectureSpec& spec,
                                   const ModelConfig& config);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_MODEL_WEIGHTS_H_
