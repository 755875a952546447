#include "engine/model/pooling.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/fake_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnbuilt = absl::StatusCode::kUnimplemented;

constexpr char kTransformerModule[] =
    R"({"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"})";
constexpr char kPoolingModule[] =
    R"({"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"})";
constexpr char kNormalizeModule[] =
    R"({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})";
constexpr char kDenseModule[] =
    R"({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})";

FakeCheckpoint SentenceFolder(absl::string_view pooling_config) {
  FakeCheckpoint folder;
  folder.files["modules.json"] =
      absl::StrCat("[", kTransformerModule, ",", kPoolingModule, ",", kNormalizeModule, "]");
  folder.files["1_Pooling/config.json"] = std::string(pooling_config);
  return folder;
}

TEST(SentenceConfigTest, AFolderThatSaysNothingMeansMeanPooling) {
  ASSERT_OK_AND_ASSIGN(const SentenceConfig config, ReadSentenceConfig(FakeCheckpoint()));
  EXPECT_EQ(config.pooling, PoolingKind::kMean);
  EXPECT_FALSE(config.normalize);
  EXPECT_FALSE(config.max_tokens.has_value());
}

TEST(SentenceConfigTest, ReadsModulesPoolingPromptsAndLength) {
  FakeCheckpoint folder =
      SentenceFolder(R"({"word_embedding_dimension": 384, "pooling_mode_cls_token": true,)"
                     R"( "pooling_mode_mean_tokens": false})");
  folder.files["sentence_bert_config.json"] = R"({"max_seq_length": 256, "do_lower_case": false})";
  folder.files["config_sentence_transformers.json"] =
      R"({"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"})";
  ASSERT_OK_AND_ASSIGN(const SentenceConfig config, ReadSentenceConfig(folder));
  EXPECT_EQ(config.pooling, PoolingKind::kCls);
  EXPECT_TRUE(config.normalize);
  EXPECT_EQ(config.max_tokens, 256);
  EXPECT_THAT(config.prompts, ElementsAre(Pair("passage", "passage: "), Pair("query", "query: ")));
  EXPECT_EQ(config.default_prompt_name, "query");
}

TEST(SentenceConfigTest, WithoutNormalizeVectorsStayAsTheyAre) {
  FakeCheckpoint folder = SentenceFolder(R"({"pooling_mode_lasttoken": true})");
  folder.files["modules.json"] = absl::StrCat("[", kTransformerModule, ",", kPoolingModule, "]");
  ASSERT_OK_AND_ASSIGN(SentenceConfig config, ReadSentenceConfig(folder));
  EXPECT_EQ(config.pooling, PoolingKind::kLastToken);
  EXPECT_FALSE(config.normalize);

  folder.files["modules.json"] = absl::StrCat("[", kTransformerModule, "]");
  ASSERT_OK_AND_ASSIGN(config, ReadSentenceConfig(folder));
  EXPECT_EQ(config.pooling, PoolingKind::kNone);
}

TEST(SentenceConfigTest, ReadsThePoolingModeByNameToo) {
  ASSERT_OK_AND_ASSIGN(const SentenceConfig config,
                       ReadSentenceConfig(SentenceFolder(R"({"pooling_mode": "max"})")));
  EXPECT_EQ(config.pooling, PoolingKind::kMax);
}

TEST(SentenceConfigTest, NamesPoolingThatIsNotBuilt) {
  const struct {
    const char* config;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {R"({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true})", kUnbuilt,
       "mean + max"},
      {R"({"pooling_mode_weightedmean_tokens": true})", kUnbuilt, "weightedmean"},
      {R"({"pooling_mode": "attention"})", kUnbuilt, "attention"},
      {R"({"pooling_mode_mean_tokens": true, "include_prompt": false})", kUnbuilt,
       "include_prompt"},
      {R"({"pooling_mode_mean_tokens": false})", kInvalid, "names no pooling mode"},
      {R"({"pooling_mode_mean_tokens": 1})", kInvalid, "pooling_mode_mean_tokens is 1"},
      {"nonsense", kInvalid, "1_Pooling/config.json is not valid JSON"},
  };
  for (const auto& bad : kCases) {
    EXPECT_THAT(ReadSentenceConfig(SentenceFolder(bad.config)),
                StatusIs(bad.code, HasSubstr(bad.message)))
        << bad.config;
  }
}

