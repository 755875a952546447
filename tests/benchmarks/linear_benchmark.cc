// Linear layers of real models: linear/MODEL_LAYER/TYPE/tokens:N.

#include <cstdint>
#include <string>

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
  CheckNear(y.view().Rows(tokens - 1, 1), want,
            dtype == DataType::kBFloat16 ? sum / 64 : sum * 1e-5);
  for (auto _ : state) {
    linear->Apply(context, x, y);
    benchmark::ClobberMemory();
  }
  const double products = static_cast<double>(tokens * layer.in_features * layer.out_features);
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * products, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(linear->implementation());
}

const bool kRegistered = [] {
  for (const Layer& layer : kLayers) {
    for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
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
  return true;
}();

}  // namespace
}  // namespace attendant::engine
