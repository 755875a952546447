// Attention of real models.
//
//   attention/MODEL/TYPE/PRODUCTS/tokens:N   one sequence of N tokens; products by oneDNN's
//   ukernels ("brgemm"), or by our
//                                            vector loops ("vector"), which other machines fall
//                                            back to
//   decode/MODEL/TYPE/context:N              one new token each of 8 sequences, over N cached
//   tokens of TYPE

#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "benchmark/benchmark.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/block_product.h"
#include "engine/kernels/reference.h"
#include "tests/benchmarks/benchmark_data.h"

namespace attendant::engine {
namespace {

struct Model {
  const char* name;
  int32_t num_heads, num_key_value_heads, head_dim;
  bool causal;
};

constexpr Model kModels[] = {
    {"minilm", 12, 12, 32, false},
    {"bert_base", 12, 12, 64, false},
    {"smollm_135m", 9, 3, 64, true},
};

AttentionOptions Options(const Model& model, DataType dtype) {
  return {.num_heads = model.num_heads,
          .num_key_value_heads = model.num_key_value_heads,
          .head_dim = model.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(model.head_dim)),
          .causal = model.causal,
          .dtype = dtype};
}

void BM_Attention(benchmark::State& state, const Model& model, DataType dtype, bool brgemm) {
  KernelContext& context = BenchmarkContext();
  const auto tokens = static_cast<int32_t>(state.range(0));
  const AttentionOptions options = Options(model, dtype);
  const int64_t width = model.num_heads * model.head_dim;
  const int64_t key_width = model.num_key_value_heads * model.head_dim;
  const RandomMatrix q(tokens, width, 1), k(tokens, key_width, 2), v(tokens, key_width, 3);
  RandomMatrix out(tokens, width), want(1, width);
  const AttentionSequence sequence{.num_queries = tokens, .num_keys = tokens};
  context.block_products().set_enabled(brgemm);
  Attention(context, options, q, k, v, {sequence}, out);
  reference::MaskedAttention(options, ConstMatrix(q).Rows(tokens - 1, 1), tokens - 1, tokens, k, v,
                             {}, want, nullptr, nullptr);
  CheckNear(out.view().Rows(tokens - 1, 1), want, dtype == DataType::kBFloat16 ? 0.01 : 1e-5);
  for (auto _ : state) {
    Attention(context, options, q, k, v, {sequence}, out);
    benchmark::ClobberMemory();
  }
  context.block_products().set_enabled(true);
  const double scores =
      static_cast<double>(model.num_heads) * tokens * tokens / (model.causal ? 2 : 1);
  state.counters["GFLOP/s"] = benchmark::Counter(4e-9 * scores * model.head_dim,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void BM_Decode(benchmark::State& state, const Model& model, DataType cache_dtype) {
  KernelContext& context = BenchmarkContext();
  constexpr int32_t kSequences = 8, kBlockSize = 16;
  const auto length = static_cast<int32_t>(state.range(0));
  const AttentionOptions options = Options(model, DataType::kFloat32);
  const int64_t width = model.num_heads * model.head_dim;
  const int64_t key_width = model.num_key_value_heads * model.head_dim;
  const int32_t blocks_each = (length + kBlockSize - 1) / kBlockSize;
  const int64_t cache_bytes =
      int64_t{kSequences} * blocks_each * kBlockSize * key_width * SizeOf(cache_dtype);
  AlignedBuffer keys(cache_bytes), values(cache_bytes);
  const PagedKeysValues cache{.dtype = cache_dtype,
                              .keys = keys.data(),
                              .values = values.data(),
                              .block_size = kBlockSize,
                              .block_stride = kBlockSize * key_width};
  const RandomMatrix q(kSequences, width, 1), k(length, key_width, 2), v(length, key_width, 3);
  RandomMatrix out(kSequences, width), want(kSequences, width);
  std::vector<int32_t> blocks(kSequences * blocks_each);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<AttentionSequence> sequences;
  for (int32_t i = 0; i < kSequences; ++i) {
    AttentionSequence sequence{.num_queries = length, .num_keys = length};
    sequence.blocks = absl::MakeConstSpan(blocks).subspan(i * blocks_each, blocks_each);
    StoreKeysValues(context, options, k, v, {sequence}, cache);
    sequence.query_start = i;
    sequence.num_queries = 1;
    sequences.push_back(sequence);
  }
  PagedAttention(context, options, q, cache, sequences, out);
  reference::PagedAttention(options, q, cache, sequences, want);
  CheckNear(out, want, 1e-5);
  for (auto _ : state) {
    PagedAttention(context, options, q, cache, sequences, out);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kSequences * length * key_width *
                          SizeOf(cache_dtype) * 2);
}

const bool kRegistered = [] {
  for (const Model& model : kModels) {
    for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
      const std::string type(DataTypeName(dtype));
      for (const bool brgemm : {true, false}) {
        // Without ukernels there is no product in bfloat16.
        if (dtype == DataType::kBFloat16 && (!brgemm || !CpuMultipliesBFloat16())) continue;
        benchmark::RegisterBenchmark(
            absl::StrFormat("attention/%s/%s/%s", model.name, type, brgemm ? "brgemm" : "vector"),
            BM_Attention, model, dtype, brgemm)
            ->ArgName("tokens")
            ->Arg(20)
            ->Arg(128)
            ->Arg(512)
            ->Arg(2048)
            ->UseRealTime();
      }
      if (model.causal) {
        benchmark::RegisterBenchmark(absl::StrFormat("decode/%s/%s", model.name, type), BM_Decode,
                                     model, dtype)
            ->ArgName("context")
            ->Arg(128)
            ->Arg(2048)
            ->UseRealTime();
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace attendant::engine
