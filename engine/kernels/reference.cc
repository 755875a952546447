#include "engine/kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/base/float_conversion.h"

namespace attendant::engine::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One query row of one head over keys [0, num_keys): key(j) and value(j) are their rows, bias(j) is
// added to the score and is -infinity where the query does not see the key.
void AttendRow(const AttentionOptions& options, const float* query, int64_t num_keys,
               absl::FunctionRef<double(int64_t key, int64_t i)> key,
               absl::FunctionRef<double(int64_t key, int64_t i)> value,
               absl::FunctionRef<double(int64_t key)> bias, float* out, float* log_sum_exp,
               float* weights) {
  std::vector<double> scores(num_keys);
  double largest = -kInfinity;
  for (int64_t j = 0; j < num_keys; ++j) {
    double dot = 0;
    for (int64_t i = 0; i < options.head_dim; ++i) dot += double{query[i]} * key(j, i);
    scores[j] = dot * options.scale + bias(j);
    largest = std::max(largest, scores[j]);
  }
  double sum = 0;
  if (largest > -kInfinity) {
    for (double& score : scores) sum += score = std::exp(score - largest);
  }
  for (int64_t i = 0; i < options.head_dim; ++i) {
    double weighted = 0;
    for (int64_t j = 0; sum > 0 && j < num_keys; ++j) weighted += scores[j] / sum * value(j, i);
    out[i] = static_cast<float>(weighted);
  }
  if (log_sum_exp != nullptr)
    *log_sum_exp = static_cast<float>(sum > 0 ? largest + std::log(sum) : -kInfinity);
  for (int64_t j = 0; weights != nullptr && j < num_keys; ++j) {
    weights[j] = static_cast<float>(sum > 0 ? scores[j] / sum : 0.0);
  }
}

bool Sees(const AttentionOptions& options, int64_t query, int64_t num_queries, int64_t key,
          int64_t num_keys) {
  const int64_t distance = query + (num_keys - num_queries) - key;  // how far back the key lies
  if (options.causal) return distance >= 0 && distance < options.sliding_window;
  return std::abs(distance) < options.sliding_window;
}

// The additive part of a score: -infinity for a key that is not seen.
double Bias(const AttentionOptions& options, int64_t head, int64_t query, int64_t num_queries,
            int64_t key, int64_t num_keys) {
  if (!Sees(options, query, num_queries, key, num_keys)) return -kInfinity;
  const RelativeBias& bias = options.relative_bias;
  if (bias.data == nullptr) return 0.0;
  const int64_t distance = key - (query + num_keys - num_queries);
  return bias.data[head * (2 * int64_t{bias.max_distance} + 1) + bias.max_distance + distance];
}

float CachedValue(const PagedKeysValues& cache, const AttentionOptions& options,
                  const std::byte* data, const AttentionSequence& sequence, int64_t head,
                  int64_t key, int64_t i) {
  const int64_t block = sequence.blocks[key / cache.block_size];
  const int64_t row = head * cache.block_size + key % cache.block_size;
  const int64_t index = block * cache.block_stride + row * options.head_dim + i;
  if (cache.dtype == DataType::kFloat32) return reinterpret_cast<const float*>(data)[index];
  return BFloat16ToFloat(reinterpret_cast<const uint16_t*>(data)[index]);
}

}  // namespace

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;
    case Activation::kGeluErf:
      return x / 2 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

void Linear(ConstMatrix weight, absl::Span<const float> bias, Activation activation, ConstMatrix x,
            Matrix y) {
  for (int64_t row = 0; row < x.rows; ++row) std::fill_n(y.row(row), y.cols, 0.0f);
  LinearAdd(weight, bias, activation, x, y);
}

void LinearAdd(ConstMatrix weight, absl::Span<const float> bias, Activation activation,
               ConstMatrix x, Matrix y) {
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t j = 0; j < weight.rows; ++j) {
      double sum = bias.empty() ? 0.0 : bias[j];
      for (int64_t i = 0; i < weight.cols; ++i) sum += double{x.row(row)[i]} * weight.row(j)[i];
      y.row(row)[j] = static_cast<float>(y.row(row)[j] + Activate(activation, sum));
    }
  }
}

