// Linear layers of real models: linear/MODEL_LAYER/TYPE/tokens:N. `weights` is the bytes of packed
// weights read in a second, from whatever cache holds them.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "benchmark/benchmark.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/reference.h"
#include "tests/benchmarks/benchmark_data.h"

namespace attendant::engine {
namespace {

struct Layer {
  const char* name;
  int64_t in_features, out_features;
  Activation activation;
};

constexpr Layer kLayers[] = {
    {"minilm_query_key_value", 384, 1152, Activation::kNone},
    {"minilm_up_proj", 384, 1536, Activation::kGeluErf},
    {"bert_base_down_proj", 3072, 768, Activation::kNone},
    {"smollm_135m_gate_up_proj", 576, 3072, Activation::kNone},
    {"llama_1b_up_proj", 2048, 5632, Activation::kNone},
    {"llama_1b_down_proj", 5632, 2048, Activation::kNone},
    {"llama_1b_lm_head", 2048, 32000, Activation::kNone},
};

void BM_Linear(benchmark::State& state, const Layer& layer, DataType dtype) {
  KernelContext& context = BenchmarkContext();
  const int64_t tokens = state.range(0);
  const RandomMatrix weight(layer.out_features, layer.in_features), x(tokens, layer.in_features, 2);
  RandomMatrix y(tokens, layer.out_features), want(1, layer.out_features);
  const auto linear =
      Linear::Create(context, weight, {}, {.dtype = dtype, .activation = layer.activation});
  CHECK_OK(linear.status());
  linear->Apply(context, x, y);
  reference::Linear(weight, {}, layer.activation, ConstMatrix(x).Rows(tokens - 1, 1), want);
  // Values sum to about sqrt(in_features) / 3; bfloat16 rounds both factors by up to 2^-9.
  const double sum = std::sqrt(static_cast<double>(layer.in_features));
  // Integers round to a 254th or a 16th of the largest, which is near 1.
  const double tolerance = dtype == DataType::kFloat32    ? 1e-5
                           : dtype == DataType::kBFloat16 ? 1.0 / 64
                           : dtype == DataType::kInt8     ? 1.0 / 32
                                                          : 1.0 / 4;
  CheckNear(y.view().Rows(tokens - 1, 1), want, sum * tolerance);
  for (auto _ : state) {
    linear->Apply(context, x, y);
    benchmark::ClobberMemory();
  }
  const double products = static_cast<double>(tokens * layer.in_features * layer.out_features);
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * products, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["weights"] = benchmark::Counter(static_cast<double>(linear->packed_bytes()),
                                                 benchmark::Counter::kIsIterationInvariantRate,
                                                 benchmark::Counter::kIs1000);
  state.SetLabel(linear->implementation());
}

// The same from memory: copies of the layer, larger together than any cache, take turns. This is
// what decoding does.
void BM_ColdLinear(benchmark::State& state, const Layer& layer, DataType dtype) {
  constexpr size_t kColdBytes = 400'000'000;
  KernelContext& context = BenchmarkContext();
  const int64_t tokens = state.range(0);
  const RandomMatrix weight(layer.out_features, layer.in_features), x(tokens, layer.in_features, 2);
  RandomMatrix y(tokens, layer.out_features);
  std::optional<QuantizedMatrix> quantized;
  if (ActivationType(dtype) != dtype)
    quantized = Quantize(context, weight, dtype == DataType::kInt8 ? 8 : 4).value();
  std::vector<Linear> copies;
  for (size_t bytes = 0; bytes < kColdBytes; bytes += copies.back().packed_bytes()) {
    auto copy = quantized ? Linear::Create(std::make_shared<QuantizedWeights>(context, *quantized),
                                           {}, {.activation = layer.activation})
                          : Linear::Create(context, weight, {},
                                           {.dtype = dtype, .activation = layer.activation});
    CHECK_OK(copy.status());
    copies.push_back(*std::move(copy));
    copies.back().Apply(context, x, y);
  }
  size_t next = 0;
  for (auto _ : state) {
    copies[next].Apply(context, x, y);
    benchmark::ClobberMemory();
    next = (next + 1) % copies.size();
  }
  state.counters["weights"] = benchmark::Counter(static_cast<double>(copies.back().packed_bytes()),
                                                 benchmark::Counter::kIsIterationInvariantRate,
                                                 benchmark::Counter::kIs1000);
  state.SetLabel(copies.back().implementation());
}

const bool kRegistered = [] {
  for (const Layer& layer : kLayers) {
    for (const DataType dtype :
         {DataType::kFloat32, DataType::kBFloat16, DataType::kInt8, DataType::kInt4}) {
      const std::string name =
          absl::StrFormat("linear/%s/%s", layer.name, std::string(DataTypeName(dtype)));
      benchmark::RegisterBenchmark(name, BM_Linear, layer, dtype)
          ->ArgName("tokens")
          ->Arg(1)
          ->Arg(8)
          ->Arg(64)
          ->Arg(100)
          ->Arg(512)
          ->UseRealTime();
    }
  }
  constexpr Layer kCold = {"llama_1b_up_proj", 2048, 5632, Activation::kNone};
  for (const DataType dtype :
       {DataType::kFloat32, DataType::kBFloat16, DataType::kInt8, DataType::kInt4}) {
    const std::string name =
        absl::StrFormat("cold_linear/%s/%s", kCold.name, std::string(DataTypeName(dtype)));
    benchmark::RegisterBenchmark(name, BM_ColdLinear, kCold, dtype)
        ->ArgName("tokens")
        ->Arg(1)
        ->Arg(4)
        ->Arg(8)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace attendant::engine
