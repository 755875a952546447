#ifndef ATTENDANT_ENGINE_KERNELS_ATTENTION_H_
#define ATTENDANT_ENGINE_KERNELS_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "absl/types/span.h"
#include "engine/base/data_type.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

// A bias by distance, added to scaled scores: that of head h, a query at position p and a key at
// position p + d is data[h * (2 * max_distance + 1) + max_distance + d]. Positions are those that
// `causal` speaks of below: the last query's is the last key's. It costs O(distances), not
// O(queries * keys). No key may lie farther than max_distance from a query. No data: no bias.
struct RelativeBias {
  const float* data = nullptr;  // [num_heads, 2 * max_distance + 1]
  int32_t max_distance = 0;
};

// Scaled dot-product attention, softmax(Q Kᵀ scale + mask) V (Vaswani et al., "Attention Is All You
// Need", 2017), in blocks of queries and keys with a running softmax (Dao et al., "FlashAttention",
// 2022; Milakov and Gimelshein, 2018), so that scores never exist as a whole: memory is O(tokens).
struct AttentionOptions {
  int32_t num_heads = 1;
  int32_t num_key_value_heads =
      1;  // divides num_heads; query head h reads key head h / (num_heads / this)
  int32_t head_dim = 0;
  float scale = 1.0f;

  // Query i of n queries over m keys sees keys j <= i + (m - n): the last query sees every key.
  bool causal = false;

  // With causal: only the last `sliding_window` of those keys, its own included. Without: keys
  // nearer than that on either side. No limit by default.
  int32_t sliding_window = std::numeric_limits<int32_t>::max();

  RelativeBias relative_bias;

  // What products are computed in: kFloat32, or kBFloat16 where the machine multiplies it, else
  // float (sums and softmax are always float).
  DataType dtype = DataType::kFloat32;
};

// One sequence, in rows of packed matrices. Heads lie side by side in a row: [num_heads *
// head_dim].
struct AttentionSequence {
  int32_t query_start = 0;
  int32_t num_queries = 0;
  int32_t key_start = 0;  // not for paged keys
  int32_t num_keys = 0;
  absl::Span<const int32_t>
      blocks;  // paged keys: the sequence's cache blocks, room for num_keys tokens
};

// Keys and values in cache blocks: key t of a sequence is row t % block_size of its block t /
// block_size. A block of one layer is [num_key_value_heads, block_size, head_dim]; block b starts
// at b * block_stride values.
struct PagedKeysValues {
  DataType dtype = DataType::kFloat32;  // or kBFloat16
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  int32_t block_size = 0;
  int64_t block_stride = 0;  // in values
};

// q [num_tokens, num_heads * head_dim], k and v [num_keys, num_key_value_heads * head_dim], out as
// q. Sequences do not overlap. A query without keys gives zeros.
void Attention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
               ConstMatrix k, ConstMatrix v, absl::Span<const AttentionSequence> sequences,
               Matrix out);

// Stores rows of k and v [num_tokens, num_key_value_heads * head_dim] into the sequences' blocks:
// row query_start + i is token num_keys - num_queries + i.
void StoreKeysValues(KernelContext& context, const AttentionOptions& options, ConstMatrix k,
                     ConstMatrix v, absl::Span<const AttentionSequence> sequences,
                     const PagedKeysValues& cache);

// Attention of q over cached keys, those of the queries' own tokens included (they were stored
// before). The products of a few queries (decoding) are always in float.
void PagedAttention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                    const PagedKeysValues& cache, absl::Span<const AttentionSequence> sequences,
                    Matrix out);

// The mean over the heads of what single queries give to cached keys: row i of out,
// [sequences.size(), at least the most keys], gets the num_keys weights of sequence i, whose one
// query is row query_start of q and sees all of its keys.
void PagedMeanWeights(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                      const PagedKeysValues& cache, absl::Span<const AttentionSequence> sequences,
                      Matrix out);

// An additive mask: bias of the sequence's query i (counted from 0, not from first_query) and key j
// of head h at data[h * head_stride + i * query_stride + j * key_stride]; a stride of 0 broadcasts.
// -infinity masks. No data: no mask. Not with a relative bias.
struct AttentionBias {
  const float* data = nullptr;
  int64_t head_stride = 0;
  int64_t query_stride = 0;
  int64_t key_stride = 0;
};

// Attention on a caller's tensors: one sequence, any mask; for query rows [first_query, first_query
// + q.rows) of a sequence of num_queries. q, k, v, out as above; v and out may both be without
// data, where only the weights are wanted. A query whose every key is masked gives zeros.
//
//   log_sum_exp  null, or [num_heads, q.rows]: the logarithm of each row's sum of exponentials;
//                -infinity if masked
//   weights      null, or [num_heads, q.rows, k.rows]: the softmax itself, row-major
void MaskedAttention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                     int32_t first_query, int32_t num_queries, ConstMatrix k, ConstMatrix v,
                     const AttentionBias& bias, Matrix out, float* log_sum_exp, float* weights);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ATTENTION_H_
