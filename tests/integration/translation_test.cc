// Encoder-decoders over real connections: a small one of each family, of random weights, and a
// trained BART where the shared folder has it.

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using ::attendant::testing::SharedDataPath;
using ::attendant::testing::TestDataPath;
using grpc::StatusCode;
using ::testing::HasSubstr;

constexpr int kSpecialTokens = 3;  // of bart: <s>, <pad>, </s>
constexpr int kVocabulary = 97;

struct Translation {
  std::string text;
  std::vector<int32_t> ids;
  v1::GenerateFinished finished;
  grpc::Status status;
};

class TranslationTest : public ServingTest {
 protected:
  TranslationTest() { Add("bart", "plain"); }

  void Add(const std::string& model_type, const std::string& variant) {
    options_.models.push_back({.name = model_type,
                               .path = TestDataPath("goldens/" + model_type + "/" + variant),
                               .dtype = engine::DataType::kFloat32});
  }

  Translation Translate(const v1::GenerateRequest& request,
                        std::chrono::system_clock::time_point deadline =
                            std::chrono::system_clock::time_point::max()) {
    Translation translation;
    grpc::ClientContext context;
    context.set_deadline(deadline);
    auto stream = inference_->Generate(&context, request);
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      translation.text += response.chunk().text();
      for (const v1::Token& token : response.chunk().tokens())
        translation.ids.push_back(token.id());
      if (response.has_finished()) translation.finished = response.finished();
    }
    translation.status = stream->Finish();
    return translation;
  }

  // One after the other.
  std::vector<Translation> TranslateAlone(const std::vector<v1::GenerateRequest>& requests) {
    std::vector<Translation> translations;
    for (const v1::GenerateRequest& request : requests) translations.push_back(Translate(request));
    return translations;
  }

  // All at once, each by a caller of its own.
  std::vector<Translation> TranslateTogether(const std::vector<v1::GenerateRequest>& requests) {
    std::vector<Translation> translations(requests.size());
    std::vector<std::thread> callers;
    for (size_t i = 0; i < requests.size(); ++i) {
      callers.emplace_back([&, i] { translations[i] = Translate(requests[i]); });
    }
    for (std::thread& caller : callers) caller.join();
    return translations;
  }

  void ExpectIdle(const std::string& model) {
    const std::string of_model = "{model=\"" + model + "\"} ";
    const absl::Time give_up = absl::Now() + absl::Seconds(10);
    while (Metric("attendant_requests_running" + of_model) != 0 && absl::Now() < give_up) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(Metric("attendant_requests_running" + of_model), 0);
    EXPECT_EQ(Metric("attendant_kv_cache_usage_ratio" + of_model), 0);
  }
};

v1::GenerateRequest Source(int num_tokens, int max_new_tokens, uint32_t seed) {
  v1::GenerateRequest request;
  request.set_model("bart");
  std::mt19937 random(seed);
  for (int i = 0; i < num_tokens; ++i) {
    request.mutable_tokens()->add_ids(kSpecialTokens + random() % (kVocabulary - kSpecialTokens));
  }
  request.mutable_output()->set_token_ids(true);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->set_max_new_tokens(max_new_tokens);
  return request;
}

// Sources of 1 to 125 tokens with answers of 3 to 96.
std::vector<v1::GenerateRequest> MixedSources(int count, const std::string& model = "bart") {
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back(Source(1 + 4 * i, 3 + 31 * i % 94, i));
    requests.back().set_model(model);
  }
  return requests;
}

TEST_F(TranslationTest, ManyAtOnceAreEachAsAloneAndBesideADecoder) {
  Start();
  const std::vector<v1::GenerateRequest> requests = MixedSources(32);
  const std::vector<Translation> alone = TranslateAlone(requests);
  v1::GenerateRequest prompt = Prompt("abc", 60);
  prompt.set_model("gpt2");
  const Translation continuation = Translate(prompt);

  std::thread decoder([&] {
    for (int i = 0; i < 4; ++i) EXPECT_EQ(Translate(prompt).text, continuation.text);
  });
  const std::vector<Translation> together = TranslateTogether(requests);
  decoder.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].ids.size(), requests[i].stopping().max_new_tokens());
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
    EXPECT_EQ(together[i].finished.usage().input_tokens(), requests[i].tokens().ids_size());
    EXPECT_EQ(together[i].finished.finish_reason(), v1::FINISH_REASON_LENGTH);
  }
  EXPECT_NE(alone[20].ids, alone[21].ids);
  EXPECT_GE(Metric("attendant_step_duration_seconds_count{phase=\"encode\"} "), 32);
  ExpectIdle("bart");
}

