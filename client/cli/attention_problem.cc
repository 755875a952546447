#include "client/cli/attention_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace attendant::client {
namespace {

using Doubles = std::vector<double>;

FloatTensor RandomTensor(std::vector<int64_t> shape, double deviation, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, deviation);
  FloatTensor tensor{std::move(shape), {}};
  tensor.values.resize(NumElements(tensor.shape));
  for (float& value : tensor.values) value = static_cast<float>(normal(random));
  return tensor;
}

// x [rows, inputs] · Wᵀ [inputs, outputs] + b [outputs]
Doubles Project(const Doubles& x, const FloatTensor& w, const FloatTensor& b) {
  const int64_t outputs = w.shape[0];
  const int64_t inputs = w.shape[1];
  Doubles y;
  y.reserve(x.size() / inputs * outputs);
  for (size_t row = 0; row < x.size(); row += inputs) {
    for (int64_t output = 0; output < outputs; ++output) {
      double sum = b.values.empty() ? 0 : b.values[output];
      for (int64_t i = 0; i < inputs; ++i) sum += x[row + i] * w.values[output * inputs + i];
      y.push_back(sum);
    }
  }
  return y;
}

// Between [rows, heads * d], as projections have it, and [heads, rows, d].
Doubles SwapRowsAndHeads(const Doubles& x, int64_t outer, int64_t inner, int64_t d) {
  Doubles y(x.size());
  for (int64_t i = 0; i < outer; ++i) {
    for (int64_t j = 0; j < inner; ++j)
      std::copy_n(&x[(i * inner + j) * d], d, &y[(j * outer + i) * d]);
  }
  return y;
}

struct Sizes {
  int64_t heads, kv_heads, q_len, kv_len, d, value_d;
};

double MaskAt(const FloatTensor& mask, int64_t head, int64_t row, int64_t column) {
  const int64_t index[] = {head, row, column};
  int64_t offset = 0;
  const int64_t skipped = 3 - static_cast<int64_t>(mask.shape.size());
  for (int64_t axis = skipped; axis < 3; ++axis) {
    const int64_t size = mask.shape[axis - skipped];
    offset = offset * size + (size == 1 ? 0 : index[axis]);
  }
  return mask.values[offset];
}

bool IsVisible(const AttentionProblem& problem, int64_t position, int64_t key) {
  if (problem.causal && key > position) return false;
  return !problem.sliding_window || std::abs(position - key) < *problem.sliding_window;
}

// One row of weights: softmax of the scores of one query, or zeros where every key is hidden.
void Softmax(double* row, int64_t size) {
  const double largest = *std::max_element(row, row + size);
  if (largest == -std::numeric_limits<double>::infinity()) {
    std::fill_n(row, size, 0.0);
    return;
  }
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += row[i] = std::exp(row[i] - largest);
  for (int64_t i = 0; i < size; ++i) row[i] /= sum;
}

// softmax(Q·Kᵀ·scale + mask)·V for every head.
std::pair<Doubles, Doubles> Attend(const AttentionProblem& problem, const Sizes& sizes,
                                   const Doubles& q, const Doubles& k, const Doubles& v) {
  const auto [heads, kv_heads, q_len, kv_len, d, value_d] = sizes;
  const double scale = problem.scale ? *problem.scale : 1 / std::sqrt(static_cast<double>(d));
  Doubles weights(heads * q_len * kv_len), output(heads * q_len * value_d);
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t kv_head = head / (heads / kv_heads);
    for (int64_t i = 0; i < q_len; ++i) {
      double* row = &weights[(head * q_len + i) * kv_len];
      for (int64_t j = 0; j < kv_len; ++j) {
        double score = 0;
        for (int64_t c = 0; c < d; ++c)
          score += q[(head * q_len + i) * d + c] * k[(kv_head * kv_len + j) * d + c];
        row[j] = score * scale + (problem.mask ? MaskAt(*problem.mask, head, i, j) : 0);
        if (!IsVisible(problem, i + kv_len - q_len, j))
          row[j] = -std::numeric_limits<double>::infinity();
      }
      Softmax(row, kv_len);
      for (int64_t j = 0; j < kv_len; ++j) {
        for (int64_t c = 0; c < value_d; ++c) {
          output[(head * q_len + i) * value_d + c] +=
              row[j] * v[(kv_head * kv_len + j) * value_d + c];
        }
      }
    }
  }
  return {std::move(output), std::move(weights)};
}

FloatTensor Narrow(std::vector<int64_t> shape, const Doubles& values) {
  return {std::move(shape), {values.begin(), values.end()}};
}

absl::Status Mismatch(absl::string_view name, const FloatTensor& tensor,
                      absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(name, " has the shape [",
                                                 absl::StrJoin(tensor.shape, ", "), "]; ", expected,
                                                 " is expected"));
}

absl::Status CheckMask(const AttentionProblem& problem, const Sizes& sizes) {
  if (!problem.mask) return absl::OkStatus();
  const auto& shape = problem.mask->shape;
  const int64_t full[] = {sizes.heads, sizes.q_len, sizes.kv_len};
  bool fits = shape.size() <= 3;
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] == 1 || shape[i] == full[3 - shape.size() + i];
  }
  if (fits) return absl::OkStatus();
  return Mismatch("mask", *problem.mask,
                  absl::StrCat("one that broadcasts to [", absl::StrJoin(full, ", "), "]"));
}

