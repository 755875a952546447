#ifndef ATTENDANT_ENGINE_MODEL_POSITION_TABLES_H_
#define ATTENDANT_ENGINE_MODEL_POSITION_TABLES_H_

#include <cstdint>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/model/architecture.h"

namespace attendant::engine {

// Tables of positions that are computed when a model is loaded, not read from its checkpoint.

// Sines and cosines of positions [first, first + num_rows), row-major [num_rows, size] (Vaswani et
// al., "Attention Is All You Need", 2017). Frequency i is 10000^(-2i / size); column by column:
//   kInterleaved  sine and cosine of each frequency side by side, as in the paper
//   kHalves       all sines, then all cosines
//   kFairseq      as kHalves, with frequency i = 10000^(-i / (size / 2 - 1)), and a last column of
//                 zeros where size is odd
std::vector<float> SinusoidalPositions(SinusoidKind kind, int64_t first, int64_t num_rows,
                                       int64_t size);

// The bucket of the distance key position - query position (Raffel et al., "Exploring the Limits of
// Transfer Learning with a Unified Text-to-Text Transformer", 2020, section 2.1): near distances
// have one each, farther ones share those that are left by their logarithm, up to max_distance. Of
// a bidirectional stack half of the buckets are for keys behind the query; others never see one.
int32_t RelativeBucket(int64_t distance, bool bidirectional, int32_t num_buckets,
                       int32_t max_distance);

// Spreads the biases of buckets [num_buckets, num_heads] over distances: row-major [num_heads, 2 *
// num_positions + 1], that of distance d at num_positions + d.
std::vector<float> RelativeBiasByDistance(ConstMatrix bucket_biases, bool bidirectional,
                                          int32_t max_distance, int64_t num_positions);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_MODEL_POSITION_TABLES_H_