TEST_F(TranslationTest, EveryFamilyTranslatesManyAtOnceAsAlone) {
  const std::vector<std::pair<std::string, std::string>> families = {{"marian", "separate"},
                                                                     {"mbart", "plain"},
                                                                     {"m2m_100", "plain"},
                                                                     {"t5", "v1_1"},
                                                                     {"transformer", "module"}};
  for (const auto& [model_type, variant] : families) Add(model_type, variant);
  Start();
  for (const auto& [model_type, variant] : families) {
    const std::vector<v1::GenerateRequest> requests = MixedSources(16, model_type);
    const std::vector<Translation> alone = TranslateAlone(requests);
    const std::vector<Translation> together = TranslateTogether(requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
      EXPECT_EQ(together[i].ids.size(), requests[i].stopping().max_new_tokens());
      EXPECT_EQ(together[i].ids, alone[i].ids) << model_type << " " << i;
    }
    EXPECT_NE(alone[14].ids, alone[15].ids) << model_type;
    ExpectIdle(model_type);
  }
}

TEST_F(TranslationTest, ATinyCachePreemptsAndChangesNothing) {
  const std::vector<v1::GenerateRequest> requests = MixedSources(24);
  std::vector<Translation> roomy, tiny;
  Start();
  roomy = TranslateTogether(requests);
  EXPECT_EQ(Metric("attendant_preemptions_total{model=\"bart\"} "), 0);
  server_.reset();
  // 24 blocks of 16 tokens, 3 layers, keys and values, 36 floats: the longest needs 12 of them.
  options_.engine.kv_cache_bytes = int64_t{24} * 16 * 3 * 2 * 36 * 4;
  Start();
  tiny = TranslateTogether(requests);
  EXPECT_GT(Metric("attendant_preemptions_total{model=\"bart\"} "), 0);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(tiny[i].status.ok()) << tiny[i].status.error_message();
    EXPECT_EQ(tiny[i].ids, roomy[i].ids) << i;
  }
  v1::GenerateRequest never = Source(100, 100, 0);
  options_.engine.kv_cache_bytes /= 2;
  server_.reset();
  Start();
  const grpc::Status status = Translate(never).status;
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("and the source 100 more"));
  EXPECT_THAT(status.error_message(), HasSubstr("--kv_cache_bytes"));
}

TEST_F(TranslationTest, ACancelledTranslationLeavesNothingBehind) {
  Start();
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, Source(100, 120, i));
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    while (stream->Read(&response)) {
    }
    EXPECT_THAT(stream->Finish().error_code(),
                ::testing::AnyOf(StatusCode::CANCELLED, StatusCode::OK));
  }
  ExpectIdle("bart");
}

