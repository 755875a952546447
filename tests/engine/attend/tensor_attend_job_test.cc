#include "engine/attend/tensor_attend_job.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/float_conversion.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kNoLimit = int64_t{1} << 40;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

Tensor RandomTensor(std::vector<int64_t> shape, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  Tensor tensor{.dtype = DataType::kFloat32, .shape = std::move(shape)};
  std::vector<float> values(NumElements(tensor.shape));
  for (float& value : values) value = normal(generator);
  tensor.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return tensor;
}

std::vector<float> Values(const Tensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// Results put together from their blocks; every value is written exactly once.
struct Results {
  std::vector<float> output, weights, lse;
};

absl::StatusOr<Results> RunAttend(AttendRequest request, int num_threads = 2,
                                  int64_t max_bytes = kNoLimit) {
  const bool is_layer = std::holds_alternative<AttendLayer>(request.source);
  auto job = TensorAttendJob::Create(std::move(request), max_bytes);
  if (!job.ok()) return job.status();
  const AttendStarted started = (*job)->started();
  const auto size = [](const std::vector<int64_t>& shape) {
    return shape.empty() ? 0 : NumElements(shape);
  };
  Results results;
  results.output.assign(size(started.output_shape), NAN);
  results.weights.assign(size(started.weights_shape), NAN);
  results.lse.assign(size(started.lse_shape), NAN);

  KernelContext context(num_threads, /*pin_threads=*/false);
  while (!(*job)->done()) {
    absl::StatusOr<std::optional<AttendBlock>> step = (*job)->Next(context);
    if (!step.ok()) return step.status();
    if (!step->has_value()) continue;
    const AttendBlock* block = &**step;
    EXPECT_LE(block->tensor.data.size(), kMaxAttendBlockBytes);
    const std::vector<float> values = Values(block->tensor);
    std::vector<float>& whole = block->kind == AttendOutput::kOutput    ? results.output
                                : block->kind == AttendOutput::kWeights ? results.weights
                                                                        : results.lse;
    const std::vector<int64_t>& shape = block->kind == AttendOutput::kOutput ? started.output_shape
                                        : block->kind == AttendOutput::kWeights
                                            ? started.weights_shape
                                            : started.lse_shape;
    const bool per_head = !(is_layer && block->kind == AttendOutput::kOutput);
    const int64_t columns = block->kind == AttendOutput::kLogSumExp ? 1 : shape.back();
    const int64_t axis =
        block->kind == AttendOutput::kLogSumExp ? shape.size() - 1 : shape.size() - 2;
    const int64_t queries = shape[axis];
    const int64_t heads = per_head ? shape[axis - 1] : 1;
    size_t next = 0;
    for (int64_t head = per_head ? block->head_begin : 0; head < (per_head ? block->head_end : 1);
         ++head) {
      for (int64_t query = block->query_begin; query < block->query_end; ++query) {
        for (int64_t column = 0; column < columns; ++column) {
          float& value =
              whole.at(((block->batch * heads + head) * queries + query) * columns + column);
          EXPECT_TRUE(std::isnan(value)) << "written twice";
          value = values.at(next++);
        }
      }
    }
    EXPECT_EQ(next, values.size());
  }
  return results;
}

struct Twin {
  std::vector<double> output, weights, lse;
};

// The definition, in double precision: q [heads, q_len, d], k and v [kv_heads, kv_len, d];
// bias(head, query, key).
template <typename Bias>
Twin PlainAttention(const std::vector<float>& q, const std::vector<float>& k,
                    const std::vector<float>& v, int heads, int kv_heads, int q_len, int kv_len,
                    int d, double scale, Bias bias, int value_dim = 0) {
  if (value_dim == 0) value_dim = d;
  Twin twin;
  for (int head = 0; head < heads; ++head) {
    const int kv = head / (heads / kv_heads);
    for (int i = 0; i < q_len; ++i) {
      std::vector<double> scores(kv_len);
      double sum = 0, largest = kMasked;
      for (int j = 0; j < kv_len; ++j) {
        double dot = 0;
        for (int c = 0; c < d; ++c) {
          dot += double{q[(head * q_len + i) * d + c]} * k[(kv * kv_len + j) * d + c];
        }
        scores[j] = dot * scale + bias(head, i, j);
        largest = std::max(largest, scores[j]);
      }
      for (double& score : scores) {
        score = largest == kMasked ? 0 : std::exp(score - largest);
        sum += score;
      }
      twin.lse.push_back(largest == kMasked ? kMasked : largest + std::log(sum));
      std::vector<double> row(value_dim, 0.0);
      for (int j = 0; j < kv_len; ++j) {
        const double weight = sum == 0 ? 0 : scores[j] / sum;
        twin.weights.push_back(weight);
        for (int c = 0; c < value_dim; ++c) row[c] += weight * v[(kv * kv_len + j) * value_dim + c];
      }
      twin.output.insert(twin.output.end(), row.begin(), row.end());
    }
  }
  return twin;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isinf(expected[i])) {
      ASSERT_EQ(actual[i], expected[i]) << "at " << i;
    } else {
      ASSERT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
    }
  }
}

