// The two models that deploy/models/fetch fetches, on real text, against transformers. Skipped
// where they have not been fetched.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/softmax.h"
#include "engine/model/model_weights.h"
#include "engine/model/pooling.h"
#include "engine/model/transformer.h"
#include "engine/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/model/expected_tensors.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::FetchedModelPath;
using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::TestDataPath;

KernelContext& Context() {
  static auto* context = new KernelContext(1, /*pin_threads=*/false);
  return *context;
}

class FetchedModelTest : public ::testing::Test {
 protected:
  void OpenOrSkip(const std::string& name) {
    const auto path = FetchedModelPath(name);
    if (!path) GTEST_SKIP() << name << " has not been fetched (deploy/models/fetch)";
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(*path));
  }

  absl::StatusOr<std::unique_ptr<Transformer>> Load(DataType dtype) {
    return Transformer::Load(*checkpoint_, {.dtype = dtype, .strict_kernels = true}, Context());
  }

  std::unique_ptr<Checkpoint> checkpoint_;
};

double Cosine(absl::Span<const float> a, absl::Span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

TEST_F(FetchedModelTest, MiniLmEmbedsAHundredSentencesAsTheReferenceDoes) {
  OpenOrSkip("all-MiniLM-L6-v2");
  if (IsSkipped()) return;
  ASSERT_OK_AND_ASSIGN(const SentenceConfig sentence_config, ReadSentenceConfig(*checkpoint_));
  EXPECT_EQ(sentence_config.pooling, PoolingKind::kMean);
  EXPECT_TRUE(sentence_config.normalize);
  EXPECT_EQ(sentence_config.max_tokens, 256);

  ASSERT_OK_AND_ASSIGN(const auto json, checkpoint_->ReadFile("tokenizer.json"));
  ASSERT_TRUE(json.has_value());
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(*json, "tokenizer.json"));
  const ExpectedTensors expected(TestDataPath("goldens/minilm"));
  const std::vector<float> embeddings = expected.Values("embeddings");
  const std::vector<int32_t> num_tokens = expected.Ids("num_tokens");
  simdjson::dom::parser parser;
  std::vector<ModelRunner::Piece> pieces;
  for (const simdjson::dom::element item :
       parser.load(TestDataPath("goldens/minilm/sentences.json")).get_array()) {
    const std::string sentence(std::string_view{item});
    ASSERT_OK_AND_ASSIGN(const Encoding encoding,
                         tokenizer->Encode(sentence, /*add_special_tokens=*/true));
    ASSERT_EQ(encoding.num_tokens(), num_tokens[pieces.size()]) << sentence;
    pieces.push_back({static_cast<int>(pieces.size()), encoding.ids, encoding.type_ids});
  }
  ASSERT_EQ(pieces.size(), num_tokens.size());

  constexpr int64_t kSize = 384;
  for (const auto& [dtype, bound] :
       {std::pair{DataType::kFloat32, 0.99999}, std::pair{DataType::kBFloat16, 0.999}}) {
    ASSERT_OK_AND_ASSIGN(const auto model, Load(dtype));
    double worst = 1;
    // Twenty in a batch, as different in length as they come.
    for (size_t begin = 0; begin < pieces.size(); begin += 20) {
      const std::vector<ModelRunner::Piece> batch(pieces.begin() + begin,
                                                  pieces.begin() + begin + 20);
      const std::vector<ModelRunner::Output> outputs = ModelRunner(*model, 0).Step(batch);
      for (size_t i = 0; i < outputs.size(); ++i) {
        const std::vector<float>& states = outputs[i].hidden_states.back();
        std::vector<float> vector(kSize);
        Pool(sentence_config.pooling,
             ConstMatrix(states.data(), static_cast<int64_t>(batch[i].ids.size()), kSize),
             Matrix(vector.data(), 1, kSize));
        const auto reference = absl::MakeConstSpan(embeddings).subspan((begin + i) * kSize, kSize);
        worst = std::min(worst, Cosine(vector, reference));
      }
    }
    EXPECT_GE(worst, bound) << DataTypeName(dtype);
    RecordProperty(std::string(DataTypeName(dtype)), std::to_string(1 - worst));
  }
}

