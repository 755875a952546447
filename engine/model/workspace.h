#ifndef ATTENDANT_ENGINE_MODEL_WORKSPACE_H_
#define ATTENDANT_ENGINE_MODEL_WORKSPACE_H_

#include <cstdint>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/kernels/attention.h"
#include "engine/model/architecture.h"
#include "engine/model/model_config.h"

namespace attendant::engine {

// The activations of one step, sized once for the largest there may be: a step allocates nothing.
// Each method gives the same memory every time, viewed with the number of rows that the step has.
class Workspace {
 public:
  // `max_source_tokens` is 0 but for the decoder of an encoder-decoder.
  Workspace(const ArchitectureSpec& spec, const ModelConfig& config, int32_t max_tokens,
            int32_t max_source_tokens, int32_t max_logit_rows, bool has_language_model_head);

  int64_t size_bytes() const { return static_cast<int64_t>(buffer_.size_bytes()); }

  // The residual stream: what the layers read, add to, and hand on.
  Matrix hidden(int32_t num_tokens) { return View(hidden_, num_tokens); }
  // The embeddings, where they are projected onto it; in the memory of the sublayers.
  Matrix embedding(int32_t num_tokens) { return View(embedding_, num_tokens); }
  // Inside the attention sublayer.
  Matrix query_key_value(int32_t num_tokens) { return View(query_key_value_, num_tokens); }
  Matrix attention(int32_t num_tokens) { return View(attention_, num_tokens); }
  // Inside the cross-attention sublayer, in the same memory; the second while sources are encoded,
  // when no layer runs.
  Matrix cross_query(int32_t num_tokens) { return View(cross_query_, num_tokens); }
  Matrix cross_key_value(int32_t num_tokens) { return View(cross_key_value_, num_tokens); }
  // Inside the feed-forward sublayer, in the memory that attention no longer needs.
  Matrix intermediate(int32_t num_tokens) { return View(intermediate_, num_tokens); }
  // The same memory, of which this takes half.
  BFloat16Matrix bfloat16_intermediate(int32_t num_tokens) {
    const Matrix values = intermediate(num_tokens);
    return {reinterpret_cast<uint16_t*>(values.data), values.rows, values.cols};
  }

  // The rows whose logits are wanted, and the logits.
  Matrix logit_hidden(int32_t num_rows) { return View(logit_hidden_, num_rows); }
  Matrix logits(int32_t num_rows) { return View(logits_, num_rows); }

  // As many zeros as there may be tokens: the segments of a batch that names none.
  absl::Span<const int32_t> zeros() const { return zeros_; }

 private:
  struct Region {
    int64_t offset_bytes = 0;
    int64_t max_rows = 0;
    int64_t cols = 0;
  };

  Matrix View(const Region& region, int32_t num_rows);

  Region hidden_, query_key_value_, attention_, cross_query_, cross_key_value_;
  Region embedding_, intermediate_, logit_hidden_, logits_;
  AlignedBuffer buffer_;
  std::vector<int32_t> zeros_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_WORKSPACE_H_