TEST(AttendTest, TensorsEqualThePlainLoop) {
  AttendTensors source{.query = RandomTensor({6, 7, 5}, 1),
                       .key = RandomTensor({2, 9, 5}, 2),
                       .value = RandomTensor({2, 9, 5}, 3),
                       .return_weights = true,
                       .return_lse = true};
  const Twin twin =
      PlainAttention(Values(source.query), Values(source.key), Values(source.value), 6, 2, 7, 9, 5,
                     1 / std::sqrt(5.0), [](int, int, int) { return 0.0; });
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  ExpectNear(results.output, twin.output, 1e-5);
  ExpectNear(results.weights, twin.weights, 1e-5);
  ExpectNear(results.lse, twin.lse, 1e-5);
}

TEST(AttendTest, CausalAndWindowMasksCountFromTheLastKey) {
  AttendTensors source{.query = RandomTensor({1, 2, 6, 8}, 1),
                       .key = RandomTensor({1, 2, 10, 8}, 2),
                       .value = RandomTensor({1, 2, 10, 8}, 3),
                       .return_weights = true,
                       .return_lse = true};
  source.mask.causal = true;
  source.mask.sliding_window = 3;
  source.mask.scale = 0.7f;
  const Twin twin = PlainAttention(
      Values(source.query), Values(source.key), Values(source.value), 2, 2, 6, 10, 8, 0.7f,
      [](int, int i, int j) { return j <= i + 4 && j > i + 4 - 3 ? 0.0 : kMasked; });
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  ExpectNear(results.output, twin.output, 1e-5);
  ExpectNear(results.weights, twin.weights, 1e-5);
  ExpectNear(results.lse, twin.lse, 1e-5);
}

TEST(AttendTest, ARowWhoseEveryKeyIsMaskedIsZero) {
  AttendTensors source{.query = RandomTensor({1, 3, 4}, 1),
                       .key = RandomTensor({1, 3, 4}, 2),
                       .value = RandomTensor({1, 3, 4}, 3),
                       .return_weights = true,
                       .return_lse = true};
  source.mask.mask =
      Tensor{.dtype = DataType::kBool, .shape = {3, 1}, .data = std::string("\1\0\1", 3)};
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  for (int c = 0; c < 4; ++c) EXPECT_EQ(results.output[4 + c], 0.0f);
  for (int j = 0; j < 3; ++j) EXPECT_EQ(results.weights[3 + j], 0.0f);
  EXPECT_EQ(results.lse[1], -std::numeric_limits<float>::infinity());
  EXPECT_NE(results.output[0], 0.0f);
}

