#include "engine/kernels/attention.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/kernels/reference.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"

namespace attendant::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kNoWindow = std::numeric_limits<int32_t>::max();

// Queries and keys of several sequences.
using Lengths = std::vector<std::pair<int32_t, int32_t>>;

// Scores are sums of head_dim products below 1, times the scale, so the weights are wrong by as
// much relatively; the result is an average of values below 1. In bfloat16 the inputs are rounded
// already, except for queries times the scale, which round by 2^-9 relatively, as do the weights.
double Tolerance(const AttentionOptions& options, int64_t num_keys) {
  const double scores = SumTolerance(options.head_dim) * std::max(1.0f, options.scale);
  if (options.dtype == DataType::kFloat32) return 2 * scores + SumTolerance(8) + 1e-9 * num_keys;
  return 0x1p-9 * (1 + options.scale * std::sqrt(options.head_dim)) + 0x1p-9;
}

std::string Name(const AttentionOptions& options) {
  return absl::StrCat(options.num_heads, "/", options.num_key_value_heads, " heads of ",
                      options.head_dim, options.causal ? ", causal" : "", ", window ",
                      options.sliding_window, ", ", DataTypeName(options.dtype));
}

AttentionOptions Options(int32_t num_heads, int32_t num_key_value_heads, int32_t head_dim) {
  return {.num_heads = num_heads,
          .num_key_value_heads = num_key_value_heads,
          .head_dim = head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
}

void CheckPacked(const AttentionOptions& options, const Lengths& lengths, int64_t gap = 0) {
  SCOPED_TRACE(Name(options));
  std::vector<AttentionSequence> sequences;
  int32_t num_queries = 0, num_keys = 0;
  for (const auto& [queries, keys] : lengths) {
    sequences.push_back({.query_start = num_queries,
                         .num_queries = queries,
                         .key_start = num_keys,
                         .num_keys = keys});
    num_queries += queries;
    num_keys += keys;
  }
  const int64_t width = options.num_heads * options.head_dim;
  const int64_t key_width = options.num_key_value_heads * options.head_dim;
  TestMatrix q(num_queries, width, 1, gap), k(num_keys, key_width, 2, gap),
      v(num_keys, key_width, 3, gap);
  q.Round(options.dtype);
  k.Round(options.dtype);
  v.Round(options.dtype);
  TestMatrix got(num_queries, width, 4, gap), want(num_queries, width);
  Attention(TestContext(), options, q, k, v, sequences, got);
  reference::Attention(options, q, k, v, sequences, want);
  EXPECT_TRUE(AllNear(got, want, Tolerance(options, num_keys)));
  EXPECT_TRUE(got.GapsUntouched());
}

class AttentionTest : public ::testing::TestWithParam<DataType> {
 protected:
  AttentionOptions Options(int32_t num_heads, int32_t num_key_value_heads, int32_t head_dim) {
    AttentionOptions options = engine::Options(num_heads, num_key_value_heads, head_dim);
    options.dtype = GetParam();
    return options;
  }
};

TEST_P(AttentionTest, EqualsPlainLoopsForAwkwardHeads) {
  for (const int32_t head_dim : {1, 5, 12, 20, 64, 80, 128}) {
    for (const bool causal : {false, true}) {
      AttentionOptions options = Options(4, 2, head_dim);
      options.causal = causal;
      CheckPacked(options, {{17, 17}, {1, 1}, {33, 33}});
    }
  }
}

TEST_P(AttentionTest, EqualsPlainLoopsForAwkwardLengths) {
  for (const bool causal : {false, true}) {
    AttentionOptions options = Options(2, 1, 16);
    options.causal = causal;
    for (const int32_t length :
         {1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 300, 520}) {
      SCOPED_TRACE(length);
      CheckPacked(options, {{length, length}});
    }
  }
}

TEST_P(AttentionTest, EqualsPlainLoopsWithUnlikeNumbersOfQueriesAndKeys) {
  for (const bool causal : {false, true}) {
    AttentionOptions options = Options(3, 3, 8);
    options.causal = causal;
    CheckPacked(options,
                {{0, 0}, {5, 0}, {0, 5}, {3, 70}, {70, 3}, {100, 300}, {300, 100}, {1, 513}});
  }
}

TEST_P(AttentionTest, EqualsPlainLoopsWithWindows) {
  for (const bool causal : {false, true}) {
    for (const int32_t window : {1, 2, 31, 100, 256, 400}) {
      AttentionOptions options = Options(2, 2, 8);
      options.causal = causal;
      options.sliding_window = window;
      CheckPacked(options, {{600, 600}, {40, 600}, {5, 5}});
    }
  }
}

TEST_P(AttentionTest, AddsABiasByDistance) {
  constexpr int32_t kMaxDistance = 620;
  TestMatrix biases(4, 2 * kMaxDistance + 1, 11);
  for (const bool causal : {false, true}) {
    for (const int32_t window : {kNoWindow, 31}) {
      AttentionOptions options = Options(4, 2, 12);
      options.causal = causal;
      options.sliding_window = window;
      options.relative_bias = {biases.view().data, kMaxDistance};
      CheckPacked(options, {{1, 1}, {0, 0}, {65, 65}, {600, 600}, {3, 70}, {40, 513}});
    }
  }
}

TEST_P(AttentionTest, SharesKeysAmongGroupsOfHeads) {
  CheckPacked(Options(8, 8, 16), {{40, 40}});
  CheckPacked(Options(8, 2, 16), {{40, 40}});
  CheckPacked(Options(8, 1, 16), {{40, 40}});
  CheckPacked(Options(9, 3, 64), {{70, 70}});
}

TEST_P(AttentionTest, TakesColumnsOfWiderMatrices) {
  CheckPacked(Options(4, 2, 12), {{19, 19}, {70, 70}}, 7);
}

TEST_P(AttentionTest, TakesManySequencesAtOnce) {
  Lengths lengths;
  for (int32_t i = 0; i < 100; ++i) lengths.push_back({i % 23, i % 23});
  CheckPacked(Options(2, 2, 32), lengths);
}

// More keys than are packed at a time.
TEST_P(AttentionTest, TakesMoreThanItPacksAtOnce) {
  AttentionOptions options = Options(32, 32, 128);
  Lengths lengths;
  for (int32_t i = 0; i < 5; ++i) lengths.push_back({1, 700});
  CheckPacked(options, lengths);
}

TEST_P(AttentionTest, EqualsPlainLoopsOnEveryTarget) {
  ForEachTarget([&] {
    AttentionOptions options = Options(4, 2, 20);
    options.causal = true;
    CheckPacked(options, {{70, 300}, {33, 33}});
  });
}

// Scores far beyond exp's range.
TEST_P(AttentionTest, LargeScoresPickTheLargest) {
  AttentionOptions options = Options(1, 1, 8);
  options.scale = 1000.0f;
  TestMatrix q(3, 8, 1), k(300, 8, 2), v(300, 8, 3), got(3, 8);
  for (int64_t i = 0; i < 8; ++i) {
    q(0, i) = q(1, i) = q(2, i) = 1.0f;
    for (int64_t j = 0; j < 300; ++j) k(j, i) = j == 270 ? 1.0f : -1.0f;
  }
  v.Round(GetParam());
  const AttentionSequence sequence{.num_queries = 3, .num_keys = 300};
  Attention(TestContext(), options, q, k, v, {sequence}, got);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_TRUE(AllNear(got.view().Rows(row, 1), v.view().Rows(270, 1), 0));
  }
}