TEST_F(FetchedModelTest, SmolLm2ContinuesAsTheReferenceDoes) {
  OpenOrSkip("SmolLM2-135M-Instruct.gguf");
  if (IsSkipped()) return;
  const ExpectedTensors expected(TestDataPath("goldens/smollm2"));
  for (DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
    ASSERT_OK_AND_ASSIGN(const auto model, Load(dtype));
    double worst = 0;
    for (const std::string& prompt : expected.Inputs()) {
      SCOPED_TRACE(prompt);
      const std::vector<int32_t> ids = expected.Ids(prompt + ".input_ids");
      const std::vector<float> all = ModelRunner::Run(*model, ids).logits;
      const auto logits = absl::MakeConstSpan(all).last(model->config().vocab_size);
      const std::vector<int32_t> top_ids = expected.Ids(prompt + ".top_ids");
      const std::vector<float> top_logits = expected.Values(prompt + ".top_logits");
      for (size_t i = 0; i < top_ids.size(); ++i) {
        worst = std::max(worst, std::abs(double{logits[top_ids[i]]} - top_logits[i]));
      }
      EXPECT_EQ(ArgMax(logits), top_ids[0]);
      if (dtype != DataType::kFloat32) continue;
      EXPECT_EQ(ModelRunner::Greedy(*model, ids, 64), expected.Ids(prompt + ".greedy_ids"));
    }
    RecordProperty(std::string(DataTypeName(dtype)), std::to_string(worst));
    // The logits are near 20. In float that is 50 times the last bit; in bf16 some six roundings.
    EXPECT_LE(worst, dtype == DataType::kFloat32 ? 2e-4 : 0.5) << DataTypeName(dtype);
  }
}

// The file's own integers, 4 bits in the layers and 8 in the embeddings that are the head as well.
TEST_F(FetchedModelTest, SmolLm2AsStoredContinuesAloneAsAmongOthersAndWithoutACache) {
  OpenOrSkip("SmolLM2-135M-Instruct.gguf");
  if (IsSkipped()) return;
  EXPECT_EQ(QuantizedType(*checkpoint_), DataType::kInt4);
  ASSERT_OK_AND_ASSIGN(const auto model, Transformer::Load(*checkpoint_,
                                                           {.dtype = DefaultDataType(),
                                                            .as_stored = true,
                                                            .max_batch_tokens = 512,
                                                            .max_logit_rows = 512,
                                                            .strict_kernels = true},
                                                           Context()));
  // 106 million weights in 5 bits, 28 million in 8.5, and norms.
  EXPECT_LT(model->weight_bytes(), 97 << 20);

  const ExpectedTensors expected(TestDataPath("goldens/smollm2"));
  constexpr int kNewTokens = 32;
  const auto last_best = [&](const ModelRunner::Output& output) {
    const auto logits = absl::MakeConstSpan(output.logits).last(model->config().vocab_size);
    return static_cast<int32_t>(ArgMax(logits));
  };
  std::vector<ModelRunner::Piece> pieces;
  std::vector<std::vector<int32_t>> alone;
  double worst = 0;
  for (const std::string& prompt : expected.Inputs()) {
    SCOPED_TRACE(prompt);
    const std::vector<int32_t> ids = expected.Ids(prompt + ".input_ids");
    if (ids.size() > 400) continue;
    const ModelRunner::Output output = ModelRunner::Run(*model, ids);
    const auto logits = absl::MakeConstSpan(output.logits).last(model->config().vocab_size);
    const std::vector<int32_t> top_ids = expected.Ids(prompt + ".top_ids");
    const std::vector<float> top_logits = expected.Values(prompt + ".top_logits");
    for (size_t i = 0; i < top_ids.size(); ++i) {
      worst = std::max(worst, std::abs(double{logits[top_ids[i]]} - top_logits[i]));
    }
    EXPECT_EQ(last_best(output), top_ids[0]);
    alone.push_back(ModelRunner::Greedy(*model, ids, kNewTokens));
    pieces.push_back({static_cast<int>(pieces.size()), ids});
    if (pieces.size() > 1) continue;
    std::vector<int32_t> text = ids;
    for (int i = 0; i < kNewTokens; ++i) text.push_back(last_best(ModelRunner::Run(*model, text)));
    EXPECT_EQ(std::vector<int32_t>(text.end() - kNewTokens, text.end()), alone.back());
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LE(worst, 1.0);

  ModelRunner runner(*model, 512);
  std::vector<std::vector<int32_t>> together(pieces.size());
  // Prompts one after the other, and then all sequences in each step.
  for (ModelRunner::Piece& piece : pieces) {
    const int32_t id = last_best(runner.Step({piece})[0]);
    together[piece.sequence].push_back(id);
    piece.ids = {id};
  }
  for (int step = 1; step < kNewTokens; ++step) {
    const std::vector<ModelRunner::Output> outputs = runner.Step(pieces);
    for (size_t i = 0; i < pieces.size(); ++i) {
      pieces[i].ids = {last_best(outputs[i])};
      together[i].push_back(pieces[i].ids[0]);
    }
  }
  EXPECT_EQ(together, alone);
}

}  // namespace
}  // namespace attendant::engine