TEST(AttendTest, AMaskBroadcastsOverBatchesAndHeads) {
  const int heads = 3, q_len = 4, kv_len = 5, d = 8;
  AttendTensors source{.query = RandomTensor({2, heads, q_len, d}, 1),
                       .key = RandomTensor({2, heads, kv_len, d}, 2),
                       .value = RandomTensor({2, heads, kv_len, d}, 3),
                       .return_weights = true};
  source.mask.mask = RandomTensor({heads, 1, kv_len}, 4);
  const std::vector<float> mask = Values(*source.mask.mask);
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  std::vector<double> expected;
  for (int batch = 0; batch < 2; ++batch) {
    const auto part = [&](const Tensor& tensor, int length) {
      const std::vector<float> all = Values(tensor);
      const int size = heads * length * d;
      return std::vector<float>(all.begin() + batch * size, all.begin() + (batch + 1) * size);
    };
    const Twin twin = PlainAttention(part(source.query, q_len), part(source.key, kv_len),
                                     part(source.value, kv_len), heads, heads, q_len, kv_len, d,
                                     1 / std::sqrt(8.0),
                                     [&](int head, int, int j) { return mask[head * kv_len + j]; });
    expected.insert(expected.end(), twin.output.begin(), twin.output.end());
  }
  ExpectNear(results.output, expected, 1e-5);
}

TEST(AttendTest, ResultsLargerThanABlockComeInBlocks) {
  AttendTensors source{.query = RandomTensor({3, 700, 16}, 1),
                       .key = RandomTensor({1, 900, 16}, 2),
                       .value = RandomTensor({1, 900, 16}, 3),
                       .return_weights = true,
                       .return_lse = true};
  source.mask.causal = true;
  const Twin twin =
      PlainAttention(Values(source.query), Values(source.key), Values(source.value), 3, 1, 700, 900,
                     16, 0.25, [](int, int i, int j) { return j <= i + 200 ? 0.0 : kMasked; });
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  ExpectNear(results.output, twin.output, 1e-5);
  ExpectNear(results.weights, twin.weights, 1e-5);
  ExpectNear(results.lse, twin.lse, 1e-5);
}

TEST(AttendTest, ValuesMayBeNarrowerOrWiderThanKeys) {
  for (const int value_dim : {3, 8}) {
    AttendTensors source{.query = RandomTensor({2, 4, 5}, 1),
                         .key = RandomTensor({2, 6, 5}, 2),
                         .value = RandomTensor({2, 6, value_dim}, 3),
                         .return_weights = true};
    const Twin twin = PlainAttention(
        Values(source.query), Values(source.key), Values(source.value), 2, 2, 4, 6, 5,
        1 / std::sqrt(5.0), [](int, int, int) { return 0.0; }, value_dim);
    ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
    ExpectNear(results.output, twin.output, 1e-5);
    ExpectNear(results.weights, twin.weights, 1e-5);
  }
}

TEST(AttendTest, HalfPrecisionInputsAreWidened) {
  AttendTensors wide{.query = RandomTensor({1, 4, 8}, 1),
                     .key = RandomTensor({1, 4, 8}, 2),
                     .value = RandomTensor({1, 4, 8}, 3)};
  const auto narrow = [](const Tensor& tensor, DataType dtype, Tensor& rounded) {
    Tensor half{.dtype = dtype, .shape = tensor.shape};
    std::vector<float> back;
    for (const float value : Values(tensor)) {
      const uint16_t bits =
          dtype == DataType::kFloat16 ? FloatToFloat16(value) : FloatToBFloat16(value);
      half.data.append(reinterpret_cast<const char*>(&bits), 2);
      back.push_back(dtype == DataType::kFloat16 ? Float16ToFloat(bits) : BFloat16ToFloat(bits));
    }
    rounded = tensor;
    rounded.data.assign(reinterpret_cast<const char*>(back.data()), back.size() * sizeof(float));
    return half;
  };
  AttendTensors rounded, half;
  half.query = narrow(wide.query, DataType::kFloat16, rounded.query);
  half.key = narrow(wide.key, DataType::kBFloat16, rounded.key);
  half.value = narrow(wide.value, DataType::kFloat16, rounded.value);
  ASSERT_OK_AND_ASSIGN(const Results expected, RunAttend({.source = rounded}));
  ASSERT_OK_AND_ASSIGN(const Results actual, RunAttend({.source = half}));
  EXPECT_EQ(actual.output, expected.output);
}

