#include "engine/kernels/self_test.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/log/log.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/float_conversion.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/embedding.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/norm.h"
#include "engine/kernels/reference.h"
#include "engine/kernels/rotary.h"
#include "engine/kernels/softmax.h"

namespace attendant::engine {
namespace {

// Of kernels that compute in float: a few roundings of values near 1.
constexpr double kFloatTolerance = 1e-5;

// Many rows of integers may be multiplied in bfloat16, both factors rounded by up to 2^-9: eight
// standard deviations of the sum of so many products below 1.
double IntegerTolerance(int64_t inputs) {
  return 8 * 0x1p-9 * std::sqrt(static_cast<double>(inputs));
}

// Results are averages of values in [-1, 1); in bfloat16 the weights of the average are rounded, by
// 2^-9 at most.
double AttentionTolerance(DataType dtype) {
  return dtype == DataType::kBFloat16 ? 1.0 / 128 : kFloatTolerance;
}

class SelfTest {
 public:
  SelfTest(KernelContext& context, DataType dtype, AlterResult alter)
      : context_(context), dtype_(dtype), alter_(alter) {}

  absl::Status Run() {
    const absl::Time start = absl::Now();
    RETURN_IF_ERROR(TestLinear());
    RETURN_IF_ERROR(TestEmbedding());
    if (ActivationType(dtype_) == dtype_) RETURN_IF_ERROR(TestAttention());
    if (dtype_ == DataType::kFloat32) {
      RETURN_IF_ERROR(TestNorms());
      RETURN_IF_ERROR(TestRotary());
      RETURN_IF_ERROR(TestActivations());
      RETURN_IF_ERROR(TestSoftmax());
    }
    LOG(INFO) << absl::StreamFormat("self-test of kernels in %s passed in %.1f ms: %s", type_name(),
                                    absl::ToDoubleMilliseconds(absl::Now() - start),
                                    absl::StrJoin(tested_, ", "));
    return absl::OkStatus();
  }

 private:
  std::string type_name() const { return std::string(DataTypeName(dtype_)); }
  int bits() const { return dtype_ == DataType::kInt8 ? 8 : dtype_ == DataType::kInt4 ? 4 : 0; }

  // Values in [-1, 1), rounded to what a kernel in dtype_ multiplies, so that only sums differ.
  std::vector<float> Random(int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      value = static_cast<float>(random_()) * 0x1p-31f - 1.0f;
      if (dtype_ == DataType::kBFloat16) value = BFloat16ToFloat(FloatToBFloat16(value));
    }
    return values;
  }

