#ifndef ATTENDANT_ENGINE_BASE_QUANTIZED_MATRIX_H_
#define ATTENDANT_ENGINE_BASE_QUANTIZED_MATRIX_H_

#include <cstdint>
#include <vector>

namespace attendant::engine {

// So many neighbouring values of a row share a scale.
inline constexpr int64_t kQuantizationGroup = 32;

// A matrix of small integers q, row-major, with a scale for each group of a row, and perhaps a
// minimum:
//
//   value = scale * (q - 2^(bits - 1))    without minimums: ggml's Q8_0 and Q4_0
//   value = scale * q + minimum           with them: its Q4_1 and Q4_K
struct QuantizedMatrix {
  int bits = 8;  // or 4
  int64_t rows = 0;
  int64_t cols = 0;  // the last group of a row may have fewer values

  std::vector<uint8_t> quants;     // [rows, cols], each below 2^bits
  std::vector<uint16_t> scales;    // [rows, num_groups()], binary16
  std::vector<uint16_t> minimums;  // the same, or empty

  int64_t num_groups() const { return (cols + kQuantizationGroup - 1) / kQuantizationGroup; }
  bool has_minimums() const { return !minimums.empty(); }
  // What is taken from every q.
  int offset() const { return has_minimums() ? 0 : 1 << (bits - 1); }
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_QUANTIZED_MATRIX_H_
