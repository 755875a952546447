#include "engine/kernels/self_test.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "engine/base/float_conversion.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/reference.h"

namespace attendant::engine {
namespace {

// Random values in [-1, 1), rounded to what a kernel in `dtype` multiplies, so that only sums
// differ.
class RandomValues {
 public:
  explicit RandomValues(DataType dtype) : rounds_(dtype == DataType::kBFloat16) {}

  std::vector<float> operator()(int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      value = static_cast<float>(random_()) * 0x1p-31f - 1.0f;
      if (rounds_) value = BFloat16ToFloat(FloatToBFloat16(value));
    }
    return values;
  }

 private:
  std::mt19937 random_;
  bool rounds_;
};

absl::Status Compare(const std::string& kernel, absl::Span<const float> got,
                     absl::Span<const float> want, double tolerance) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::abs(double{got[i]} - want[i]) <= tolerance) continue;  // false for a NaN
    return absl::InternalError(absl::StrFormat("self-test: %s gives %g instead of %g at value %d",
                                               kernel, got[i], want[i], i));
  }
  return absl::OkStatus();
}

// Many rows of integers may be multiplied in bfloat16, both factors rounded by up to 2^-9: eight
// standard deviations of the sum of so many products below 1.
double IntegerTolerance(int64_t inputs) {
  return 8 * 0x1p-9 * std::sqrt(static_cast<double>(inputs));
}

// Every class of depth that is known to have gone wrong in some release: up to and beyond 512, and
// not a multiple of anything; one row, and several.
absl::Status TestLinear(KernelContext& context, DataType dtype) {
  RandomValues random(dtype);
  const int bits = dtype == DataType::kInt8 ? 8 : dtype == DataType::kInt4 ? 4 : 0;
  constexpr int64_t kOutputs = 72;
  for (const int64_t inputs : {33, 512, 776}) {
    std::vector<float> weight = random(kOutputs * inputs), bias = random(kOutputs);
    const Matrix weight_view(weight.data(), kOutputs, inputs);
    if (bits != 0) {
      ASSIGN_OR_RETURN(const QuantizedMatrix quantized, Quantize(context, weight_view, bits));
      reference::Dequantize(quantized, weight_view);
    }
    const LinearOptions options{.dtype = dtype, .activation = Activation::kSilu};
    ASSIGN_OR_RETURN(const Linear linear, Linear::Create(context, weight_view, bias, options));
    for (const int64_t rows : {1, 64}) {
      std::vector<float> x = random(rows * inputs);
      const Matrix x_view(x.data(), rows, inputs);
      if (bits != 0) reference::RoundInGroups(x_view, x_view);
      std::vector<float> got(rows * kOutputs), want = got;
      linear.Apply(context, x_view, Matrix(got.data(), rows, kOutputs));
      reference::Linear(weight_view, bias, Activation::kSilu, x_view,
                        Matrix(want.data(), rows, kOutputs));
      RETURN_IF_ERROR(
          Compare(absl::StrFormat("linear, %d x %d, %d rows, %s, %s", inputs, kOutputs, rows,
                                  std::string(DataTypeName(dtype)), linear.implementation()),
                  got, want, bits != 0 && rows > 1 ? IntegerTolerance(inputs) : 1e-6 * inputs));
    }
  }
  return absl::OkStatus();
}

// Results are averages of values in [-1, 1); in bfloat16 the weights of the average are rounded, by
// 2^-9 at most.
double AttentionTolerance(DataType dtype) {
  return dtype == DataType::kBFloat16 ? 1.0 / 128 : 1e-5;
}

absl::Status TestAttention(KernelContext& context, DataType dtype) {
  RandomValues random(dtype);
  for (const int32_t head_dim : {32, 36}) {
    const AttentionOptions options{
        .num_heads = 2,
        .num_key_value_heads = 1,
        .head_dim = head_dim,
        .scale = 0.25f,  // a power of two: rounding queries after scaling changes nothing
        .causal = true,
        .dtype = dtype};
    constexpr int32_t kTokens = 70;
    const int64_t width = 2 * head_dim;
    const std::vector<float> q = random(kTokens * width), k = random(kTokens * head_dim),
                             v = random(kTokens * head_dim);
    const ConstMatrix q_view(q.data(), kTokens, width);
    const ConstMatrix k_view(k.data(), kTokens, head_dim), v_view(v.data(), kTokens, head_dim);
    const AttentionSequence sequence{.num_queries = kTokens, .num_keys = kTokens};
    std::vector<float> got(kTokens * width), want(kTokens * width);
    Attention(context, options, q_view, k_view, v_view, {sequence},
              Matrix(got.data(), kTokens, width));
    reference::Attention(options, q_view, k_view, v_view, {sequence},
                         Matrix(want.data(), kTokens, width));
    RETURN_IF_ERROR(Compare(
        absl::StrFormat("attention, head_dim %d, %s", head_dim, std::string(DataTypeName(dtype))),
        got, want, AttentionTolerance(dtype)));

    // The last query once more, over a cache.
    constexpr int32_t kBlockSize = 16;
    const std::vector<int32_t> blocks = {4, 2, 0, 3, 1};
    const int64_t block_values = kBlockSize * head_dim;
    AlignedBuffer cache_memory(2 * blocks.size() * block_values * sizeof(float));
    const PagedKeysValues cache{
        .dtype = dtype,
        .keys = cache_memory.data(),
        .values = cache_memory.data() + blocks.size() * block_values * sizeof(float),
        .block_size = kBlockSize,
        .block_stride = block_values};
    AttentionSequence cached = sequence;
    cached.blocks = blocks;
    StoreKeysValues(context, options, k_view, v_view, {cached}, cache);
    cached.num_queries = 1;
    std::vector<float> last(width);
    PagedAttention(context, options, q_view.Rows(kTokens - 1, 1), cache, {cached},
                   Matrix(last.data(), 1, width));
    RETURN_IF_ERROR(Compare(absl::StrFormat("cached attention, head_dim %d, %s", head_dim,
                                            std::string(DataTypeName(dtype))),
                            last, absl::MakeConstSpan(want).subspan((kTokens - 1) * width),
                            AttentionTolerance(dtype)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunKernelSelfTest(KernelContext& context, DataType dtype) {
  RETURN_IF_ERROR(TestLinear(context, dtype));
  if (ActivationType(dtype) != dtype) return absl::OkStatus();
  return TestAttention(context, dtype);
}

}  // namespace attendant::engine
