#include "engine/model/position_tables.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace attendant::engine {

std::vector<float> SinusoidalPositions(SinusoidKind kind, int64_t first, int64_t num_rows,
                                       int64_t size) {
  const bool fairseq = kind == SinusoidKind::kFairseq;
  const int64_t num_sines = fairseq ? size / 2 : (size + 1) / 2;
  const int64_t num_cosines = size / 2;
  const double divisor = fairseq ? static_cast<double>(std::max<int64_t>(1, size / 2 - 1))
                                 : static_cast<double>(size) / 2;
  std::vector<double> frequencies(num_sines);
  for (int64_t i = 0; i < num_sines; ++i) {
    frequencies[i] = std::pow(10000.0, -static_cast<double>(i) / divisor);
  }

  const bool interleaved = kind == SinusoidKind::kInterleaved;
  std::vector<float> table(num_rows * size);
  for (int64_t row = 0; row < num_rows; ++row) {
    const auto position = static_cast<double>(first + row);
    float* out = table.data() + row * size;
    for (int64_t i = 0; i < num_sines; ++i) {
      out[interleaved ? 2 * i : i] = static_cast<float>(std::sin(position * frequencies[i]));
    }
    for (int64_t i = 0; i < num_cosines; ++i) {
      out[interleaved ? 2 * i + 1 : num_sines + i] =
          static_cast<float>(std::cos(position * frequencies[i]));
    }
  }
  return table;
}

int32_t RelativeBucket(int64_t distance, bool bidirectional, int32_t num_buckets,
                       int32_t max_distance) {
  int32_t first = 0;
  if (bidirectional) {
    num_buckets /= 2;
    if (distance > 0) first = num_buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(0, -distance);
  }
  const int32_t num_exact = num_buckets / 2;
  if (distance < num_exact) return first + static_cast<int32_t>(distance);
  // In single precision, as in training: a distance at the edge of a bucket must not change sides.
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(num_exact)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / num_exact));
  const auto beyond = static_cast<int64_t>(ratio * static_cast<float>(num_buckets - num_exact));
  return first + static_cast<int32_t>(std::min<int64_t>(num_exact + beyond, num_buckets - 1));
}

std::vector<float> RelativeBiasByDistance(ConstMatrix bucket_biases, bool bidirectional,
                                          int32_t max_distance, int64_t num_positions) {
  const auto num_buckets = static_cast<int32_t>(bucket_biases.rows);
  const int64_t num_distances = 2 * num_positions + 1;
  std::vector<float> biases(bucket_biases.cols * num_distances);
  for (int64_t i = 0; i < num_distances; ++i) {
    const float* bucket = bucket_biases.row(
        RelativeBucket(i - num_positions, bidirectional, num_buckets, max_distance));
    for (int64_t head = 0; head < bucket_biases.cols; ++head) {
      biases[head * num_distances + i] = bucket[head];
    }
  }
  return biases;
}

}  // namespace attendant::engine