TEST_P(AttentionTest, DoesNotDependOnTheNumberOfThreads) {
  AttentionOptions options = Options(4, 2, 16);
  options.causal = true;
  const TestMatrix q(300, 64, 1), k(300, 32, 2), v(300, 32, 3);
  const AttentionSequence sequence{.num_queries = 300, .num_keys = 300};
  TestMatrix two(300, 64), one(300, 64);
  Attention(TestContext(), options, q, k, v, {sequence}, two);
  WithOneThread(
      [&](KernelContext& context) { Attention(context, options, q, k, v, {sequence}, one); });
  EXPECT_TRUE(AllNear(two, one, 0));
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionTest,
                         ::testing::Values(DataType::kFloat32, DataType::kBFloat16),
                         [](const auto& info) { return std::string(DataTypeName(info.param)); });

// A cache of one layer, its blocks dealt out of order, all NaN until stored.
class TestCache {
 public:
  TestCache(const AttentionOptions& options, DataType dtype, int32_t block_size, int32_t num_blocks)
      : block_values_(options.num_key_value_heads * block_size * options.head_dim + 24),
        memory_(2 * num_blocks * block_values_ * sizeof(float)),
        free_(num_blocks) {
    auto* words = reinterpret_cast<uint32_t*>(memory_.data());
    std::fill_n(words, memory_.size_bytes() / sizeof(uint32_t), 0x7fc07fc0u);  // NaN, in both types
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(5));
    view_ = {.dtype = dtype,
             .keys = memory_.data(),
             .values = memory_.data() + memory_.size_bytes() / 2,
             .block_size = block_size,
             .block_stride = block_values_};
  }

  const PagedKeysValues& view() const { return view_; }

  std::vector<int32_t> Take(int32_t num_tokens) {
    std::vector<int32_t> blocks;
    for (int32_t token = 0; token < num_tokens; token += view_.block_size) {
      blocks.push_back(free_.back());
      free_.pop_back();
    }
    return blocks;
  }

 private:
  int64_t block_values_;
  AlignedBuffer memory_;
  std::vector<int32_t> free_;
  PagedKeysValues view_;
};

