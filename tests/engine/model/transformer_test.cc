#include "engine/model/transformer.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/quantized_weights.h"
#include "engine/kernels/reference.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/fake_checkpoint.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

constexpr int32_t kMaxTokens = 96;

KernelContext& Context(int num_threads) {
  static auto* one = new KernelContext(1, /*pin_threads=*/false);
  static auto* three = new KernelContext(3, /*pin_threads=*/false);
  return num_threads == 1 ? *one : *three;
}

std::unique_ptr<Transformer> Load(const FakeCheckpoint& checkpoint,
                                  DataType dtype = DataType::kFloat32, int num_threads = 1) {
  auto model = Transformer::Load(checkpoint,
                                 {.dtype = dtype,
                                  .max_batch_tokens = kMaxTokens,
                                  .max_logit_rows = kMaxTokens,
                                  .strict_kernels = true},
                                 Context(num_threads));
  CHECK_OK(model.status());
  return *std::move(model);
}

Ids SomeIds(int seed, int count) {
  Ids ids;
  for (int i = 0; i < count; ++i) ids.push_back((seed * 31 + i * i * 7 + i * 3) % 61);
  return ids;
}

double Rms(const std::vector<float>& values) {
  double square = 0;
  for (float value : values) square += double{value} * value;
  return std::sqrt(square / static_cast<double>(values.size()));
}

// How far values are from others, over the rms of those: the largest difference, and the rms of
// all.
struct Stray {
  double largest = 0;
  double rms = 0;
};

Stray StrayOf(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference(a.size());
  Stray stray;
  for (size_t i = 0; i < a.size(); ++i) {
    difference[i] = a[i] - b[i];
    stray.largest = std::max(stray.largest, std::abs(double{difference[i]}) / Rms(b));
  }
  stray.rms = a.empty() ? 0 : Rms(difference) / Rms(b);
  return stray;
}

// The farthest of all hidden states and of the logits.
Stray StrayOf(const ModelRunner::Output& a, const ModelRunner::Output& b) {
  Stray stray = StrayOf(a.logits, b.logits);
  EXPECT_EQ(a.hidden_states.size(), b.hidden_states.size());
  for (size_t layer = 0; layer < b.hidden_states.size(); ++layer) {
    const Stray more = StrayOf(a.hidden_states.at(layer), b.hidden_states[layer]);
    stray = {std::max(stray.largest, more.largest), std::max(stray.rms, more.rms)};
  }
  return stray;
}

void ExpectNear(const ModelRunner::Output& a, const ModelRunner::Output& b, const Stray& bound) {
  const Stray stray = StrayOf(a, b);
  EXPECT_LE(stray.largest, bound.largest);
  EXPECT_LE(stray.rms, bound.rms);
}

// Appends `more` to `output`: what two chunks of a sequence gave, as one.
void Append(const ModelRunner::Output& more, ModelRunner::Output& output) {
  output.hidden_states.resize(more.hidden_states.size());
  for (size_t layer = 0; layer < more.hidden_states.size(); ++layer) {
    std::vector<float>& states = output.hidden_states[layer];
    states.insert(states.end(), more.hidden_states[layer].begin(), more.hidden_states[layer].end());
  }
  output.logits.insert(output.logits.end(), more.logits.begin(), more.logits.end());
}

// To what 4 bits hold.
void RoundMatrices(FakeCheckpoint& checkpoint) {
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (tensor.shape.size() != 2) continue;
    const Matrix values(tensor.values.data(), tensor.shape[0], tensor.shape[1]);
    const auto quantized = Quantize(Context(1), values, 4);
    CHECK_OK(quantized.status());
    reference::Dequantize(*quantized, values);
  }
}

struct Case {
  const char* name;
  FakeCheckpoint (*checkpoint)();
  DataType dtype;
};

class BehaviourTest : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Transformer> LoadModel(int num_threads = 1) {
    return Load(GetParam().checkpoint(), GetParam().dtype, num_threads);
  }

  // How far apart two ways to compute the same may be.
  //
  // f32: another number of rows may take a kernel that sums in another order: over k terms that
  // changes a value by k * eps of its size, values are of order 1, k < 200; the layers pass it on.
  //
  // bf16: the two ways round other intermediate values (a cached key is multiplied in f32 by a
  // single query, in bf16 by many). Each strays from the exact result as far as this model's bf16
  // does, which is measured here; so they are within twice that of each other.
  //
  // int8 and int4: the same, with steps a few times as long; weights in 4 bits are far from the
  // exact ones, but alike in both ways, and so not counted.
  Stray Bound() {
    const DataType dtype = GetParam().dtype;
    if (dtype == DataType::kFloat32) return {.largest = 2e-5, .rms = 2e-5};
    FakeCheckpoint checkpoint = GetParam().checkpoint();
    if (dtype == DataType::kInt4) RoundMatrices(checkpoint);
    const auto exact = Load(checkpoint, DataType::kFloat32);
    const auto rounded = Load(checkpoint, dtype);
    const Ids ids = SomeIds(99, 40);
    const Stray stray = StrayOf(ModelRunner::Run(*rounded, ids), ModelRunner::Run(*exact, ids));
    EXPECT_LT(stray.rms, dtype == DataType::kBFloat16 ? 0.03 : 0.06) << "it is that far off";
    return {.largest = 2 * stray.largest, .rms = 2 * stray.rms};
  }
};
class DecoderBehaviourTest : public BehaviourTest {};

