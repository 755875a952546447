#include "engine/model/workspace.h"

#include <algorithm>

#include "absl/log/check.h"

namespace attendant::engine {

Workspace::Workspace(const ArchitectureSpec& spec, const ModelConfig& config, int32_t max_tokens,
                     int32_t max_source_tokens, int32_t max_logit_rows,
                     bool has_language_model_head)
    : zeros_(spec.Has(WeightRole::kTypeEmbedding) ? max_tokens : 0) {
  int64_t end = 0;
  const auto allot = [&end](int64_t max_rows, int64_t cols) {
    constexpr int64_t kAlignment = 64;
    const int64_t offset = (end + kAlignment - 1) / kAlignment * kAlignment;
    end = offset + max_rows * cols * static_cast<int64_t>(sizeof(float));
    return Region{offset, max_rows, cols};
  };
  const int64_t query = int64_t{config.num_attention_heads} * config.head_dim;
  const int64_t key = int64_t{config.num_key_value_heads} * config.head_dim;
  const int64_t gates = config.gated_feed_forward ? 2 : 1;

  hidden_ = allot(max_tokens, config.hidden_size);
  const int64_t sublayer = end;
  query_key_value_ = allot(max_tokens, query + 2 * key);
  attention_ = allot(max_tokens, query);
  cross_query_ = {query_key_value_.offset_bytes, max_tokens, query};
  const int64_t attention_end = end;
  end = sublayer;
  if (spec.Has(WeightRole::kEmbeddingProjection)) {
    embedding_ = allot(max_tokens, config.embedding_size);
  }
  const int64_t embedding_end = end;
  end = sublayer;
  intermediate_ = allot(max_tokens, gates * config.intermediate_size);
  const int64_t feed_forward_end = end;
  end = sublayer;
  cross_key_value_ = allot(max_source_tokens, 2 * key);
  end = std::max({end, attention_end, feed_forward_end, embedding_end});
  if (has_language_model_head) {
    logit_hidden_ = allot(max_logit_rows, config.hidden_size);
    logits_ = allot(max_logit_rows, config.vocab_size);
  }
  buffer_ = AlignedBuffer(end);
}

Matrix Workspace::View(const Region& region, int32_t num_rows) {
  CHECK_LE(num_rows, region.max_rows) << "a step is larger than the workspace was made for";
  return {reinterpret_cast<float*>(buffer_.data() + region.offset_bytes), num_rows, region.cols};
}

}  // namespace attendant::engine