void Multiply(ConstMatrix a, ConstMatrix b, Matrix c) {
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < a.cols; ++k) sum += double{a.row(i)[k]} * b.row(k)[j];
      c.row(i)[j] = static_cast<float>(sum);
    }
  }
}

void Dequantize(const QuantizedMatrix& matrix, Matrix out) {
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t col = 0; col < matrix.cols; ++col) {
      const int64_t group = row * matrix.num_groups() + col / kQuantizationGroup;
      const int q = matrix.quants[row * matrix.cols + col];
      const double scale = Float16ToFloat(matrix.scales[group]);
      const double minimum = matrix.has_minimums() ? Float16ToFloat(matrix.minimums[group]) : 0.0;
      out.row(row)[col] = static_cast<float>(scale * (q - matrix.offset()) + minimum);
    }
  }
}

static void RoundToIntegers(ConstMatrix x, int64_t group, Matrix out) {
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t first = 0; first < x.cols; first += group) {
      const int64_t end = std::min(x.cols, first + group);
      float magnitude = 0;
      bool finite = true;
      for (int64_t col = first; col < end; ++col) {
        finite = finite && std::isfinite(x.row(row)[col]);
        magnitude = std::max(magnitude, std::abs(x.row(row)[col]));
      }
      for (int64_t col = first; col < end; ++col) {
        // In float, as the kernel has it: a value in the middle goes the same way.
        const float rounded = std::nearbyint(x.row(row)[col] * (127.0f / magnitude));
        out.row(row)[col] = !finite              ? std::numeric_limits<float>::quiet_NaN()
                            : magnitude < 1e-30f ? 0.0f
                                                 : rounded * (magnitude / 127.0f);
      }
    }
  }
}

void RoundInGroups(ConstMatrix x, Matrix out) { RoundToIntegers(x, kQuantizationGroup, out); }
void RoundInRows(ConstMatrix x, Matrix out) { RoundToIntegers(x, x.cols, out); }

void GatedActivation(ConstMatrix gate_up, Activation activation, Matrix out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    for (int64_t j = 0; j < out.cols; ++j) {
      out.row(row)[j] = static_cast<float>(Activate(activation, gate_up.row(row)[j]) *
                                           gate_up.row(row)[out.cols + j]);
    }
  }
}

void Tanh(Matrix x) {
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t j = 0; j < x.cols; ++j)
      x.row(row)[j] = static_cast<float>(std::tanh(double{x.row(row)[j]}));
  }
}

void LayerNorm(ConstMatrix x, absl::Span<const float> weight, absl::Span<const float> bias,
               float epsilon, Matrix y) {
  for (int64_t row = 0; row < x.rows; ++row) {
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < x.cols; ++j) mean += x.row(row)[j];
    mean /= x.cols;
    for (int64_t j = 0; j < x.cols; ++j)
      variance += (x.row(row)[j] - mean) * (x.row(row)[j] - mean);
    variance /= x.cols;
    for (int64_t j = 0; j < x.cols; ++j) {
      const double normal = (x.row(row)[j] - mean) / std::sqrt(variance + epsilon);
      y.row(row)[j] = static_cast<float>(normal * weight[j] + (bias.empty() ? 0.0 : bias[j]));
    }
  }
}

void RmsNorm(ConstMatrix x, absl::Span<const float> weight, float epsilon, Matrix y) {
  for (int64_t row = 0; row < x.rows; ++row) {
    double squares = 0;
    for (int64_t j = 0; j < x.cols; ++j) squares += double{x.row(row)[j]} * x.row(row)[j];
    const double scale = 1 / std::sqrt(squares / x.cols + epsilon);
    for (int64_t j = 0; j < x.cols; ++j)
      y.row(row)[j] = static_cast<float>(x.row(row)[j] * scale * weight[j]);
  }
}