  // `kernel` for the log, `shape` for whoever must find out why.
  absl::Status Compare(const std::string& kernel, const std::string& shape, absl::Span<float> got,
                       absl::Span<const float> want, double tolerance) {
    if (!absl::c_linear_search(tested_, kernel)) tested_.push_back(kernel);
    alter_(kernel, got);
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::abs(double{got[i]} - want[i]) <= tolerance) continue;  // false for a NaN
      return absl::InternalError(
          absl::StrFormat("self-test: %s in %s, %s, gives %g instead of %g at value %d", kernel,
                          type_name(), shape, got[i], want[i], i));
    }
    return absl::OkStatus();
  }

  // Every class of depth that is known to have gone wrong in some release: up to and beyond 512,
  // and not a multiple of anything; and as many rows as give each kernel there is its turn, but few
  // for which code is yet to be made, a millisecond each.
  absl::Status TestLinear() {
    for (const int64_t inputs : {33, 512, 776}) {
      LinearOptions options{.dtype = dtype_, .activation = Activation::kSilu};
      RETURN_IF_ERROR(TestLinear(inputs, options));
      options.scale_per_output = true;
      if (dtype_ == DataType::kInt8) RETURN_IF_ERROR(TestLinear(inputs, options));
    }
    return absl::OkStatus();
  }

  absl::Status TestLinear(int64_t inputs, const LinearOptions& options) {
    constexpr int64_t kOutputs = 72;
    constexpr int64_t kStep = 11;  // of the rows that are compared: plain loops are slow
    std::vector<float> weight = Random(kOutputs * inputs), bias = Random(kOutputs);
    const Matrix weight_view(weight.data(), kOutputs, inputs);
    if (options.scale_per_output) {
      reference::RoundInRows(weight_view, weight_view);
    } else if (bits() != 0) {
      ASSIGN_OR_RETURN(const QuantizedMatrix quantized, Quantize(context_, weight_view, bits()));
      reference::Dequantize(quantized, weight_view);
    }
    ASSIGN_OR_RETURN(const Linear linear, Linear::Create(context_, weight_view, bias, options));
    const bool may_use_bfloat16 = bits() != 0 && !options.scale_per_output;
    std::vector<int64_t> row_counts = {1, 4, 64};
    if (bits() != 0) row_counts = {1, 18};
    if (bits() != 0 && inputs > 512) row_counts.push_back(133);
    for (const int64_t rows : row_counts) {
      std::vector<float> x = Random(rows * inputs);
      const Matrix x_view(x.data(), rows, inputs);
      if (options.scale_per_output) {
        reference::RoundInRows(x_view, x_view);
      } else if (bits() != 0) {
        reference::RoundInGroups(x_view, x_view);
      }
      for (const bool add : {false, true}) {
        std::vector<float> got(rows * kOutputs, 0.5f);
        const Matrix got_view(got.data(), rows, kOutputs);
        add ? linear.ApplyAdd(context_, x_view, got_view)
            : linear.Apply(context_, x_view, got_view);
        for (int64_t row = (rows - 1) % kStep; row < rows; row += kStep) {
          std::vector<float> want(kOutputs, 0.5f);
          const Matrix want_view(want.data(), 1, kOutputs);
          (add ? reference::LinearAdd : reference::Linear)(weight_view, bias, options.activation,
                                                           x_view.Rows(row, 1), want_view);
          RETURN_IF_ERROR(
              Compare(absl::StrFormat("linear (%s)", linear.implementation()),
                      absl::StrFormat("%d x %d, row %d of %d%s", inputs, kOutputs, row, rows,
                                      add ? ", added" : ""),
                      absl::MakeSpan(got).subspan(row * kOutputs, kOutputs), want,
                      may_use_bfloat16 && rows > 1 ? IntegerTolerance(inputs) : 1e-6 * inputs));
        }
      }
      if (linear.HandsOverBFloat16(linear, rows)) {
        RETURN_IF_ERROR(TestHandingOver(linear, x_view));
      }
    }
    return absl::OkStatus();
  }

  // Against what Apply gives, which was compared with plain loops; rounding adds 2^-9 of a value.
  absl::Status TestHandingOver(const Linear& linear, Matrix x) {
    const int64_t num_values = x.rows * linear.out_features();
    std::vector<float> got(num_values), want(num_values);
    std::vector<uint16_t> rounded(num_values);
    linear.Apply(context_, x, Matrix(want.data(), x.rows, linear.out_features()));
    linear.ApplyToBFloat16(context_, x,
                           BFloat16Matrix(rounded.data(), x.rows, linear.out_features()));
    absl::c_transform(rounded, got.begin(), BFloat16ToFloat);
    const double largest = *absl::c_max_element(want);
    return Compare(absl::StrFormat("linear (%s) to bfloat16", linear.implementation()),
                   absl::StrFormat("%d rows, %d x %d", x.rows, x.cols, linear.out_features()),
                   absl::MakeSpan(got), want, largest / 256);
  }

  absl::Status TestEmbedding() {
    constexpr int64_t kRows = 40, kSize = 77;
    const std::vector<int32_t> ids = {39, 0, 17, 17};
    std::vector<float> values = Random(kRows * kSize);
    const Matrix table(values.data(), kRows, kSize);
    EmbeddingTable embedding;
    if (bits() == 0) {
      embedding = EmbeddingTable(table, dtype_);
    } else {
      ASSIGN_OR_RETURN(const QuantizedMatrix quantized, Quantize(context_, table, bits()));
      reference::Dequantize(quantized, table);
      embedding = EmbeddingTable(std::make_shared<QuantizedWeights>(context_, quantized), 1.0f);
    }
    std::vector<float> got(ids.size() * kSize), want = got;
    const auto num_ids = static_cast<int64_t>(ids.size());
    embedding.Gather(context_, ids, Matrix(got.data(), num_ids, kSize));
    reference::Gather(table, ids, Matrix(want.data(), num_ids, kSize));
    return Compare("embedding", absl::StrFormat("%d x %d", kRows, kSize), absl::MakeSpan(got), want,
                   kFloatTolerance);
  }

  absl::Status TestAttention() {
    RETURN_IF_ERROR(TestAttention(/*head_dim=*/32, /*num_tokens=*/40));
    return TestAttention(/*head_dim=*/36, /*num_tokens=*/70);  // more than one block of queries
  }

  absl::Status TestAttention(int32_t head_dim, int32_t num_tokens) {
    const AttentionOptions options{
        .num_heads = 2,
        .num_key_value_heads = 1,
        .head_dim = head_dim,
        .scale = 0.25f,  // a power of two: rounding queries after scaling changes nothing
        .causal = true,
        .dtype = dtype_};
    const int64_t width = 2 * head_dim;
    const std::vector<float> q = Random(num_tokens * width), k = Random(num_tokens * head_dim),
                             v = Random(num_tokens * head_dim);
    const ConstMatrix q_view(q.data(), num_tokens, width);
    const ConstMatrix k_view(k.data(), num_tokens, head_dim),
        v_view(v.data(), num_tokens, head_dim);
    const AttentionSequence sequence{.num_queries = num_tokens, .num_keys = num_tokens};
    const std::string shape = absl::StrFormat("head_dim %d", head_dim);
    std::vector<float> got(num_tokens * width), want(num_tokens * width);
    const Matrix got_view(got.data(), num_tokens, width);
    Attention(context_, options, q_view, k_view, v_view, {sequence}, got_view);
    // Plain loops are slow: the first queries, as those of a shorter sequence, and the last.
    constexpr int32_t kCompared = 8;
    const int32_t last_queries = num_tokens - kCompared;
    reference::Attention(
        options, q_view, k_view, v_view,
        {{.num_queries = kCompared, .num_keys = kCompared},
         {.query_start = last_queries, .num_queries = kCompared, .num_keys = num_tokens}},
        Matrix(want.data(), num_tokens, width));
    for (const int32_t first : {0, last_queries}) {
      RETURN_IF_ERROR(Compare("attention", shape,
                              absl::MakeSpan(got_view.row(first), kCompared * width),
                              absl::MakeConstSpan(want).subspan(first * width, kCompared * width),
                              AttentionTolerance(dtype_)));
    }

    // The last query once more, over a cache.
    constexpr int32_t kBlockSize = 16;
    const std::vector<int32_t> blocks = {4, 2, 0, 3, 1};
    const int64_t block_values = kBlockSize * head_dim;
    AlignedBuffer cache_memory(2 * blocks.size() * block_values * sizeof(float));
    const PagedKeysValues cache{
        .dtype = dtype_,
        .keys = cache_memory.data(),
        .values = cache_memory.data() + blocks.size() * block_values * sizeof(float),
        .block_size = kBlockSize,
        .block_stride = block_values};
    AttentionSequence cached = sequence;
    cached.blocks = blocks;
    StoreKeysValues(context_, options, k_view, v_view, {cached}, cache);
    cached.num_queries = 1;
    std::vector<float> last(width);
    PagedAttention(context_, options, q_view.Rows(num_tokens - 1, 1), cache, {cached},
                   Matrix(last.data(), 1, width));
    return Compare("cached attention", shape, absl::MakeSpan(last),
                   absl::MakeConstSpan(want).subspan((num_tokens - 1) * width),
                   AttentionTolerance(dtype_));
  }

  absl::Status TestNorms() {
    constexpr int64_t kRows = 3, kSize = 77;
    constexpr float kEpsilon = 1e-5f;
    const std::vector<float> x = Random(kRows * kSize), weight = Random(kSize),
                             bias = Random(kSize);
    const ConstMatrix x_view(x.data(), kRows, kSize);
    std::vector<float> got(kRows * kSize), want = got;
    const Matrix got_view(got.data(), kRows, kSize), want_view(want.data(), kRows, kSize);
    ApplyNorm(context_, {NormKind::kLayerNorm, weight, bias, kEpsilon}, x_view, got_view);
    reference::LayerNorm(x_view, weight, bias, kEpsilon, want_view);
    const std::string shape = absl::StrFormat("%d x %d", kRows, kSize);
    RETURN_IF_ERROR(Compare("layer norm", shape, absl::MakeSpan(got), want, kFloatTolerance));
    ApplyNorm(context_, {NormKind::kRmsNorm, weight, {}, kEpsilon}, x_view, got_view);
    reference::RmsNorm(x_view, weight, kEpsilon, want_view);
    return Compare("RMS norm", shape, absl::MakeSpan(got), want, kFloatTolerance);
  }

  absl::Status TestRotary() {
    constexpr int32_t kHeads = 3, kHeadDim = 36;
    const std::vector<int32_t> positions = {0, 1, 700};
    std::vector<float> frequencies(kHeadDim / 2);
    for (size_t i = 0; i < frequencies.size(); ++i) {
      frequencies[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / kHeadDim);
    }
    const auto num_tokens = static_cast<int64_t>(positions.size());
    std::vector<float> got = Random(num_tokens * kHeads * kHeadDim), want = got;
    ApplyRotary(context_, Matrix(got.data(), num_tokens, kHeads * kHeadDim), kHeads, positions,
                frequencies);
    reference::ApplyRotary(Matrix(want.data(), num_tokens, kHeads * kHeadDim), kHeads, positions,
                           frequencies);
    // An angle of 700 is known to 2^-15, half the distance of floats there.
    return Compare("rotary positions", absl::StrFormat("%d heads of %d", kHeads, kHeadDim),
                   absl::MakeSpan(got), want, kFloatTolerance + 0x1p-14);
  }

  absl::Status TestActivations() {
    constexpr int64_t kRows = 2, kSize = 37;
    for (const Activation activation :
         {Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh, Activation::kSilu}) {
      std::vector<float> x = Random(kRows * 2 * kSize), got(kRows * kSize), want = got;
      for (float& value : x) value *= 5;
      const ConstMatrix x_view(x.data(), kRows, 2 * kSize);
      GatedActivation(context_, x_view, activation, Matrix(got.data(), kRows, kSize));
      reference::GatedActivation(x_view, activation, Matrix(want.data(), kRows, kSize));
      RETURN_IF_ERROR(Compare("gated activation",
                              absl::StrFormat("number %d", static_cast<int>(activation)),
                              absl::MakeSpan(got), want, 25 * kFloatTolerance));
    }
    return absl::OkStatus();
  }

  absl::Status TestSoftmax() {
    std::vector<float> x = Random(301);
    for (float& value : x) value *= 20;
    float got = LogSumExp(x);
    const float want = reference::LogSumExp(x);
    return Compare("softmax", "301 values", absl::MakeSpan(&got, 1), absl::MakeConstSpan(&want, 1),
                   20 * kFloatTolerance);
  }

  KernelContext& context_;
  const DataType dtype_;
  const AlterResult alter_;
  std::mt19937 random_;
  std::vector<std::string> tested_;
};

}  // namespace

absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype) {
  return RunKernelSelfTest(context, dtype, [](const std::string&, absl::Span<float>) {});
}

absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype, AlterResult alter) {
  return SelfTest(context, dtype, alter).Run();
}

}  // namespace attendant::engine