TEST(AttendTest, ALayerProjectsAttendsAndProjects) {
  const int heads = 3, kv_heads = 1, head_dim = 4, value_dim = 6, length = 6, source_length = 8,
            d_model = 10, d_out = 7;
  AttendLayer source{.query = RandomTensor({length, d_model}, 1),
                     .key = RandomTensor({source_length, d_model + 1}, 2),
                     .value = RandomTensor({source_length, d_model + 2}, 3),
                     .num_heads = heads,
                     .num_key_value_heads = kv_heads,
                     .w_q = RandomTensor({heads * head_dim, d_model}, 4),
                     .w_k = RandomTensor({kv_heads * head_dim, d_model + 1}, 5),
                     .w_v = RandomTensor({kv_heads * value_dim, d_model + 2}, 6),
                     .w_o = RandomTensor({d_out, heads * value_dim}, 7)};
  source.b_q = RandomTensor({heads * head_dim}, 8);
  source.b_o = RandomTensor({d_out}, 9);
  source.return_weights = true;

  // [rows, in] -> [heads, rows, dim]
  const auto project = [&](const Tensor& x, const Tensor& w, const std::optional<Tensor>& b,
                           int dim) {
    const int64_t rows = x.shape[0], in = x.shape[1], out = w.shape[0];
    const std::vector<float> xs = Values(x), ws = Values(w),
                             bs = b.has_value() ? Values(*b) : std::vector<float>(out);
    std::vector<float> y(rows * out);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = bs[o];
        for (int64_t i = 0; i < in; ++i) sum += double{xs[row * in + i]} * ws[o * in + i];
        y[((o / dim) * rows + row) * dim + o % dim] = static_cast<float>(sum);
      }
    }
    return y;
  };
  const Twin attended = PlainAttention(
      project(source.query, source.w_q, source.b_q, head_dim),
      project(source.key, source.w_k, std::nullopt, head_dim),
      project(source.value, source.w_v, std::nullopt, value_dim), heads, kv_heads, length,
      source_length, head_dim, 0.5, [](int, int, int) { return 0.0; }, value_dim);
  const std::vector<float> w_o = Values(source.w_o), b_o = Values(*source.b_o);
  std::vector<double> expected;
  for (int row = 0; row < length; ++row) {
    for (int o = 0; o < d_out; ++o) {
      double sum = b_o[o];
      for (int i = 0; i < heads * value_dim; ++i) {
        sum += attended.output[((i / value_dim) * length + row) * value_dim + i % value_dim] *
               w_o[o * heads * value_dim + i];
      }
      expected.push_back(sum);
    }
  }
  ASSERT_OK_AND_ASSIGN(const Results results, RunAttend({.source = source}));
  ExpectNear(results.output, expected, 1e-4);
  ExpectNear(results.weights, attended.weights, 1e-4);
}

TEST(AttendTest, OneInputForAllThreeIsSelfAttention) {
  AttendLayer source{.query = RandomTensor({2, 5, 6}, 1),
                     .num_heads = 2,
                     .w_q = RandomTensor({6, 6}, 2),
                     .w_k = RandomTensor({6, 6}, 3),
                     .w_v = RandomTensor({6, 6}, 4),
                     .w_o = RandomTensor({6, 6}, 5)};
  AttendLayer spelled_out = source;
  spelled_out.key = spelled_out.value = source.query;
  ASSERT_OK_AND_ASSIGN(const Results self, RunAttend({.source = source}));
  ASSERT_OK_AND_ASSIGN(const Results cross, RunAttend({.source = spelled_out}));
  EXPECT_EQ(self.output, cross.output);
}