void L2Normalize(Matrix x) {
  for (int64_t row = 0; row < x.rows; ++row) {
    double squares = 0;
    for (int64_t j = 0; j < x.cols; ++j) squares += double{x.row(row)[j]} * x.row(row)[j];
    if (squares == 0) continue;
    for (int64_t j = 0; j < x.cols; ++j)
      x.row(row)[j] = static_cast<float>(x.row(row)[j] / std::sqrt(squares));
  }
}

void ApplyRotary(Matrix x, int32_t num_heads, absl::Span<const int32_t> positions,
                 absl::Span<const float> inverse_frequencies, float scale) {
  const int64_t head_dim = x.cols / num_heads;
  const int64_t num_pairs = inverse_frequencies.size();
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t head = 0; head < num_heads; ++head) {
      for (int64_t i = 0; i < num_pairs; ++i) {
        const double angle = double{inverse_frequencies[i]} * positions[row];
        float& first = x.row(row)[head * head_dim + i];
        float& second = x.row(row)[head * head_dim + num_pairs + i];
        const double a = first, b = second;
        first = static_cast<float>(scale * (a * std::cos(angle) - b * std::sin(angle)));
        second = static_cast<float>(scale * (b * std::cos(angle) + a * std::sin(angle)));
      }
    }
  }
}

void Gather(ConstMatrix table, absl::Span<const int32_t> ids, Matrix out) {
  for (int64_t row = 0; row < out.rows; ++row)
    std::copy_n(table.row(ids[row]), table.cols, out.row(row));
}

void GatherAdd(ConstMatrix table, absl::Span<const int32_t> ids, Matrix out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    for (int64_t j = 0; j < table.cols; ++j) out.row(row)[j] += table.row(ids[row])[j];
  }
}

float LogSumExp(absl::Span<const float> x) {
  double largest = -kInfinity;
  for (const float value : x) largest = std::max<double>(largest, value);
  if (std::isinf(largest)) return static_cast<float>(largest);
  double sum = 0;
  for (const float value : x) sum += std::exp(value - largest);
  return static_cast<float>(largest + std::log(sum));
}

int32_t ArgMax(absl::Span<const float> x) {
  int32_t best = 0;
  for (int32_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) return i;
    if (x[i] > x[best]) best = i;
  }
  return best;
}

void Attention(const AttentionOptions& options, ConstMatrix q, ConstMatrix k, ConstMatrix v,
               absl::Span<const AttentionSequence> sequences, Matrix out) {
  for (const AttentionSequence& sequence : sequences) {
    MaskedAttention(options, q.Rows(sequence.query_start, sequence.num_queries), 0,
                    sequence.num_queries, k.Rows(sequence.key_start, sequence.num_keys),
                    v.Rows(sequence.key_start, sequence.num_keys), {},
                    out.Rows(sequence.query_start, sequence.num_queries), nullptr, nullptr);
  }
}

void StoreKeysValues(const AttentionOptions& options, ConstMatrix k, ConstMatrix v,
                     absl::Span<const AttentionSequence> sequences, const PagedKeysValues& cache) {
  const auto store = [&](std::byte* data, int64_t index, float value) {
    if (cache.dtype == DataType::kFloat32) {
      reinterpret_cast<float*>(data)[index] = value;
    } else {
      reinterpret_cast<uint16_t*>(data)[index] = FloatToBFloat16(value);
    }
  };
  for (const AttentionSequence& sequence : sequences) {
    for (int64_t row = 0; row < sequence.num_queries; ++row) {
      const int64_t key = sequence.num_keys - sequence.num_queries + row;
      const int64_t block = sequence.blocks[key / cache.block_size] * cache.block_stride;
      for (int64_t head = 0; head < options.num_key_value_heads; ++head) {
        for (int64_t i = 0; i < options.head_dim; ++i) {
          const int64_t index =
              block + (head * cache.block_size + key % cache.block_size) * options.head_dim + i;
          store(cache.keys, index, k.row(sequence.query_start + row)[head * options.head_dim + i]);
          store(cache.values, index,
                v.row(sequence.query_start + row)[head * options.head_dim + i]);
        }
      }
    }
  }
}

