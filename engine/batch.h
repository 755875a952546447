#ifndef ATTENDANT_ENGINE_BATCH_H_
#define ATTENDANT_ENGINE_BATCH_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace attendant::engine {

// One sequence's share of a Batch: rows [query_start, query_start + num_queries) of every
// activation.
struct BatchSequence {
  int32_t query_start = 0;
  int32_t num_queries = 0;

  // Tokens of this sequence that are already in the KV cache. 0 for an encoder.
  int32_t num_past_tokens = 0;

  // The cache blocks of the sequence, in order, with room for num_past_tokens + num_queries tokens;
  // owned by the scheduler, valid for this step. Empty for an encoder, whose keys are the batch's
  // own rows.
  absl::Span<const int32_t> blocks;

  // Of an encoder-decoder: the cache blocks of the keys and values that cross-attention reads,
  // those of the encoder's states of num_source_tokens tokens. Where sources are encoded, the
  // blocks that they are written to.
  absl::Span<const int32_t> source_blocks;
  int32_t num_source_tokens = 0;

  // Of an image: the values of its patches, [patches, 3 * patch height * patch width], whose rows
  // are the sequence's last; owned by the request, valid for this step.
  absl::Span<const float> patches;
};

// What one step computes: the tokens of several sequences, end to end, never padded.
struct Batch {
  std::vector<int32_t> token_ids;  // [num_tokens], each within the vocabulary; 0 for image rows
  std::vector<int32_t> positions;  // [num_tokens], counted from 0 within each sequence
  std::vector<int32_t> type_ids;   // [num_tokens], or empty: all 0
  std::vector<BatchSequence> sequences;

  // The rows whose logits are wanted, ascending; decoders only.
  std::vector<int32_t> logit_rows;

  // The sequences, ascending, whose last token's attention over their source is wanted; of
  // encoder-decoders only.
  std::vector<int32_t> aligned_sequences;

  // Cache blocks (from, to) that are copied, in this order, before anything else is done.
  std::vector<std::pair<int32_t, int32_t>> block_copies;

  int32_t num_tokens() const { return static_cast<int32_t>(token_ids.size()); }

  // Empties the batch and keeps its memory.
  void Clear() {
    token_ids.clear();
    positions.clear();
    type_ids.clear();
    sequences.clear();
    logit_rows.clear();
    aligned_sequences.clear();
    block_copies.clear();
  }
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BATCH_H_