TEST_P(BehaviourTest, ASequenceIsTheSameAloneAndInABatch) {
  const auto model = LoadModel();
  const std::vector<Ids> texts = {SomeIds(1, 1), SomeIds(2, 17), SomeIds(3, 40), SomeIds(4, 2),
                                  SomeIds(5, 31)};
  std::vector<ModelRunner::Piece> pieces;
  for (size_t i = 0; i < texts.size(); ++i) pieces.push_back({static_cast<int>(i), texts[i]});
  const Stray bound = Bound();
  ModelRunner runner(*model, kMaxTokens);
  const std::vector<ModelRunner::Output> packed = runner.Step(pieces);
  for (size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE("sequence " + std::to_string(i));
    ExpectNear(packed[i], ModelRunner::Run(*model, texts[i]), bound);
  }
}

TEST_P(BehaviourTest, TheNumberOfThreadsChangesNothing) {
  const auto one = LoadModel(1);
  const auto three = LoadModel(3);
  const Ids ids = SomeIds(7, 39);
  ExpectNear(ModelRunner::Run(*three, ids), ModelRunner::Run(*one, ids), Bound());
}

TEST_P(BehaviourTest, TheSameStepTwiceGivesTheSameBits) {
  const auto model = LoadModel();
  const Ids ids = SomeIds(8, 33);
  const ModelRunner::Output first = ModelRunner::Run(*model, ids);
  const ModelRunner::Output second = ModelRunner::Run(*model, ids);
  EXPECT_EQ(first.hidden_states, second.hidden_states);
  EXPECT_EQ(first.logits, second.logits);
}

TEST_P(BehaviourTest, AnEmptyBatchGivesNoRows) {
  const auto model = LoadModel();
  ModelRunner runner(*model, 1);
  EXPECT_TRUE(runner.Step({}).empty());
}

TEST_P(DecoderBehaviourTest, PrefillInChunksIsPrefillInOne) {
  const auto model = LoadModel();
  const Ids ids = SomeIds(9, 40);
  const ModelRunner::Output whole = ModelRunner::Run(*model, ids);
  const Stray bound = Bound();
  for (const std::vector<int>& chunks :
       {std::vector<int>{1, 39}, {8, 8, 24}, {7, 1, 13, 19}, {39, 1}}) {
    ModelRunner runner(*model, kMaxTokens);
    ModelRunner::Output chunked;
    auto next = ids.begin();
    for (int chunk : chunks) {
      // Another sequence decodes along.
      Append(runner.Step({{1, {3}}, {0, Ids(next, next + chunk)}})[1], chunked);
      next += chunk;
    }
    ExpectNear(chunked, whole, bound);
  }
}

TEST_P(DecoderBehaviourTest, TokenByTokenWithTheCacheIsTheWholeWithout) {
  const auto model = LoadModel();
  const Ids ids = SomeIds(10, 40);
  ModelRunner runner(*model, kMaxTokens);
  ModelRunner::Output stepped;
  for (int32_t id : ids) Append(runner.Step({{0, {id}}})[0], stepped);
  ExpectNear(stepped, ModelRunner::Run(*model, ids), Bound());
}

TEST_P(DecoderBehaviourTest, LaterTokensDoNotChangeEarlierOnes) {
  const auto model = LoadModel();
  Ids ids = SomeIds(11, 30);
  const ModelRunner::Output before = ModelRunner::Run(*model, ids);
  ids.back() = (ids.back() + 1) % 61;
  const ModelRunner::Output after = ModelRunner::Run(*model, ids);
  const size_t kept = before.logits.size() - 61;
  EXPECT_TRUE(
      std::equal(before.logits.begin(), before.logits.begin() + kept, after.logits.begin()));
  EXPECT_NE(before.logits, after.logits);
}

