// Trained checkpoints beside the repository, against outputs that were computed independently of
// transformers and of us, and rounded to five decimals. Skipped where the folder is absent.

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/softmax.h"
#include "engine/model/pooling.h"
#include "engine/model/transformer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::SharedDataPath;
using simdjson::dom::element;

KernelContext& Context() {
  static auto* context = new KernelContext(1, /*pin_threads=*/false);
  return *context;
}

template <typename T>
std::vector<T> Numbers(const element& array) {
  std::vector<T> numbers;
  for (const element number : array.get_array()) {
    numbers.push_back(static_cast<T>(double{number}));
  }
  return numbers;
}

class SharedCheckpointTest : public ::testing::Test {
 protected:
  // Loads models/<name> in `dtype`, and its cases; skips the test where they are absent.
  void LoadOrSkip(const std::string& name, DataType dtype) {
    const auto folder = SharedDataPath("models/" + name);
    const auto vectors = SharedDataPath("vectors/models/" + name + ".json");
    if (!folder || !vectors) GTEST_SKIP() << "no shared checkpoint " << name;
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(*folder));
    ASSERT_OK_AND_ASSIGN(
        model_,
        Transformer::Load(*checkpoint, {.dtype = dtype, .strict_kernels = true}, Context()));
    vectors_ = parser_.load(*vectors);
    for (const element item : vectors_["cases"].get_array()) cases_.push_back(item);
    ASSERT_FALSE(cases_.empty());
  }

  std::vector<float> LastLogits(const std::vector<int32_t>& ids) {
    const std::vector<float> logits = ModelRunner::Run(*model_, ids).logits;
    return {logits.end() - model_->config().vocab_size, logits.end()};
  }

  simdjson::dom::parser parser_;
  element vectors_;
  std::vector<element> cases_;
  std::unique_ptr<Transformer> model_;
};

void ExpectNear(const std::vector<float>& found, const std::vector<float>& expected,
                double tolerance) {
  ASSERT_LE(expected.size(), found.size());  // some list only the first values
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], tolerance) << "at " << i;
  }
}

TEST_F(SharedCheckpointTest, Stories260KTellsItsStories) {
  LoadOrSkip("stories260K", DataType::kFloat32);
  for (const element& item : cases_) {
    const auto ids = Numbers<int32_t>(item["prompt_ids"]);
    const std::vector<float> logits = LastLogits(ids);
    ExpectNear(logits, Numbers<float>(item["last_logits_first16"]), 2e-4);
    EXPECT_EQ(ArgMax(logits), int64_t{item["last_logits_argmax"]});
    EXPECT_EQ(ModelRunner::Greedy(*model_, ids, 200), Numbers<int32_t>(item["greedy_new_ids"]));
  }
}

TEST_F(SharedCheckpointTest, Gpt2PlansItsProcesses) {
  for (DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
    cases_.clear();
    LoadOrSkip("capp-gpt2-process-planning", dtype);
    if (IsSkipped()) return;
    for (const element& item : cases_) {
      const auto ids = Numbers<int32_t>(item["input_ids"]);
      // Every step's best logit leads by more than 5, so that bf16 chooses no other.
      const auto greedy = Numbers<int32_t>(item["greedy_new_ids"]);
      EXPECT_EQ(ModelRunner::Greedy(*model_, ids, static_cast<int>(greedy.size())), greedy);
      if (dtype != DataType::kFloat32) continue;
      ExpectNear(LastLogits(ids), Numbers<float>(item["first_step_logits"]), 2e-4);
    }
  }
}

TEST_F(SharedCheckpointTest, BartSpellsOutPhonemes) {
  LoadOrSkip("bart-g2p-en-us", DataType::kFloat32);
  if (IsSkipped()) return;
  ASSERT_NE(model_->encoder(), nullptr);
  for (const element& item : cases_) {
    const auto source = Numbers<int32_t>(item["input_ids"]);
    // The start token, and what follows it up to the end token.
    const auto ids = Numbers<int32_t>(item["greedy_ids"]);
    const std::vector<int32_t> greedy(ids.begin() + 1, ids.end());
    EXPECT_EQ(ModelRunner::Greedy(*model_, {ids[0]}, static_cast<int>(greedy.size()), source),
              greedy);
  }

  const auto source = Numbers<int32_t>(cases_[0]["input_ids"]);
  ExpectNear(ModelRunner::Run(*model_->encoder(), source).hidden_states.back(),
             Numbers<float>(vectors_["encoder_last_hidden_first_case_token0_first16"]), 2e-4);
  ExpectNear(ModelRunner::Run(*model_, {1}, {}, source).logits,
             Numbers<float>(vectors_["decoder_logits_first_case_step0"]), 2e-4);
}

TEST_F(SharedCheckpointTest, BertLayoutEncoderGivesItsStates) {
  LoadOrSkip("bert-layout-g2p-encoder", DataType::kFloat32);
  for (const element& item : cases_) {
    const std::vector<float> states =
        ModelRunner::Run(*model_, Numbers<int32_t>(item["input_ids"])).hidden_states.back();
    ExpectNear(states, Numbers<float>(item["last_hidden_token0_first16"]), 2e-4);

    const int64_t hidden_size = model_->config().hidden_size;
    const auto num_tokens = static_cast<int64_t>(states.size()) / hidden_size;
    std::vector<float> mean(hidden_size);
    Pool(PoolingKind::kMean, ConstMatrix(states.data(), num_tokens, hidden_size),
         Matrix(mean.data(), 1, hidden_size));
    ExpectNear(mean, Numbers<float>(item["mean_pool_first16"]), 2e-4);
  }
}

TEST_F(SharedCheckpointTest, AlbertFillsTheGapsOfReactions) {
  LoadOrSkip("rxnmapper-albert-mlm", DataType::kFloat32);
  constexpr int32_t kMask = 14;
  for (const element& item : cases_) {
    const auto ids = Numbers<int32_t>(item["input_ids"]);
    const std::vector<float> states = ModelRunner::Run(*model_, ids).hidden_states.back();
    ExpectNear(states, Numbers<float>(item["last_hidden_cls_first16"]), 2e-4);

    for (const element masked : item["masked"].get_array()) {
      const auto position = static_cast<int32_t>(int64_t{masked["position"]});
      std::vector<int32_t> with_gap = ids;
      with_gap[position] = kMask;
      const std::vector<float> hidden = ModelRunner::Run(*model_, with_gap).hidden_states.back();
      const int64_t hidden_size = model_->config().hidden_size;
      model_->HeadLogits(HeadKind::kMaskedLanguageModel,
                         ConstMatrix(hidden.data(), static_cast<int64_t>(ids.size()), hidden_size),
                         {position}, [&](int64_t, ConstMatrix logits) {
                           for (const element best : masked["top3"].get_array()) {
                             const auto id = static_cast<int32_t>(int64_t{best.at(1)});
                             EXPECT_NEAR(logits.row(0)[id], double{best.at(2)}, 1e-3);
                           }
                           EXPECT_EQ(ArgMax({logits.row(0), static_cast<size_t>(logits.cols)}),
                                     int64_t{masked["top3"].at(0).at(1)});
                         });
    }
  }
}

}  // namespace
}  // namespace attendant::engine