struct PagedTypes {
  DataType products, cache;
};

class PagedAttentionTest : public ::testing::TestWithParam<PagedTypes> {
 protected:
  AttentionOptions Options(int32_t num_heads, int32_t num_key_value_heads, int32_t head_dim) {
    AttentionOptions options = engine::Options(num_heads, num_key_value_heads, head_dim);
    options.dtype = GetParam().products;
    options.causal = true;
    return options;
  }

  // Stores all keys, in two steps, then attends from the last queries of each sequence.
  void Check(const AttentionOptions& options, const Lengths& lengths, int32_t block_size = 16) {
    SCOPED_TRACE(absl::StrCat(Name(options), ", blocks of ", block_size));
    int32_t num_queries = 0, num_keys = 0, num_blocks = 0;
    for (const auto& [queries, keys] : lengths) {
      num_queries += queries;
      num_keys += keys;
      num_blocks += keys / block_size + 1;
    }
    const int64_t width = options.num_heads * options.head_dim;
    const int64_t key_width = options.num_key_value_heads * options.head_dim;
    TestCache cache(options, GetParam().cache, block_size, num_blocks);
    TestMatrix q(num_queries, width, 1, 5), k(num_keys, key_width, 2, 3),
        v(num_keys, key_width, 3, 3);
    q.Round(options.dtype);
    k.Round(GetParam().cache);
    v.Round(GetParam().cache);
    k.Round(options.dtype);
    v.Round(options.dtype);

    std::vector<std::vector<int32_t>> blocks;
    std::vector<AttentionSequence> first_half, second_half, packed, paged;
    int32_t query = 0, key = 0;
    for (const auto& [queries, keys] : lengths) {
      blocks.push_back(cache.Take(keys));
      const int32_t half = keys / 2;
      first_half.push_back(
          {.query_start = key, .num_queries = half, .num_keys = half, .blocks = blocks.back()});
      second_half.push_back({.query_start = key + half,
                             .num_queries = keys - half,
                             .num_keys = keys,
                             .blocks = blocks.back()});
      packed.push_back(
          {.query_start = query, .num_queries = queries, .key_start = key, .num_keys = keys});
      paged.push_back({.query_start = query,
                       .num_queries = queries,
                       .num_keys = keys,
                       .blocks = blocks.back()});
      query += queries;
      key += keys;
    }
    StoreKeysValues(TestContext(), options, k, v, first_half, cache.view());
    StoreKeysValues(TestContext(), options, k, v, second_half, cache.view());
    TestMatrix got(num_queries, width, 4, 5), want(num_queries, width);
    PagedAttention(TestContext(), options, q, cache.view(), paged, got);
    reference::Attention(options, q, k, v, packed, want);
    EXPECT_TRUE(AllNear(got, want, Tolerance(options, num_keys)));
    EXPECT_TRUE(got.GapsUntouched());
    reference::PagedAttention(options, q, cache.view(), paged, got);
    EXPECT_TRUE(AllNear(got, want, 0)) << "the two twins differ";
  }
};