TEST_P(DecoderBehaviourTest, LogitsAreOfTheRowsAskedFor) {
  const auto model = LoadModel();
  KvCacheOptions options = model->cache_options(16);
  options.num_blocks = 2;
  KvCache cache(options);
  const Ids blocks = {1, 0};
  Batch batch;
  batch.token_ids = SomeIds(12, 20);
  for (int32_t i = 0; i < 20; ++i) batch.positions.push_back(i);
  batch.sequences = {{.num_queries = 20, .blocks = blocks}};
  const ConstMatrix hidden = model->Forward(batch, &cache);
  const Ids all_rows = batch.positions;
  const Matrix all = model->Logits(hidden, all_rows);
  const std::vector<float> of_all(all.data, all.data + all.rows * all.cols);
  const Matrix some = model->Logits(hidden, {3, 4, 19});
  ASSERT_EQ(some.rows, 3);
  const bool is_integer = ActivationType(GetParam().dtype) != GetParam().dtype;
  for (int i = 0; i < 3; ++i) {
    const int row = std::vector<int>{3, 4, 19}[i];
    const Stray stray =
        StrayOf(std::vector<float>(some.row(i), some.row(i) + some.cols),
                {of_all.begin() + row * some.cols, of_all.begin() + (row + 1) * some.cols});
    EXPECT_LE(stray.largest, is_integer ? Bound().largest : 2e-5);
  }
  EXPECT_EQ(model->Logits(hidden, {}).rows, 0);
}

class EncoderDecoderTest : public BehaviourTest {};

TEST_P(EncoderDecoderTest, ATargetIsTheSameAloneAndAmongOthers) {
  const auto model = LoadModel();
  const std::vector<Ids> sources = {SomeIds(21, 17), SomeIds(22, 1), SomeIds(23, 30)};
  const std::vector<Ids> targets = {SomeIds(1, 5), SomeIds(2, 9), SomeIds(3, 1)};
  std::vector<ModelRunner::Piece> encoded, pieces;
  for (int i = 0; i < 3; ++i) {
    encoded.push_back({i, sources[i]});
    pieces.push_back({i, targets[i]});
  }
  ModelRunner runner(*model, kMaxTokens);
  runner.EncodeSources(encoded);
  const std::vector<ModelRunner::Output> packed = runner.Step(pieces);
  const Stray bound = Bound();
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    ExpectNear(packed[i], ModelRunner::Run(*model, targets[i], {}, sources[i]), bound);
  }
}

TEST_P(EncoderDecoderTest, TokenByTokenIsTheWhole) {
  const auto model = LoadModel();
  const Ids source = SomeIds(24, 33), target = SomeIds(10, 40);
  ModelRunner runner(*model, kMaxTokens);
  runner.EncodeSources({{0, source}});
  ModelRunner::Output stepped;
  for (int32_t id : target) Append(runner.Step({{0, {id}}})[0], stepped);
  ExpectNear(stepped, ModelRunner::Run(*model, target, {}, source), Bound());
}

TEST_P(EncoderDecoderTest, TheSourceMatters) {
  const auto model = LoadModel();
  const Ids target = SomeIds(10, 4);
  Ids source = SomeIds(24, 33);
  const ModelRunner::Output before = ModelRunner::Run(*model, target, {}, source);
  source[20] = (source[20] + 1) % 61;
  EXPECT_NE(ModelRunner::Run(*model, target, {}, source).logits, before.logits);
}

// A beam that goes on from another's tokens, in blocks of its own.
TEST_P(EncoderDecoderTest, ACopiedBlockIsAsGoodAsTheFirst) {
  const auto model = LoadModel();
  KvCacheOptions options = model->cache_options(8);
  options.num_blocks = 4;
  KvCache cache(options);
  const Ids source_blocks = {3}, first_block = {1}, copied_block = {2};
  Batch sources;
  sources.token_ids = SomeIds(25, 6);
  sources.positions = {0, 1, 2, 3, 4, 5};
  sources.sequences = {{.num_queries = 6, .source_blocks = source_blocks, .num_source_tokens = 6}};
  model->EncodeSources(sources, cache);
  Batch batch;
  batch.token_ids = {4, 9, 11};
  batch.positions = {0, 1, 2};
  batch.sequences = {{.num_queries = 3,
                      .blocks = first_block,
                      .source_blocks = source_blocks,
                      .num_source_tokens = 6}};
  model->Forward(batch, &cache);
  const auto next = [&](const Ids& blocks, bool copy) {
    batch.Clear();
    if (copy) batch.block_copies = {{1, 2}};
    batch.token_ids = {17};
    batch.positions = {3};
    batch.sequences = {{.num_queries = 1,
                        .num_past_tokens = 3,
                        .blocks = blocks,
                        .source_blocks = source_blocks,
                        .num_source_tokens = 6}};
    const ConstMatrix hidden = model->Forward(batch, &cache);
    return std::vector<float>(hidden.row(0), hidden.row(0) + hidden.cols);
  };
  const std::vector<float> copied = next(copied_block, true);
  EXPECT_EQ(next(first_block, false), copied);
}