TEST(SentenceConfigTest, NamesModulesThatAreNotBuilt) {
  FakeCheckpoint folder = SentenceFolder(R"({"pooling_mode_mean_tokens": true})");
  folder.files["modules.json"] =
      absl::StrCat("[", kTransformerModule, ",", kPoolingModule, ",", kDenseModule, "]");
  EXPECT_THAT(ReadSentenceConfig(folder),
              StatusIs(kUnbuilt, HasSubstr("modules.json: [2].type is "
                                           "\"sentence_transformers.models.Dense\"")));
  folder.files["modules.json"] = absl::StrCat("[", kPoolingModule, "]");
  EXPECT_THAT(ReadSentenceConfig(folder), StatusIs(kUnbuilt, HasSubstr("[0].type")));
  folder.files["modules.json"] = R"([{"type": "Transformer", "path": "0_Transformer"}])";
  EXPECT_THAT(ReadSentenceConfig(folder), StatusIs(kUnbuilt, HasSubstr("0_Transformer")));
  folder.files["modules.json"] = "[3]";
  EXPECT_THAT(ReadSentenceConfig(folder), StatusIs(kInvalid, HasSubstr("[0] is not an object")));
  folder.files["modules.json"] = "{}";
  EXPECT_THAT(ReadSentenceConfig(folder), StatusIs(kInvalid, HasSubstr("not a JSON array")));
}

TEST(SentenceConfigTest, RefusesMalformedTextSettings) {
  const struct {
    const char* file;
    const char* contents;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"sentence_bert_config.json", R"({"max_seq_length": -1})", kInvalid, "max_seq_length is -1"},
      {"sentence_bert_config.json", R"({"do_lower_case": true})", kUnbuilt, "do_lower_case"},
      {"config_sentence_transformers.json", R"({"prompts": {"query": 1}})", kInvalid, "prompts"},
      {"config_sentence_transformers.json", R"({"default_prompt_name": "query"})", kInvalid,
       "none of the prompts"},
  };
  for (const auto& bad : kCases) {
    FakeCheckpoint folder = SentenceFolder(R"({"pooling_mode_mean_tokens": true})");
    folder.files[bad.file] = bad.contents;
    EXPECT_THAT(ReadSentenceConfig(folder), StatusIs(bad.code, HasSubstr(bad.message)))
        << bad.contents;
  }
  FakeCheckpoint folder = SentenceFolder("");
  folder.files.erase("1_Pooling/config.json");
  EXPECT_THAT(ReadSentenceConfig(folder),
              StatusIs(kInvalid, HasSubstr("1_Pooling/config.json is missing")));
}

TEST(PoolTest, ReducesTheTokensOfASequence) {
  const std::vector<float> tokens = {1, -4, 3, 6, -7, 0};  // [3, 2]
  const ConstMatrix view(tokens.data(), 3, 2);
  const auto pool = [&](PoolingKind kind) {
    std::vector<float> out(2);
    Pool(kind, view, Matrix(out.data(), 1, 2));
    return out;
  };
  EXPECT_THAT(pool(PoolingKind::kCls), ElementsAre(1, -4));
  EXPECT_THAT(pool(PoolingKind::kLastToken), ElementsAre(-7, 0));
  EXPECT_THAT(pool(PoolingKind::kMean), ElementsAre(-1, 2.0f / 3));
  EXPECT_THAT(pool(PoolingKind::kMax), ElementsAre(3, 6));

  std::vector<float> all(6);
  Pool(PoolingKind::kNone, view, Matrix(all.data(), 3, 2));
  EXPECT_EQ(all, tokens);
}

}  // namespace
}  // namespace attendant::engine