void PagedAttention(const AttentionOptions& options, ConstMatrix q, const PagedKeysValues& cache,
                    absl::Span<const AttentionSequence> sequences, Matrix out) {
  for (const AttentionSequence& sequence : sequences) {
    for (int64_t row = 0; row < sequence.num_queries; ++row) {
      for (int64_t head = 0; head < options.num_heads; ++head) {
        const int64_t key_head = head / (options.num_heads / options.num_key_value_heads);
        AttendRow(
            options, q.row(sequence.query_start + row) + head * options.head_dim, sequence.num_keys,
            [&](int64_t j, int64_t i) {
              return CachedValue(cache, options, cache.keys, sequence, key_head, j, i);
            },
            [&](int64_t j, int64_t i) {
              return CachedValue(cache, options, cache.values, sequence, key_head, j, i);
            },
            [&](int64_t j) {
              return Bias(options, head, row, sequence.num_queries, j, sequence.num_keys);
            },
            out.row(sequence.query_start + row) + head * options.head_dim, nullptr, nullptr);
      }
    }
  }
}

void PagedMeanWeights(const AttentionOptions& options, ConstMatrix q, const PagedKeysValues& cache,
                      absl::Span<const AttentionSequence> sequences, Matrix out) {
  for (size_t index = 0; index < sequences.size(); ++index) {
    const AttentionSequence& sequence = sequences[index];
    std::vector<double> mean(sequence.num_keys, 0.0);
    for (int64_t head = 0; head < options.num_heads; ++head) {
      const int64_t key_head = head / (options.num_heads / options.num_key_value_heads);
      const float* query = q.row(sequence.query_start) + head * options.head_dim;
      std::vector<double> weights(sequence.num_keys, 0.0);
      double sum = 0;
      for (int64_t j = 0; j < sequence.num_keys; ++j) {
        for (int64_t i = 0; i < options.head_dim; ++i) {
          weights[j] +=
              double{query[i]} * CachedValue(cache, options, cache.keys, sequence, key_head, j, i);
        }
        weights[j] = std::exp(weights[j] * options.scale);
        sum += weights[j];
      }
      for (int64_t j = 0; j < sequence.num_keys; ++j) mean[j] += weights[j] / sum;
    }
    for (int64_t j = 0; j < sequence.num_keys; ++j) {
      out.row(index)[j] = static_cast<float>(mean[j] / options.num_heads);
    }
  }
}

void MaskedAttention(const AttentionOptions& options, ConstMatrix q, int32_t first_query,
                     int32_t num_queries, ConstMatrix k, ConstMatrix v, const AttentionBias& bias,
                     Matrix out, float* log_sum_exp, float* weights) {
  for (int64_t head = 0; head < options.num_heads; ++head) {
    const int64_t column =
        head / (options.num_heads / options.num_key_value_heads) * options.head_dim;
    for (int64_t row = 0; row < q.rows; ++row) {
      AttendRow(
          options, q.row(row) + head * options.head_dim, k.rows,
          [&](int64_t j, int64_t i) { return double{k.row(j)[column + i]}; },
          [&](int64_t j, int64_t i) { return double{v.row(j)[column + i]}; },
          [&](int64_t j) {
            const double own = Bias(options, head, first_query + row, num_queries, j, k.rows);
            if (bias.data == nullptr || own == -kInfinity) return own;
            return double{bias.data[head * bias.head_stride +
                                    (first_query + row) * bias.query_stride + j * bias.key_stride]};
          },
          out.row(row) + head * options.head_dim,
          log_sum_exp == nullptr ? nullptr : log_sum_exp + head * q.rows + row,
          weights == nullptr ? nullptr : weights + (head * q.rows + row) * k.rows);
    }
  }
}

}  // namespace attendant::engine::reference
