#include "engine/generation_config.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<GenerationConfig> Read(const std::string& json, const std::string& config = "{}") {
  return ReadGenerationConfig(&json, config);
}

TEST(ReadGenerationConfigTest, WithoutAFileOutputIsGreedyAndConfigJsonNamesTheEnd) {
  ASSERT_OK_AND_ASSIGN(const auto config, ReadGenerationConfig(nullptr, R"({"eos_token_id": 7})"));
  EXPECT_EQ(config.sampling.temperature, 0);
  EXPECT_EQ(config.sampling.top_k, 0);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(7));
}

TEST(ReadGenerationConfigTest, OlderCheckpointsKeepTheirSettingsInConfigJson) {
  const std::string model = R"({"model_type": "bart", "num_beams": 4, "max_length": 142,
      "min_length": 56, "no_repeat_ngram_size": 3, "length_penalty": 2.0, "early_stopping": true,
      "forced_bos_token_id": 0, "forced_eos_token_id": 2, "decoder_start_token_id": 2})";
  ASSERT_OK_AND_ASSIGN(GenerationConfig config, ReadGenerationConfig(nullptr, model));
  EXPECT_EQ(config.beam_search.num_beams, 4);
  EXPECT_EQ(config.beam_search.early_stopping, EarlyStopping::kTrue);
  EXPECT_FLOAT_EQ(config.beam_search.length_penalty, 2);
  EXPECT_EQ(config.max_length, 142);
  EXPECT_EQ(config.min_length, 56);
  EXPECT_EQ(config.sampling.no_repeat_ngram_size, 3);
  EXPECT_EQ(config.constraints.forced_bos_token_id, 0);
  EXPECT_THAT(config.constraints.forced_eos_token_ids, ElementsAre(2));
  EXPECT_EQ(config.decoder_start_token_id, 2);
  // Where there is a file of its own, it alone is read.
  ASSERT_OK_AND_ASSIGN(config, Read("{}", model));
  EXPECT_EQ(config.beam_search.num_beams, 1);
  EXPECT_FALSE(config.max_length.has_value());
  EXPECT_EQ(config.decoder_start_token_id, 2);
  EXPECT_THAT(ReadGenerationConfig(nullptr, R"({"num_beams": 0})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("config.json: num_beams is")));
}

TEST(ReadGenerationConfigTest, DoSampleBringsTheReferencesDefaults) {
  ASSERT_OK_AND_ASSIGN(auto config, Read(R"({"do_sample": true})"));
  EXPECT_EQ(config.sampling.temperature, 1);
  EXPECT_EQ(config.sampling.top_k, 50);
  ASSERT_OK_AND_ASSIGN(config,
                       Read(R"({"do_sample": true, "temperature": 0.6, "top_k": 5, "top_p": 0.9,
                                        "min_p": 0.1, "repetition_penalty": 1.1})"));
  EXPECT_FLOAT_EQ(config.sampling.temperature, 0.6f);
  EXPECT_EQ(config.sampling.top_k, 5);
  EXPECT_FLOAT_EQ(config.sampling.top_p, 0.9f);
  EXPECT_FLOAT_EQ(config.sampling.min_p, 0.1f);
  EXPECT_FLOAT_EQ(config.sampling.repetition_penalty, 1.1f);
}

TEST(ReadGenerationConfigTest, ATemperatureWithoutDoSampleIsNotUsed) {
  ASSERT_OK_AND_ASSIGN(const auto config, Read(R"({"temperature": 0.6, "top_k": 5})"));
  EXPECT_EQ(config.sampling.temperature, 0);
  EXPECT_EQ(config.sampling.top_k, 5);
}

TEST(ReadGenerationConfigTest, EndTokensAreOneOrAList) {
  ASSERT_OK_AND_ASSIGN(auto config, Read(R"({"eos_token_id": [3, 4]})", R"({"eos_token_id": 7})"));
  EXPECT_THAT(config.eos_token_ids, ElementsAre(3, 4));
  ASSERT_OK_AND_ASSIGN(config, Read(R"({"eos_token_id": null})", R"({})"));
  EXPECT_THAT(config.eos_token_ids, IsEmpty());
}

TEST(ReadGenerationConfigTest, TheDecoderStartsAsStatedElseWithBosElseWithPad) {
  const auto start = [](const std::string& json, const std::string& config) {
    return Read(json, config)->decoder_start_token_id.value_or(-1);
  };
  EXPECT_EQ(start(R"({"decoder_start_token_id": 2})", R"({"decoder_start_token_id": 3})"), 2);
  EXPECT_EQ(start(R"({"bos_token_id": 1})", R"({"decoder_start_token_id": 3})"), 3);
  EXPECT_EQ(start(R"({"decoder_start_token_id": null, "bos_token_id": 1})", "{}"), 1);
  EXPECT_EQ(start("{}", R"({"bos_token_id": 4, "pad_token_id": 0})"), 4);
  EXPECT_EQ(start("{}", R"({"pad_token_id": 0})"), 0);
  EXPECT_EQ(start("{}", "{}"), -1);
  EXPECT_THAT(Read(R"({"decoder_start_token_id": -2})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("decoder_start_token_id")));

  GenerationConfig config;
  EXPECT_THAT(CheckDecoderStart(config, 10),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bos_token_id")));
  config.decoder_start_token_id = 9;
  EXPECT_OK(CheckDecoderStart(config, 10));
  EXPECT_THAT(CheckDecoderStart(config, 9), StatusIs(absl::StatusCode::kInvalidArgument,
                                                     HasSubstr("is 9; the vocabulary has 9")));
}

TEST(ReadGenerationConfigTest, MalformedFilesNameTheField) {
  EXPECT_THAT(Read("[]"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("generation_config.json")));
  EXPECT_THAT(Read("{"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Read(R"({"top_p": 3})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("top_p is 3")));
  EXPECT_THAT(Read(R"({"do_sample": "yes"})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("do_sample")));
  EXPECT_THAT(Read(R"({"eos_token_id": [1, -2]})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("eos_token_id is -2")));
}

TEST(ReadGenerationConfigTest, SearchesAndConstraintsAreReadAsTheReferenceNamesThem) {
  ASSERT_OK_AND_ASSIGN(const auto config,
                       Read(R"({"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.6,
               "early_stopping": "never", "no_repeat_ngram_size": 3, "min_length": 9,
               "eos_token_id": 2, "bad_words_ids": [[5], [2], [7, 8]], "suppress_tokens": [1, 3],
               "begin_suppress_tokens": [4], "forced_bos_token_id": 0,
               "forced_eos_token_id": 2})"));
  EXPECT_EQ(config.beam_search.num_beams, 4);
  EXPECT_EQ(config.num_sequences, 2);
  EXPECT_FLOAT_EQ(config.beam_search.length_penalty, 0.6f);
  EXPECT_EQ(config.beam_search.early_stopping, EarlyStopping::kNever);
  EXPECT_EQ(config.sampling.no_repeat_ngram_size, 3);
  EXPECT_EQ(config.min_length, 9);
  EXPECT_THAT(config.constraints.bad_words, ElementsAre(ElementsAre(5), ElementsAre(7, 8)))
      << "the end is not a word";
  EXPECT_THAT(config.constraints.suppress_tokens, ElementsAre(1, 3));
  EXPECT_THAT(config.constraints.begin_suppress_tokens, ElementsAre(4));
  EXPECT_EQ(config.constraints.forced_bos_token_id, 0);
  EXPECT_THAT(config.constraints.forced_eos_token_ids, ElementsAre(2));
  EXPECT_OK(CheckTokenConstraints(config, 9));
  EXPECT_THAT(CheckTokenConstraints(config, 8),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("bad_words_ids names token 8; the vocabulary has 8")));
  for (const char* bad :
       {R"({"early_stopping": "always"})", R"({"num_beams": 0})", R"({"length_penalty": 11})",
        R"({"bad_words_ids": [3]})", R"({"bad_words_ids": [[]]})"}) {
    EXPECT_THAT(Read(bad), StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
  }
}

struct Effective {
  SamplingParams sampling;
  StoppingCriteria stopping;
};

Effective Resolve(const GenerateRequest& request, const GenerationConfig& config,
                  int64_t prompt_tokens) {
  const GenerationLimits limits{
      .vocab_size = 10, .context_tokens = 100, .cache_tokens = 80, .max_new_tokens = 50};
  Effective effective;
  ResolveGeneration(request, config, limits, prompt_tokens, 77, effective.sampling,
                    effective.stopping);
  return effective;
}

TEST(ResolveGenerationTest, TheRequestComesBeforeTheFile) {
  GenerationConfig config;
  config.sampling.temperature = 0.5f;
  config.sampling.top_k = 9;
  GenerateRequest request;
  request.temperature = 0;
  request.seed = 5;
  const Effective effective = Resolve(request, config, 10);
  EXPECT_EQ(effective.sampling.temperature, 0);
  EXPECT_EQ(effective.sampling.top_k, 9);
  EXPECT_EQ(effective.sampling.seed, 5);
  EXPECT_EQ(Resolve({}, config, 10).sampling.seed, 77);
}

TEST(ResolveGenerationTest, AMinLengthCountsThePrompt) {
  GenerationConfig config;
  config.min_length = 9;
  GenerateRequest request;
  EXPECT_EQ(Resolve(request, config, 4).stopping.min_new_tokens, 5);
  EXPECT_EQ(Resolve(request, config, 20).stopping.min_new_tokens, 0);
  config.min_new_tokens = 3;
  EXPECT_EQ(Resolve(request, config, 4).stopping.min_new_tokens, 3) << "is the stronger word";
  request.min_new_tokens = 1;
  EXPECT_EQ(Resolve(request, config, 4).stopping.min_new_tokens, 1);
}

TEST(CacheTokensOfABeamTest, BeamsHaveWholeBlocksInCommon) {
  const GenerationLimits limits{.cache_tokens = 80, .block_size = 4};
  EXPECT_EQ(CacheTokensOfABeam(limits, 10, 1), 80);
  EXPECT_EQ(CacheTokensOfABeam(limits, 10, 4), (2 + 18 / 4) * 4);
  EXPECT_EQ(CacheTokensOfABeam(limits, 1000, 4), 1000);
}

TEST(ResolveGenerationTest, MaxNewTokensIsWhatIsAskedOrWhatFits) {
  GenerateRequest asks;
  asks.max_new_tokens = 40;
  EXPECT_EQ(Resolve(asks, {}, 10).stopping.max_new_tokens, 40);
  EXPECT_EQ(Resolve(asks, {}, 75).stopping.max_new_tokens, 25) << "the context";
  EXPECT_EQ(Resolve({}, {}, 10).stopping.max_new_tokens, 50) << "the server's limit";
  EXPECT_EQ(Resolve({}, {}, 60).stopping.max_new_tokens, 20) << "the cache";
  GenerationConfig config;
  config.max_length = 30;
  EXPECT_EQ(Resolve({}, config, 10).stopping.max_new_tokens, 20);
  EXPECT_EQ(Resolve({}, config, 35).stopping.max_new_tokens, 1);
  config.max_new_tokens = 5;
  EXPECT_EQ(Resolve({}, config, 10).stopping.max_new_tokens, 5);
  GenerateRequest least;
  least.min_new_tokens = 99;
  EXPECT_EQ(Resolve(least, config, 10).stopping.min_new_tokens, 5);
}

}  // namespace
}  // namespace attendant::engine