TEST_P(PagedAttentionTest, EqualsPlainLoopsForOneQuery) {
  for (const int32_t head_dim : {1, 5, 12, 20, 64, 80, 128})
    Check(Options(6, 2, head_dim), {{1, 1}, {1, 40}, {1, 33}});
  for (const int32_t keys : {1, 15, 16, 17, 511, 512, 513, 1100})
    Check(Options(4, 2, 16), {{1, keys}});
}

TEST_P(PagedAttentionTest, EqualsPlainLoopsForFewAndManyQueries) {
  for (const int32_t queries : {2, 3, 5, 8, 9, 16, 17, 40})
    Check(Options(4, 2, 20), {{queries, 50}, {queries, queries}});
  Check(Options(32, 1, 16), {{1, 100}});  // 32 heads share a key
}

TEST_P(PagedAttentionTest, MixesPrefillAndDecode) {
  Check(Options(9, 3, 64), {{1, 70}, {50, 50}, {1, 1}, {0, 3}, {30, 100}, {1, 600}});
}

TEST_P(PagedAttentionTest, AddsABiasByDistance) {
  constexpr int32_t kMaxDistance = 1100;
  TestMatrix biases(6, 2 * kMaxDistance + 1, 11);
  for (const int32_t key_heads : {6, 2}) {
    for (const bool causal : {true, false}) {
      AttentionOptions options = Options(6, key_heads, 12);
      options.causal = causal;
      options.relative_bias = {biases.view().data, kMaxDistance};
      Check(options, {{1, 1}, {1, 40}, {5, 5}, {2, 513}, {40, 40}, {20, 300}, {1, 1100}});
    }
  }
}

TEST_P(PagedAttentionTest, TakesAnyBlockSize) {
  for (const int32_t block_size : {1, 3, 16, 32, 100})
    Check(Options(2, 1, 12), {{1, 70}, {40, 90}}, block_size);
}

TEST_P(PagedAttentionTest, SeesOnlyItsWindow) {
  for (const int32_t window : {1, 5, 16, 100, 600}) {
    AttentionOptions options = Options(2, 2, 8);
    options.sliding_window = window;
    Check(options, {{1, 700}, {3, 700}, {40, 700}});
  }
}

TEST_P(PagedAttentionTest, EqualsPlainLoopsOnEveryTarget) {
  ForEachTarget([&] { Check(Options(4, 2, 20), {{1, 300}, {4, 30}, {40, 90}}); });
}

// A sequence's result is bit for bit the same in whatever company it is.
TEST_P(PagedAttentionTest, DoesNotDependOnTheBatchNorOnThreads) {
  const AttentionOptions options = Options(4, 2, 16);
  TestCache cache(options, GetParam().cache, 16, 200);
  const TestMatrix q(3, 64, 1), k(1500, 32, 2), v(1500, 32, 3);
  std::vector<std::vector<int32_t>> blocks;
  std::vector<AttentionSequence> all;
  for (int32_t i = 0; i < 3; ++i) {
    blocks.push_back(cache.Take(1000));
    AttentionSequence sequence{.num_queries = 1000, .num_keys = 1000, .blocks = blocks.back()};
    StoreKeysValues(TestContext(), options, k.view().Rows(i * 100, 1000),
                    v.view().Rows(i * 100, 1000), {sequence}, cache.view());
    all.push_back(
        {.query_start = i, .num_queries = 1, .num_keys = 1000 - i, .blocks = blocks.back()});
  }
  TestMatrix together(3, 64), alone(3, 64), one_thread(3, 64);
  PagedAttention(TestContext(), options, q, cache.view(), all, together);
  for (const AttentionSequence& sequence : all) {
    PagedAttention(TestContext(), options, q, cache.view(), {sequence}, alone);
  }
  EXPECT_TRUE(AllNear(together, alone, 0));
  WithOneThread([&](KernelContext& context) {
    PagedAttention(context, options, q, cache.view(), all, one_thread);
  });
  EXPECT_TRUE(AllNear(together, one_thread, 0));
}

