#include "engine/checkpoint/checkpoint.h"

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::FetchedModelPath;
using ::attendant::testing::IsOk;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

std::vector<float> Read(const Checkpoint& checkpoint, const std::string& name) {
  const auto shape = checkpoint.TensorShape(name);
  EXPECT_TRUE(shape.has_value()) << name;
  if (!shape.has_value()) return {};
  std::vector<float> values(NumElements(*shape));
  EXPECT_OK(checkpoint.ReadTensor(name, *shape, absl::MakeSpan(values)));
  return values;
}

TEST(CheckpointTest, OpensEverySharedModel) {
  const auto models = SharedDataPath("models");
  if (!models.has_value()) GTEST_SKIP() << "the shared models are absent";
  for (const auto& entry : std::filesystem::directory_iterator(*models)) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path());
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(entry.path()));
    EXPECT_THAT(checkpoint->config_json(), HasSubstr("model_type"));
    EXPECT_EQ(checkpoint->gguf_vocabulary(), nullptr);
    ASSERT_FALSE(checkpoint->TensorNames().empty());
    for (const std::string& name : checkpoint->TensorNames()) {
      Read(*checkpoint, name);
      checkpoint->Release(name);
    }
  }
}

TEST(CheckpointTest, OpensSmolLm2) {
  const auto path = FetchedModelPath("SmolLM2-135M-Instruct.gguf");
  if (!path.has_value()) GTEST_SKIP() << "SmolLM2 has not been fetched";
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(*path));
  EXPECT_THAT(checkpoint->config_json(), HasSubstr("\"model_type\": \"llama\""));
  ASSERT_NE(checkpoint->gguf_vocabulary(), nullptr);
  EXPECT_EQ(checkpoint->gguf_vocabulary()->tokens.size(), 49152);
  EXPECT_EQ(checkpoint->TensorNames().size(), 2 + 30 * 9);
  EXPECT_EQ(checkpoint->TensorFormat("model.layers.3.mlp.down_proj.weight"), "Q4_1");
  for (const std::string& name : checkpoint->TensorNames()) {
    for (const float value : Read(*checkpoint, name)) ASSERT_LT(std::abs(value), 1e3f) << name;
    checkpoint->Release(name);
  }
}

}  // namespace
}  // namespace attendant::engine