constexpr Case kEncoders[] = {{"BertF32", TinyBert, DataType::kFloat32},
                              {"BertBf16", TinyBert, DataType::kBFloat16},
                              {"BertInt8", TinyBert, DataType::kInt8},
                              {"BertInt4", TinyBert, DataType::kInt4}};
constexpr Case kDecoders[] = {{"Gpt2F32", TinyGpt2, DataType::kFloat32},
                              {"Gpt2Bf16", TinyGpt2, DataType::kBFloat16},
                              {"LlamaF32", TinyLlama, DataType::kFloat32},
                              {"LlamaBf16", TinyLlama, DataType::kBFloat16},
                              {"Gpt2Int8", TinyGpt2, DataType::kInt8},
                              {"LlamaInt8", TinyLlama, DataType::kInt8},
                              {"LlamaInt4", TinyLlama, DataType::kInt4},
                              {"T5F32", TinyT5, DataType::kFloat32},
                              {"TransformerF32", TinyTransformer, DataType::kFloat32}};
constexpr Case kEncoderDecoders[] = {{"T5F32", TinyT5, DataType::kFloat32},
                                     {"T5Bf16", TinyT5, DataType::kBFloat16},
                                     {"T5Int8", TinyT5, DataType::kInt8},
                                     {"TransformerF32", TinyTransformer, DataType::kFloat32},
                                     {"TransformerBf16", TinyTransformer, DataType::kBFloat16}};
std::string CaseName(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Encoders, BehaviourTest, ::testing::ValuesIn(kEncoders), CaseName);
INSTANTIATE_TEST_SUITE_P(Decoders, BehaviourTest, ::testing::ValuesIn(kDecoders), CaseName);
INSTANTIATE_TEST_SUITE_P(Decoders, DecoderBehaviourTest, ::testing::ValuesIn(kDecoders), CaseName);
INSTANTIATE_TEST_SUITE_P(EncoderDecoders, EncoderDecoderTest, ::testing::ValuesIn(kEncoderDecoders),
                         CaseName);

TEST(TransformerTest, SegmentsDefaultToTheFirst) {
  const auto model = Load(TinyBert());
  const Ids ids = SomeIds(13, 20);
  const auto unsaid = ModelRunner::Run(*model, ids);
  const auto first = ModelRunner::Run(*model, ids, Ids(20, 0));
  const auto second = ModelRunner::Run(*model, ids, Ids(20, 1));
  EXPECT_EQ(unsaid.hidden_states, first.hidden_states);
  EXPECT_NE(unsaid.hidden_states, second.hidden_states);
}

TEST(TransformerTest, AStepAllocatesNothingThatItKeeps) {
  const auto model = Load(TinyLlama());
  const int64_t before = model->workspace_bytes();
  EXPECT_GT(before, kMaxTokens * (42 + 42 + 100) * 4);
  ModelRunner::Run(*model, SomeIds(14, 40));
  EXPECT_EQ(model->workspace_bytes(), before);
}

TEST(TransformerTest, TheCacheIsShapedForTheModel) {
  const KvCacheOptions options =
      Load(TinyLlama(), DataType::kBFloat16)->cache_options(/*block_size=*/32);
  EXPECT_EQ(options.num_layers, 3);
  EXPECT_EQ(options.num_key_value_heads, 2);
  EXPECT_EQ(options.head_dim, 10);
  EXPECT_EQ(options.block_size, 32);
  EXPECT_EQ(options.dtype, DataType::kBFloat16);
}

TEST(TransformerTest, AnUnknownModelTypeIsNamedBesideTheKnown) {
  FakeCheckpoint checkpoint = TinyLlama();
  checkpoint.SetConfig("model_type", "\"mamba\"");
  EXPECT_THAT(
      Transformer::Load(checkpoint, {}, Context(1)),
      StatusIs(absl::StatusCode::kUnimplemented,
               HasSubstr(absl::StrCat("model_type \"mamba\" is not one of those that are built: ",
                                      absl::StrJoin(KnownModelTypes(), ", ")))));
}

TEST(TransformerDeathTest, AStepLargerThanTheWorkspaceIsADefect) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto model = Load(TinyBert());
  EXPECT_DEATH(ModelRunner::Run(*model, Ids(kMaxTokens + 1, 0)), "larger than the workspace");
}

}  // namespace
}  // namespace attendant::engine