absl::StatusOr<AttentionAnswer> SolveLayer(const AttentionProblem& problem) {
  const LayerWeights& layer = *problem.layer;
  const int64_t length = problem.query.shape[0];
  const int64_t d = layer.w_q.shape[0] / layer.num_heads;
  const int64_t value_d = layer.w_v.shape[0] / layer.num_heads;
  const Sizes sizes = {layer.num_heads, layer.num_heads, length, length, d, value_d};
  absl::Status status = CheckMask(problem, sizes);
  if (!status.ok()) return status;
  const Doubles x(problem.query.values.begin(), problem.query.values.end());
  const Doubles q = SwapRowsAndHeads(Project(x, layer.w_q, layer.b_q), length, sizes.heads, d);
  const Doubles k = SwapRowsAndHeads(Project(x, layer.w_k, layer.b_k), length, sizes.heads, d);
  const Doubles v =
      SwapRowsAndHeads(Project(x, layer.w_v, layer.b_v), length, sizes.heads, value_d);
  const auto [heads, weights] = Attend(problem, sizes, q, k, v);
  const Doubles output =
      Project(SwapRowsAndHeads(heads, sizes.heads, length, value_d), layer.w_o, layer.b_o);
  return AttentionAnswer{Narrow({length, layer.w_o.shape[0]}, output),
                         Narrow({sizes.heads, length, length}, weights)};
}

}  // namespace

AttentionProblem RandomAttention(int heads, int kv_heads, int length, int dim, bool has_layer,
                                 uint64_t seed) {
  std::mt19937_64 random(seed);
  AttentionProblem problem;
  if (!has_layer) {
    problem.query = RandomTensor({heads, length, dim}, 1, random);
    problem.key = RandomTensor({kv_heads, length, dim}, 1, random);
    problem.value = RandomTensor({kv_heads, length, dim}, 1, random);
    return problem;
  }
  const int64_t size = int64_t{heads} * dim;
  const double deviation = 1 / std::sqrt(static_cast<double>(size));
  problem.query = RandomTensor({length, size}, 1, random);
  LayerWeights& layer = problem.layer.emplace();
  layer.num_heads = heads;
  for (FloatTensor* w : {&layer.w_q, &layer.w_k, &layer.w_v, &layer.w_o}) {
    *w = RandomTensor({size, size}, deviation, random);
  }
  for (FloatTensor* b : {&layer.b_q, &layer.b_k, &layer.b_v, &layer.b_o})
    *b = RandomTensor({size}, deviation, random);
  return problem;
}

v1::AttendRequest ToRequest(const AttentionProblem& problem, bool return_weights) {
  v1::AttendRequest request;
  // Both kinds of source spell these alike.
  const auto set_common = [&](auto& source) {
    *source.mutable_query() = ToMessage(problem.query);
    source.set_causal(problem.causal);
    source.set_return_weights(return_weights);
    if (problem.mask) *source.mutable_mask() = ToMessage(*problem.mask);
    if (problem.scale) source.set_scale(*problem.scale);
    if (problem.sliding_window) source.set_sliding_window(*problem.sliding_window);
  };
  if (!problem.layer) {
    v1::TensorAttention& tensors = *request.mutable_tensors();
    set_common(tensors);
    *tensors.mutable_key() = ToMessage(problem.key);
    *tensors.mutable_value() = ToMessage(problem.value);
    return request;
  }
  v1::LayerAttention& layer = *request.mutable_layer();
  set_common(layer);
  layer.set_num_heads(problem.layer->num_heads);
  *layer.mutable_w_q() = ToMessage(problem.layer->w_q);
  *layer.mutable_w_k() = ToMessage(problem.layer->w_k);
  *layer.mutable_w_v() = ToMessage(problem.layer->w_v);
  *layer.mutable_w_o() = ToMessage(problem.layer->w_o);
  *layer.mutable_b_q() = ToMessage(problem.layer->b_q);
  *layer.mutable_b_k() = ToMessage(problem.layer->b_k);
  *layer.mutable_b_v() = ToMessage(problem.layer->b_v);
  *layer.mutable_b_o() = ToMessage(problem.layer->b_o);
  return request;
}

absl::StatusOr<AttentionAnswer> Solve(const AttentionProblem& problem) {
  if (problem.layer) return SolveLayer(problem);
  const auto& query = problem.query.shape;
  const auto& key = problem.key.shape;
  const auto& value = problem.value.shape;
  if (query.size() != 3) return Mismatch("query", problem.query, "[heads, q_len, d]");
  if (key.size() != 3 || key[0] == 0 || query[0] % key[0] != 0 || key[2] != query[2]) {
    return Mismatch("key", problem.key,
                    absl::StrCat("[a divisor of ", query[0], ", kv_len, ", query[2], "]"));
  }
  if (value.size() != 3 || value[0] != key[0] || value[1] != key[1]) {
    return Mismatch("value", problem.value, absl::StrCat("[", key[0], ", ", key[1], ", value_d]"));
  }
  const Sizes sizes = {query[0], key[0], query[1], key[1], query[2], value[2]};
  absl::Status status = CheckMask(problem, sizes);
  if (!status.ok()) return status;
  const auto widen = [](const FloatTensor& tensor) {
    return Doubles(tensor.values.begin(), tensor.values.end());
  };
  const auto [output, weights] =
      Attend(problem, sizes, widen(problem.query), widen(problem.key), widen(problem.value));
  return AttentionAnswer{Narrow({sizes.heads, sizes.q_len, sizes.value_d}, output),
                         Narrow({sizes.heads, sizes.q_len, sizes.kv_len}, weights)};
}

}  // namespace attendant::client