TEST_P(PagedAttentionTest, MeanWeightsEqualPlainLoops) {
  const AttentionOptions options = Options(4, 2, 20);
  const std::vector<int32_t> lengths = {1, 16, 17, 333};
  TestCache cache(options, GetParam().cache, 16, 40);
  TestMatrix q(5, 80, 1, 3), k(333, 40, 2), v(333, 40, 3);
  k.Round(GetParam().cache);
  v.Round(GetParam().cache);
  std::vector<std::vector<int32_t>> blocks;
  std::vector<AttentionSequence> sequences;
  for (size_t i = 0; i < lengths.size(); ++i) {
    blocks.push_back(cache.Take(lengths[i]));
    AttentionSequence sequence{
        .num_queries = lengths[i], .num_keys = lengths[i], .blocks = blocks.back()};
    StoreKeysValues(TestContext(), options, k, v, {sequence}, cache.view());
    sequence.query_start = static_cast<int32_t>(4 - i);
    sequence.num_queries = 1;
    sequences.push_back(sequence);
  }
  TestMatrix got(4, 340, 7, 2), want = got;
  PagedMeanWeights(TestContext(), options, q, cache.view(), sequences, got);
  reference::PagedMeanWeights(options, q, cache.view(), sequences, want);
  EXPECT_TRUE(AllNear(got, want, 1e-6));
  EXPECT_TRUE(got.GapsUntouched());
}

INSTANTIATE_TEST_SUITE_P(Types, PagedAttentionTest,
                         ::testing::Values(PagedTypes{DataType::kFloat32, DataType::kFloat32},
                                           PagedTypes{DataType::kFloat32, DataType::kBFloat16},
                                           PagedTypes{DataType::kBFloat16, DataType::kFloat32},
                                           PagedTypes{DataType::kBFloat16, DataType::kBFloat16}),
                         [](const auto& info) {
                           return absl::StrCat(DataTypeName(info.param.products), "_cache_",
                                               DataTypeName(info.param.cache));
                         });

// What MaskedAttention gives, next to its twin.
struct Masked {
  TestMatrix out, lse, weights;
  Masked(int64_t heads, int64_t rows, int64_t keys, int64_t head_dim)
      : out(rows, heads * head_dim, 7), lse(heads, rows, 8), weights(heads * rows, keys, 9) {}
};

void CheckMasked(const AttentionOptions& options, int32_t num_queries, int32_t num_keys,
                 const AttentionBias& bias, int32_t first_query, int32_t rows) {
  SCOPED_TRACE(absl::StrCat(Name(options), ", queries ", first_query, " + ", rows, " of ",
                            num_queries, ", ", num_keys, " keys"));
  const TestMatrix q(num_queries, options.num_heads * options.head_dim, 1);
  const TestMatrix k(num_keys, options.num_key_value_heads * options.head_dim, 2);
  const TestMatrix v(num_keys, options.num_key_value_heads * options.head_dim, 3);
  Masked got(options.num_heads, rows, num_keys, options.head_dim), want = got;
  MaskedAttention(TestContext(), options, q.view().Rows(first_query, rows), first_query,
                  num_queries, k, v, bias, got.out, got.lse.view().data, got.weights.view().data);
  reference::MaskedAttention(options, q.view().Rows(first_query, rows), first_query, num_queries, k,
                             v, bias, want.out, want.lse.view().data, want.weights.view().data);
  EXPECT_TRUE(AllNear(got.out, want.out, 1e-5));
  EXPECT_TRUE(AllNear(got.weights, want.weights, 1e-5));
  for (int64_t head = 0; head < options.num_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const float a = got.lse(head, row), b = want.lse(head, row);
      EXPECT_TRUE(a == b || std::abs(a - b) < 1e-5) << a << " instead of " << b;
    }
  }
  TestMatrix only_out(rows, options.num_heads * options.head_dim);
  MaskedAttention(TestContext(), options, q.view().Rows(first_query, rows), first_query,
                  num_queries, k, v, bias, only_out, nullptr, nullptr);
  EXPECT_TRUE(AllNear(only_out, got.out, 0));
  Masked only_weights(options.num_heads, rows, num_keys, options.head_dim);
  MaskedAttention(TestContext(), options, q.view().Rows(first_query, rows), first_query,
                  num_queries, k, {}, bias, {}, only_weights.lse.view().data,
                  only_weights.weights.view().data);
  EXPECT_TRUE(AllNear(only_weights.weights, got.weights, 0));
}