TEST_F(TranslationTest, ADeadlineEndsATranslation) {
  Start();
  const auto soon = std::chrono::system_clock::now() + std::chrono::milliseconds(1);
  EXPECT_EQ(Translate(Source(100, 120, 0), soon).status.error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  ExpectIdle("bart");
}

TEST_F(TranslationTest, BadSourcesPrefixesAndLanguagesNameTheirField) {
  Start();
  const auto refused = [&](auto change, const std::string& field, const std::string& message) {
    v1::GenerateRequest request = Source(5, 5, 0);
    change(request);
    const grpc::Status status = Translate(request).status;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << message;
    EXPECT_EQ(FieldOf(status), field);
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  };
  refused([](auto& r) { r = Source(141, 5, 0); }, "tokens",
          "has 141 tokens; the encoder takes 140");
  refused([](auto& r) { r.mutable_decoder_prefix()->mutable_tokens()->add_ids(97); },
          "decoder_prefix.tokens.ids[0]", "is 97; the vocabulary has ids from 0 to 96");
  refused([](auto& r) { r.mutable_decoder_prefix()->set_text("x"); }, "decoder_prefix.text",
          "needs a tokenizer");
  refused([](auto& r) { r.set_target_language("fr_XX"); }, "target_language",
          "is not told of languages");
  refused([](auto& r) { r.set_source_language("en_XX"); }, "source_language",
          "is not told of languages");
  refused(
      [](auto& r) {
        for (int i = 0; i < 139; ++i) r.mutable_decoder_prefix()->mutable_tokens()->add_ids(5);
      },
      "decoder_prefix", "makes 140 tokens with the start; beside the output the decoder takes 139");
  v1::GenerateRequest text = Source(5, 5, 0);
  text.set_text("words");
  EXPECT_EQ(Translate(text).status.error_code(), StatusCode::FAILED_PRECONDITION);
}

TEST_F(TranslationTest, APrefixForcesTheBeginning) {
  Start();
  const Translation whole = Translate(Source(20, 12, 3));
  v1::GenerateRequest request = Source(20, 8, 3);
  for (int i = 0; i < 4; ++i)
    request.mutable_decoder_prefix()->mutable_tokens()->add_ids(whole.ids[i]);
  const Translation rest = Translate(request);
  EXPECT_EQ(rest.ids, std::vector<int32_t>(whole.ids.begin() + 4, whole.ids.end()));
  EXPECT_EQ(rest.finished.usage().input_tokens(), 24);
}

TEST_F(TranslationTest, TheModelIsDescribed) {
  Start();
  v1::GetModelRequest get;
  get.set_model("bart");
  v1::GetModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(models_->GetModel(&context, get, &response).ok());
  const v1::Model& model = response.model();
  EXPECT_EQ(model.stack(), v1::MODEL_STACK_ENCODER_DECODER);
  EXPECT_EQ(model.max_tokens(), 140);
  EXPECT_EQ(model.max_source_tokens(), 140);
  EXPECT_EQ(model.target_vocab_size(), kVocabulary);
  EXPECT_THAT(model.rpcs(), ::testing::Contains("Generate"));
  EXPECT_THAT(model.heads(), ::testing::Contains(v1::MODEL_HEAD_LANGUAGE_MODEL));
}

// The folder calls its target's tokenizer by another name than ours.
std::string G2pFolder(const std::filesystem::path& folder) {
  const std::filesystem::path linked = std::filesystem::path(::testing::TempDir()) / "bart-g2p";
  std::filesystem::remove_all(linked);
  std::filesystem::create_directories(linked);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    std::filesystem::create_symlink(
        entry.path(), linked / (name == "tokenizer_target.json" ? "target_tokenizer.json" : name));
  }
  return linked;
}

TEST_F(TranslationTest, GraphemesBecomePhonemesAsTheVectorsSay) {
  const auto folder = SharedDataPath("models/bart-g2p-en-us");
  const auto vectors = SharedDataPath("vectors/models/bart-g2p-en-us.json");
  if (!folder || !vectors) GTEST_SKIP() << "no shared checkpoint bart-g2p-en-us";
  options_.models.push_back(
      {.name = "g2p", .path = G2pFolder(*folder), .dtype = engine::DataType::kFloat32});
  Start();
  simdjson::dom::parser parser;
  std::vector<v1::GenerateRequest> requests;
  std::vector<simdjson::dom::element> cases;
  for (const auto item : parser.load(vectors->string())["cases"].get_array()) {
    cases.push_back(item);
    v1::GenerateRequest& request = requests.emplace_back();
    request.set_model("g2p");
    request.set_text(std::string(std::string_view(item["text"])));
    request.mutable_output()->set_token_ids(true);
  }
  const std::vector<Translation> translations = TranslateTogether(requests);
  for (size_t i = 0; i < cases.size(); ++i) {
    ASSERT_TRUE(translations[i].status.ok()) << translations[i].status.error_message();
    EXPECT_EQ(translations[i].text, std::string_view(cases[i]["phonemes"])) << requests[i].text();
    EXPECT_EQ(translations[i].finished.finish_reason(), v1::FINISH_REASON_EOS);
    std::vector<int32_t> expected;  // the start token first
    for (const auto id : cases[i]["greedy_ids"].get_array())
      expected.push_back(static_cast<int32_t>(int64_t{id}));
    expected.erase(expected.begin());
    EXPECT_EQ(translations[i].ids, expected) << requests[i].text();
  }
}

}  // namespace
}  // namespace attendant::server
