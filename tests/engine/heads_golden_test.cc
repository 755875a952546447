// The answers of FillMask, Classify, Rank and Answer on texts, against those of transformers'
// pipelines: tests/goldens/<family>/<head>/answers.json, which tests/goldens/heads.py made.

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::TestDataPath;
using simdjson::dom::element;

// The errors of two f32 forward passes, through a softmax.
constexpr double kTolerance = 2e-5;

std::vector<fs::path> FoldersWithAnswers() {
  std::vector<fs::path> folders;
  for (const auto& family : fs::directory_iterator(TestDataPath("goldens"))) {
    if (!family.is_directory()) continue;
    for (const auto& entry : fs::directory_iterator(family)) {
      if (fs::exists(entry.path() / "answers.json")) folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string Text(element value) { return std::string(std::string_view(value)); }

// The part of a text between two code points.
std::string Substring(const std::string& text, int64_t begin, int64_t end) {
  std::string part;
  int64_t index = -1;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) ++index;
    if (index >= begin && index < end) part += c;
  }
  return part;
}

class HeadsGoldenTest : public ::testing::TestWithParam<fs::path> {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.num_threads = 1;
    options.pin_threads = false;
    ASSERT_OK_AND_ASSIGN(engine_, Engine::Create(options));
    ASSERT_OK(engine_->LoadModel(
        {.name = "m", .path = GetParam().string(), .dtype = DataType::kFloat32}));
    answers_ = parser_.load((GetParam() / "answers.json").string());
    head_ = GetParam().filename().string();
  }

  template <typename Result, typename Request>
  Result Run(void (Engine::*method)(Request, absl::AnyInvocable<void(absl::StatusOr<Result>) &&>),
             Request request) {
    absl::StatusOr<Result> answer;
    absl::Notification done;
    request.model = "m";
    (engine_.get()->*method)(std::move(request), [&](absl::StatusOr<Result> result) {
      answer = std::move(result);
      done.Notify();
    });
    done.WaitForNotification();
    CHECK_OK(answer.status());
    return *std::move(answer);
  }

  void TestFillMask();
  void TestClassify();
  void TestLabelTokens();
  void TestAnswer(element expected, bool allow_no_answer);
  void TestRank();

  std::unique_ptr<Engine> engine_;
  simdjson::dom::parser parser_;
  element answers_;
  std::string head_;
};

void HeadsGoldenTest::TestFillMask() {
  for (const element item : answers_.get_array()) {
    FillMaskRequest request;
    request.inputs = {Text(item["text"])};
    request.top_k = 3;
    for (const element target : item["targets"].get_array()) {
      request.targets.push_back(Text(target));
    }
    const auto result = Run(&Engine::FillMask, request);
    const std::vector<FilledMask>& masks = result.inputs[0].masks;
    ASSERT_EQ(masks.size(), item["masks"].get_array().size());
    for (size_t m = 0; m < masks.size(); ++m) {
      const auto expected = item["masks"].at(m).get_array();
      ASSERT_EQ(masks[m].candidates.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        const MaskCandidate& found = masks[m].candidates[i];
        EXPECT_EQ(found.id, int64_t{expected.at(i)["id"]});
        EXPECT_EQ(found.token, Text(expected.at(i)["token"]));
        EXPECT_NEAR(found.score, double{expected.at(i)["score"]}, kTolerance);
      }
    }
  }
}

void HeadsGoldenTest::TestClassify() {
  for (const element item : answers_.get_array()) {
    std::string_view pair;
    ClassifyRequest request;
    request.inputs = {Text(item["text"])};
    if (item["text_pair"].get(pair) == simdjson::SUCCESS) {
      request.inputs = {TextPair{Text(item["text"]), std::string(pair)}};
    }
    for (const bool raw : {false, true}) {
      request.raw_scores = raw;
      const auto result = Run(&Engine::Classify, request);
      const std::vector<LabelScore>& labels = result.inputs[0].labels;
      const auto expected = item[raw ? "raw" : "labels"].get_array();
      ASSERT_EQ(labels.size(), expected.size());
      for (size_t i = 0; i < labels.size(); ++i) {
        EXPECT_EQ(labels[i].label, Text(expected.at(i)["label"]));
        EXPECT_NEAR(labels[i].score, double{expected.at(i)["score"]}, kTolerance);
      }
    }
  }
}