TEST(MaskedAttentionTest, EqualsPlainLoopsWithoutAMask) {
  for (const bool causal : {false, true}) {
    AttentionOptions options = Options(4, 2, 20);
    options.causal = causal;
    CheckMasked(options, 70, 70, {}, 0, 70);
    CheckMasked(options, 70, 300, {}, 10, 40);
    CheckMasked(options, 300, 70, {}, 100, 200);
    CheckMasked(options, 5, 0, {}, 0, 5);
    CheckMasked(options, 1, 1, {}, 0, 1);
  }
}

TEST(MaskedAttentionTest, AddsABiasByDistance) {
  TestMatrix biases(4, 2 * 300 + 1, 11);
  for (const bool causal : {false, true}) {
    AttentionOptions options = Options(4, 2, 20);
    options.causal = causal;
    options.relative_bias = {biases.view().data, 300};
    CheckMasked(options, 70, 70, {}, 0, 70);
    CheckMasked(options, 70, 300, {}, 10, 40);
    CheckMasked(options, 290, 290, {}, 100, 150);
  }
}

TEST(MaskedAttentionTest, AddsAMaskOfAnyBroadcast) {
  constexpr int32_t kHeads = 4, kQueries = 70, kKeys = 280;
  const TestMatrix values(kHeads * kQueries, kKeys, 5);
  const float* data = values.view().data;
  for (const int64_t head_stride : {0, kQueries * kKeys}) {
    for (const int64_t query_stride : {0, kKeys}) {
      for (const int64_t key_stride : {0, 1}) {
        CheckMasked(Options(kHeads, 2, 12), kQueries, kKeys,
                    {data, head_stride, query_stride, key_stride}, 13, 50);
      }
    }
  }
  CheckMasked(Options(kHeads, 2, 12), 60, 70, {data, 0, 1, 70}, 0, 60);  // transposed
}

TEST(MaskedAttentionTest, AMaskOfInfinitiesHidesKeysAndWholeRows) {
  constexpr int32_t kQueries = 70, kKeys = 600;
  TestMatrix mask(kQueries, kKeys, 5);
  for (int64_t row = 0; row < kQueries; ++row) {
    for (int64_t key = 0; key < kKeys; ++key) {
      // Row 3 sees nothing; the others see some keys, row 4 only beyond the first blocks.
      const bool hidden = row == 3 || (row == 4 && key < 550) || (key * 7 + row) % 3 == 0;
      mask(row, key) = hidden ? -kInfinity : 0.0f;
    }
  }
  CheckMasked(Options(2, 2, 16), kQueries, kKeys, {mask.view().data, 0, kKeys, 1}, 0, kQueries);
  AttentionOptions causal = Options(2, 1, 16);
  causal.causal = true;
  causal.sliding_window = 300;
  CheckMasked(causal, kQueries, kKeys, {mask.view().data, 0, kKeys, 1}, 1, 69);
}

// The lowest float, which many libraries use for a mask: nothing overflows, and a row of it is an
// average.
TEST(MaskedAttentionTest, AMaskOfLowestFloatsIsNotInfinite) {
  TestMatrix mask(4, 40);
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t key = 0; key < 40; ++key) {
      mask(row, key) = row == 0 || key % 2 == 0 ? std::numeric_limits<float>::lowest() : 0.0f;
    }
  }
  CheckMasked(Options(1, 1, 8), 4, 40, {mask.view().data, 0, 40, 1}, 1, 3);
}

TEST(MaskedAttentionTest, EqualsPlainLoopsOnEveryTarget) {
  const TestMatrix mask(70, 280, 5);
  ForEachTarget(
      [&] { CheckMasked(Options(2, 1, 20), 70, 280, {mask.view().data, 0, 280, 1}, 0, 70); });
}

}  // namespace
}  // namespace attendant::engine
