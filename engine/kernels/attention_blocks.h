#ifndef ATTENDANT_ENGINE_KERNELS_ATTENTION_BLOCKS_H_
#define ATTENDANT_ENGINE_KERNELS_ATTENTION_BLOCKS_H_

// The inner loops of attention, on one block of queries and keys: vector code, one thread, chosen
// for this machine when first called. Private to this folder. Blocks are row-major; `width` counts
// the keys of a block, padding included.

#include <cstdint>

namespace attendant::engine {

// Rounds `size` floats, times `scale`, to bfloat16; or only multiplies.
void ScaleRow(const float* from, int64_t size, float scale, float* to);
void ScaleRow(const float* from, int64_t size, float scale, uint16_t* to);
// The same for `num_rows` rows; strides in values.
void ScaleRows(const float* from, int64_t from_stride, int64_t num_rows, int64_t size, float scale,
               float* to, int64_t to_stride);
void ScaleRows(const float* from, int64_t from_stride, int64_t num_rows, int64_t size, float scale,
               uint16_t* to, int64_t to_stride);

// Converts between float and bfloat16.
void ConvertRow(const uint16_t* from, int64_t size, float* to);

// out[i * width + j] = rows[j][i] for i < size, j < num_rows; 0 for num_rows <= j < width. `width`
// is a multiple of 4.
void TransposeRows(const uint32_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
                   uint32_t* out);

// Pairs of rows woven together, as bfloat16 products want them: out[(j / 2) * 2 * size + 2 * i + j
// % 2] = rows[j][i]. Rows from num_rows to width (even) are 0.
void InterleaveRows(const uint16_t* const* rows, int64_t num_rows, int64_t size, int64_t width,
                    uint16_t* out);

// c [m, n] = a [m, k] b [k, n], or added to c. Leading dimensions are the widths of the whole rows.
void MultiplyBlock(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                   int64_t m, int64_t n, int64_t k, bool add);

// The keys of a block that a query sees: [begin, end).
struct KeyRange {
  int32_t begin = 0;
  int32_t end = 0;
};

// An additive bias of a block: of row r and column j at data[r * query_stride + j * key_stride];
// null for none.
struct BlockBias {
  const float* data = nullptr;
  int64_t query_stride = 0;
  int64_t key_stride = 0;
};

// What the running softmax keeps of each query: the largest score, the sum of exp(score - largest),
// and the sum of the values so weighted.
struct RunningSoftmax {
  float* largest;  // [num_rows]
  float* sum;      // [num_rows]
  float* values;   // [num_rows, head_dim]
  int64_t head_dim;
};

// The end of it: out [num_rows, head_dim] = values / sum; 0 for queries that saw nothing.
void FinishSoftmax(const RunningSoftmax& state, int64_t num_rows, float* out, int64_t out_stride);

// scores [num_rows, stride], `width` of each row in use. Adds the bias, moves `state` to the new
// largest scores, and leaves exp(score - largest) in `weights` [num_rows, stride] (which may be
// scores itself), 0 for keys out of range. In bfloat16, exp is within 1e-4 of itself, where
// the last place is 4e-3 or more.
void UpdateSoftmax(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                   const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                   float* weights);
void UpdateSoftmax(float* scores, int64_t stride, int64_t width, int64_t num_rows,
                   const KeyRange* ranges, const BlockBias& bias, const RunningSoftmax& state,
                   uint16_t* weights);

// weights[j] = exp(scores[j] + bias[j] - largest) / sum for keys in range, else 0; of one row.
void FinalWeights(const float* scores, int64_t width, KeyRange range, const float* bias,
                  int64_t bias_stride, float largest, float sum, float* weights);

// scores[r * stride + j] = queries[r] . keys[j]; queries [num_queries, size], keys [num_keys,
// size], both contiguous.
void DotRows(const float* queries, int64_t num_queries, const float* keys, int64_t num_keys,
             int64_t size, float* scores, int64_t stride);
void DotRows(const float* queries, int64_t num_queries, const uint16_t* keys, int64_t num_keys,
             int64_t size, float* scores, int64_t stride);

// sums[r] += sum over j of weights[r * stride + j] values[j]; values [num_values, size], sums
// [num_rows, size].
void AddWeighted(const float* weights, int64_t stride, int64_t num_rows, const float* values,
                 int64_t num_values, int64_t size, float* sums);
void AddWeighted(const float* weights, int64_t stride, int64_t num_rows, const uint16_t* values,
                 int64_t num_values, int64_t size, float* sums);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ATTENTION_BLOCKS_H_