void HeadsGoldenTest::TestLabelTokens() {
  for (const element item : answers_.get_array()) {
    const std::string text = Text(item["text"]);
    for (const bool entities : {false, true}) {
      ClassifyRequest request;
      request.inputs = {text};
      request.aggregation = entities ? TokenAggregation::kEntity : TokenAggregation::kNone;
      const auto result = Run(&Engine::Classify, request);
      const std::vector<LabeledSpan>& spans = result.inputs[0].spans;
      const auto expected = item[entities ? "entities" : "tokens"].get_array();
      ASSERT_EQ(spans.size(), expected.size());
      for (size_t i = 0; i < spans.size(); ++i) {
        EXPECT_EQ(spans[i].labels[0].label, Text(expected.at(i)["label"]));
        EXPECT_NEAR(spans[i].labels[0].score, double{expected.at(i)["score"]}, kTolerance);
        const int64_t begin = expected.at(i)["char_start"], end = expected.at(i)["char_end"];
        EXPECT_EQ(spans[i].span.char_begin, begin);
        EXPECT_EQ(spans[i].span.char_end, end);
        EXPECT_EQ(spans[i].text, Substring(text, begin, end));
        EXPECT_EQ(spans[i].text, text.substr(spans[i].span.byte_begin, spans[i].text.size()));
      }
    }
  }
}

void HeadsGoldenTest::TestAnswer(element expected, bool allow_no_answer) {
  AnswerRequest request;
  for (const element item : expected.get_array()) {
    request.inputs.push_back({Text(item["question"]), Text(item["context"])});
  }
  request.top_k = static_cast<int32_t>(int64_t{answers_["top_k"]});
  request.max_answer_tokens = static_cast<int32_t>(int64_t{answers_["max_answer_tokens"]});
  request.window_overlap_tokens = static_cast<int32_t>(int64_t{answers_["window_overlap_tokens"]});
  request.allow_no_answer = allow_no_answer;
  const auto result = Run(&Engine::Answer, request);
  bool any_windows = false;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const element item = expected.at(i);
    const AnsweredInput& found = result.inputs[i];
    ASSERT_OK(found.status);
    EXPECT_EQ(found.num_tokens, int64_t{item["num_tokens"]});
    any_windows |= found.num_tokens > 70;
    const auto answers = item["answers"].get_array();
    ASSERT_EQ(found.answers.size(), answers.size());
    for (size_t a = 0; a < answers.size(); ++a) {
      const AnswerSpan& answer = found.answers[a];
      EXPECT_EQ(answer.text, Text(answers.at(a)["text"]));
      EXPECT_NEAR(answer.score, double{answers.at(a)["score"]}, kTolerance);
      EXPECT_EQ(answer.span.has_value(), !answer.text.empty());
      if (!answer.span.has_value()) continue;
      EXPECT_EQ(answer.span->char_begin, int64_t{answers.at(a)["char_start"]});
      EXPECT_EQ(answer.span->char_end, int64_t{answers.at(a)["char_end"]});
      EXPECT_EQ(request.inputs[i].context.substr(answer.span->byte_begin, answer.text.size()),
                answer.text);
    }
  }
  EXPECT_TRUE(any_windows) << "no context was longer than the model takes";
}

void HeadsGoldenTest::TestRank() {
  RankRequest request;
  request.query = Text(answers_["query"]);
  std::vector<double> logits;
  for (const element document : answers_["documents"].get_array()) {
    request.documents.push_back(Text(document));
  }
  for (const element logit : answers_["logits"].get_array()) logits.push_back(double{logit});
  for (const bool raw : {false, true}) {
    request.raw_scores = raw;
    const auto result = Run(&Engine::Rank, request);
    ASSERT_EQ(result.documents.size(), logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      const RankedDocument& document = result.documents[i];
      const double logit = logits[document.index];
      EXPECT_NEAR(document.score, raw ? logit : 1 / (1 + std::exp(-logit)), kTolerance);
      if (i > 0) {
        EXPECT_GE(result.documents[i - 1].score, document.score);
      }
    }
  }
}

TEST_P(HeadsGoldenTest, AnswersAsThePipelinesDo) {
  if (head_ == "masked_lm") return TestFillMask();
  if (head_ == "sequence_classification") return TestClassify();
  if (head_ == "token_classification") return TestLabelTokens();
  if (head_ == "ranking") return TestRank();
  ASSERT_EQ(head_, "question_answering");
  TestAnswer(answers_["answers"], /*allow_no_answer=*/false);
  TestAnswer(answers_["answers_or_none"], /*allow_no_answer=*/true);
}

INSTANTIATE_TEST_SUITE_P(Heads, HeadsGoldenTest, ::testing::ValuesIn(FoldersWithAnswers()),
                         [](const ::testing::TestParamInfo<fs::path>& info) {
                           const std::string name = info.param.parent_path().filename().string() +
                                                    "_" + info.param.filename().string();
                           return absl::StrReplaceAll(name, {{"-", "_"}});
                         });

}  // namespace
}  // namespace attendant::engine