TEST(AttendTest, BadRequestsNameTheField) {
  const AttendTensors good{.query = RandomTensor({4, 3, 8}, 1),
                           .key = RandomTensor({2, 5, 8}, 2),
                           .value = RandomTensor({2, 5, 8}, 3)};
  const AttendLayer good_layer{.query = RandomTensor({5, 6}, 1),
                               .num_heads = 2,
                               .w_q = RandomTensor({6, 6}, 2),
                               .w_k = RandomTensor({6, 6}, 3),
                               .w_v = RandomTensor({6, 6}, 4),
                               .w_o = RandomTensor({6, 6}, 5)};
  struct Case {
    std::string field, message;
    std::function<void(AttendTensors&)> spoil;
    std::function<void(AttendLayer&)> spoil_layer = nullptr;
  };
  const std::vector<Case> cases = {
      {"tensors.query", "rank", [](auto& t) { t.query.shape = {3, 8}; }},
      {"tensors.query", "extent", [](auto& t) { t.query.shape = {4, 0, 8}; }},
      {"tensors.query", "bytes", [](auto& t) { t.query.data.pop_back(); }},
      {"tensors.query", "i8", [](auto& t) { t.query.dtype = DataType::kInt8; }},
      {"tensors.key", "3 heads, which do not divide query's 4",
       [](auto& t) { t.key = RandomTensor({3, 5, 8}, 2); }},
      {"tensors.key", "[2, 5, 8]", [](auto& t) { t.key = RandomTensor({2, 5, 7}, 2); }},
      {"tensors.key", "batch", [](auto& t) { t.key = RandomTensor({1, 2, 5, 8}, 2); }},
      {"tensors.value", "[2, 5, 8]", [](auto& t) { t.value = RandomTensor({2, 4, 8}, 2); }},
      {"tensors.mask", "broadcast", [](auto& t) { t.mask.mask = RandomTensor({2, 5}, 2); }},
      {"tensors.mask", "i32",
       [](auto& t) { t.mask.mask = Tensor{.dtype = DataType::kInt32, .shape = {1}}; }},
      {"tensors.mask", "infinity",
       [](auto& t) {
         const float infinity = std::numeric_limits<float>::infinity();
         t.mask.mask =
             Tensor{.shape = {1}, .data = std::string(reinterpret_cast<const char*>(&infinity), 4)};
       }},
      {"tensors.scale", "finite", [](auto& t) { t.mask.scale = NAN; }},
      {"tensors.sliding_window", "at least 1", [](auto& t) { t.mask.sliding_window = 0; }},
      {"layer.num_heads", "4, which does not divide the 6 rows of w_q", nullptr,
       [](auto& l) { l.num_heads = 4; }},
      {"layer.num_heads", "at least 1", nullptr, [](auto& l) { l.num_heads = 0; }},
      {"layer.num_key_value_heads", "divides", nullptr, [](auto& l) { l.num_key_value_heads = 3; }},
      {"layer.w_k", "[6, 6]", nullptr, [](auto& l) { l.w_k = RandomTensor({6, 5}, 2); }},
      {"layer.w_q", "shape", nullptr, [](auto& l) { l.w_q = RandomTensor({6}, 2); }},
      {"layer.b_v", "[6]", nullptr, [](auto& l) { l.b_v = RandomTensor({5}, 2); }},
      {"layer.key", "batch", nullptr, [](auto& l) { l.key = RandomTensor({1, 5, 6}, 2); }},
  };
  for (const Case& test : cases) {
    AttendRequest request;
    if (test.spoil != nullptr) {
      AttendTensors tensors = good;
      test.spoil(tensors);
      request.source = std::move(tensors);
    } else {
      AttendLayer layer = good_layer;
      test.spoil_layer(layer);
      request.source = std::move(layer);
    }
    const absl::Status status = RunAttend(std::move(request)).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(test.field + ":")));
    EXPECT_EQ(status.GetPayload(kFieldPathUrl), absl::Cord(test.field)) << status;
    if (test.message != "rank" && test.message != "extent") {
      EXPECT_THAT(status.message(), HasSubstr(test.message));
    }
  }
}

TEST(AttendTest, ResultsOverTheLimitAreRefused) {
  AttendTensors source{.query = RandomTensor({1, 100, 4}, 1),
                       .key = RandomTensor({1, 100, 4}, 2),
                       .value = RandomTensor({1, 100, 4}, 3),
                       .return_weights = true};
  EXPECT_THAT(RunAttend({.source = source}, 1, 40000),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--max_attend_bytes")));
  EXPECT_OK(RunAttend({.source = source}, 1, 41600));
}

}  // namespace
}  // namespace attendant::engine
