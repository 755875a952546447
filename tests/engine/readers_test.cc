// FillMask, Classify, Rank and Answer on a runner whose encoder is a fake: a row knows its token
// and its position, and a test says what the head makes of them.

#include "engine/readers/readers.h"

#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/encode_runner.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Takes 20 tokens; '_' is the mask; every text has kBos before and kEos behind it.
class World {
 public:
  template <typename Result>
  using Answer = std::shared_ptr<std::optional<absl::StatusOr<Result>>>;

  explicit World(int32_t max_batch_tokens = 64)
      : context_(1, /*pin_threads=*/false),
        model_(FakeEncoderModel(std::make_unique<FakeTokenizer>(std::vector<std::string>{"##x"},
                                                                /*adds_special_tokens=*/true))),
        runner_(encoder_, context_, max_batch_tokens) {
    model_->description.vocab_size = FakeTokenizer::kFirstPiece + 1;
    model_->mask_token_id = '_';
  }

  template <typename Result, typename Request>
  Answer<Result> Add(Request request) {
    auto answer = std::make_shared<std::optional<absl::StatusOr<Result>>>();
    if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
    typename ReaderOf<Result>::Callback done = [answer](absl::StatusOr<Result> result) {
      EXPECT_FALSE(answer->has_value()) << "answered twice";
      *answer = std::move(result);
    };
    auto job = Prepare(std::move(request), InFlight(model_), absl::Now(), done);
    if (job.ok()) {
      runner_.Add(*std::move(job));
    } else {
      *answer = job.status();
    }
    return answer;
  }

  bool Step() {
    StepReport report;
    runner_.EndOverdue(absl::Now());
    return runner_.Step(report);
  }

  template <typename Result, typename Request>
  absl::StatusOr<Result> Run(Request request) {
    const Answer<Result> answer = Add<Result>(std::move(request));
    while (Step()) {
    }
    EXPECT_FALSE(runner_.has_jobs());
    return **answer;
  }

  absl::StatusOr<FillMaskResult> Fill(FillMaskRequest request) {
    return Run<FillMaskResult>(std::move(request));
  }
  absl::StatusOr<ClassifyResult> Classify(ClassifyRequest request) {
    return Run<ClassifyResult>(std::move(request));
  }
  absl::StatusOr<RankResult> Rank(RankRequest request) {
    return Run<RankResult>(std::move(request));
  }
  absl::StatusOr<AnswerResult> Ask(AnswerRequest request) {
    return Run<AnswerResult>(std::move(request));
  }

  LoadedModel& model() { return *model_; }
  ModelDescription& description() { return model_->description; }
  FakeEncoder& encoder() { return encoder_; }
  EncodeRunner& runner() { return runner_; }

 private:
  KernelContext context_;
  std::shared_ptr<LoadedModel> model_;
  FakeEncoder encoder_;
  EncodeRunner runner_;
};

// ---------------------------------------------------------------------------------------------------------------------
// FillMask.

// At position p the best is 'a' + p, with half of all probability, and then 'A' + p with a quarter;
// the rest share what is left.
class FillMaskTest : public ::testing::Test {
 protected:
  FillMaskTest() {
    world_.description().can_fill_mask = true;
    world_.encoder().head_logits = [this](HeadKind kind, int32_t id, int32_t position) {
      EXPECT_EQ(kind, HeadKind::kMaskedLanguageModel);
      EXPECT_EQ(id, '_') << "logits of a row that nobody asked for";
      const int32_t vocab_size = world_.description().vocab_size;
      std::vector<float> logits(vocab_size, std::log(0.25f / static_cast<float>(vocab_size - 2)));
      logits['a' + position] = std::log(0.5f);
      logits['A' + position] = std::log(0.25f);
      return logits;
    };
  }

  static FillMaskRequest Request(std::vector<FillMaskInput> inputs, int32_t top_k = 2) {
    FillMaskRequest request;
    request.inputs = std::move(inputs);
    request.top_k = top_k;
    return request;
  }

  World world_;
};

TEST_F(FillMaskTest, GivesTheBestTokensOfEachMask) {
  ASSERT_OK_AND_ASSIGN(const FillMaskResult result,
                       world_.Fill(Request({"x_y_z_", TokenIds{'_', 'q'}})));
  ASSERT_THAT(result.inputs, SizeIs(2));
  EXPECT_EQ(result.inputs[0].num_tokens, 8);
  EXPECT_EQ(result.usage.input_tokens, 10);
  std::vector<int32_t> places;
  for (const FilledMask& mask : result.inputs[0].masks) {
    places.push_back(mask.token_index);
    ASSERT_THAT(mask.candidates, SizeIs(2));
    EXPECT_EQ(mask.candidates[0].id, 'a' + mask.token_index);
    EXPECT_EQ(mask.candidates[0].token, std::string(1, static_cast<char>('a' + mask.token_index)));
    EXPECT_NEAR(mask.candidates[0].score, 0.5, 1e-5);
    EXPECT_EQ(mask.candidates[1].id, 'A' + mask.token_index);
    EXPECT_NEAR(mask.candidates[1].score, 0.25, 1e-5);
  }
  EXPECT_THAT(places, ElementsAre(2, 4, 6));
  ASSERT_THAT(result.inputs[1].masks, SizeIs(1));
  EXPECT_EQ(result.inputs[1].masks[0].candidates[0].id, 'a');
}

TEST_F(FillMaskTest, EqualCandidatesComeByTheirIds) {
  ASSERT_OK_AND_ASSIGN(const FillMaskResult result, world_.Fill(Request({"_"}, 5)));
  std::vector<int32_t> ids;
  for (const MaskCandidate& c : result.inputs[0].masks[0].candidates) ids.push_back(c.id);
  EXPECT_THAT(ids, ElementsAre('b', 'B', 0, 1, 2));
}

TEST_F(FillMaskTest, NoMoreCandidatesThanTokens) {
  world_.model().max_encode_bytes = 1 << 20;
  ASSERT_OK_AND_ASSIGN(const FillMaskResult result, world_.Fill(Request({"_"}, 1000)));
  double sum = 0;
  for (const MaskCandidate& c : result.inputs[0].masks[0].candidates) sum += c.score;
  EXPECT_THAT(result.inputs[0].masks[0].candidates, SizeIs(259));
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST_F(FillMaskTest, TargetsKeepTheirProbabilityAmongAllTokens) {
  FillMaskRequest request = Request({"x_"}, 10);
  request.targets = {"C", "q", "c", "##x", "C"};
  ASSERT_OK_AND_ASSIGN(const FillMaskResult result, world_.Fill(request));
  const auto& candidates = result.inputs[0].masks[0].candidates;
  ASSERT_THAT(candidates, SizeIs(4));
  EXPECT_EQ(candidates[0].token, "c");
  EXPECT_NEAR(candidates[0].score, 0.5, 1e-5);
  EXPECT_EQ(candidates[1].token, "C");
  EXPECT_EQ(candidates[3].token, "##x");

  request.targets = {"c", "no"};
  EXPECT_THAT(world_.Fill(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("targets[1]: is 2 tokens")));
}

TEST_F(FillMaskTest, AnInputWithoutAMaskFailsAlone) {
  FillMaskRequest request =
      Request({"none", "x_", TokenIds{1}, TokenIds{}, std::string(30, 'x') + "_", ""});
  ASSERT_OK_AND_ASSIGN(FillMaskResult result, world_.Fill(request));
  EXPECT_THAT(result.inputs[0].status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("inputs[0]: has no mask token"), HasSubstr("_, id 95"))));
  EXPECT_OK(result.inputs[1].status);
  EXPECT_THAT(result.inputs[2].status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(result.inputs[3].status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(result.inputs[4].status, StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr("33 tokens; the model takes 20")));
  EXPECT_THAT(result.inputs[5].status, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(result.usage.input_tokens, 4);

  request.truncation.side = TruncationSide::kRight;
  ASSERT_OK_AND_ASSIGN(result, world_.Fill(request));
  EXPECT_THAT(result.inputs[4].status, StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr("truncation left no mask token")));
  EXPECT_EQ(result.inputs[4].original_tokens, 33);
}

TEST_F(FillMaskTest, RefusesWhatItCannotDo) {
  const auto refused = [&](auto change, absl::StatusCode code, const char* message) {
    FillMaskRequest request = Request({"_"});
    change(request);
    EXPECT_THAT(world_.Fill(request), StatusIs(code, HasSubstr(message)));
  };
  using Code = absl::StatusCode;
  refused([](auto& r) { r.inputs.clear(); }, Code::kInvalidArgument, "inputs: is empty");
  refused([](auto& r) { r.inputs = {"x"}; }, Code::kInvalidArgument, "inputs[0]: has no mask");
  refused([](auto& r) { r.inputs = {"x", "y"}; }, Code::kInvalidArgument, "none of the 2 inputs");
  refused([](auto& r) { r.top_k = 0; }, Code::kInvalidArgument,
          "top_k: is 0; must be in [1, 1000]");
  refused([](auto& r) { r.top_k = 1001; }, Code::kInvalidArgument, "top_k: is 1001");
  refused(
      [](auto& r) {
        r.inputs.assign(100, "__");
        r.top_k = 259;
      },
      Code::kInvalidArgument, "bytes; this server allows 10000 (--max_encode_bytes)");
  world_.model().mask_token_id.reset();
  refused([](auto&) {}, Code::kFailedPrecondition, "has no mask token");
  world_.description().can_fill_mask = false;
  world_.description().heads = {"pooler", "question_answering"};
  refused([](auto&) {}, Code::kFailedPrecondition,
          "no head for FillMask; its heads: pooler, question_answering");
}

// ---------------------------------------------------------------------------------------------------------------------
// Classify.

class ClassifyTest : public ::testing::Test {
 protected:
  ClassifyTest() {
    world_.description().can_classify = true;
    world_.description().labels = {"low", "high", "middle"};
    world_.encoder().head_logits = [](HeadKind kind, int32_t id, int32_t position) {
      EXPECT_EQ(kind, HeadKind::kSequenceClassification);
      EXPECT_EQ(position, 0);
      return std::vector<float>{0.0f, static_cast<float>(id == FakeTokenizer::kBos ? 2 : -2), 1.0f};
    };
  }

  static ClassifyRequest Request(std::vector<ClassifyInput> inputs) {
    ClassifyRequest request;
    request.inputs = std::move(inputs);
    return request;
  }

  static std::map<std::string, float> ByLabel(const std::vector<LabelScore>& labels) {
    std::map<std::string, float> scores;
    for (const LabelScore& label : labels) scores[label.label] = label.score;
    return scores;
  }

  World world_;
};

TEST_F(ClassifyTest, LabelsComeBestFirstWithProbabilities) {
  ASSERT_OK_AND_ASSIGN(
      const ClassifyResult result,
      world_.Classify(Request({std::string("ab"), TextPair{"a", "b"}, TokenIds{7, 8}})));
  ASSERT_THAT(result.inputs, SizeIs(3));
  ASSERT_THAT(result.inputs[0].labels, SizeIs(3));
  EXPECT_EQ(result.inputs[0].labels[0].label, "high");
  EXPECT_EQ(result.inputs[0].labels[1].label, "middle");
  EXPECT_EQ(result.inputs[0].labels[2].label, "low");
  EXPECT_NEAR(result.inputs[0].labels[0].score, 0.66524, 1e-5);
  EXPECT_NEAR(result.inputs[0].labels[2].score, 0.09003, 1e-5);
  EXPECT_EQ(result.inputs[2].labels[0].label, "middle");
  EXPECT_EQ(result.inputs[1].num_tokens, 5);
  EXPECT_THAT(result.inputs[0].spans, IsEmpty());
}

TEST_F(ClassifyTest, TheProblemDecidesWhatScoresAre) {
  const auto high = [&](ProblemType type, bool raw) {
    world_.model().problem_type = type;
    ClassifyRequest request = Request({std::string("ab")});
    request.raw_scores = raw;
    return ByLabel(world_.Classify(request)->inputs[0].labels)["high"];
  };
  EXPECT_NEAR(high(ProblemType::kUnset, false), 0.66524, 1e-5);
  EXPECT_NEAR(high(ProblemType::kSingleLabel, false), 0.66524, 1e-5);
  EXPECT_NEAR(high(ProblemType::kMultiLabel, false), 0.88080, 1e-5);
  EXPECT_EQ(high(ProblemType::kRegression, false), 2);
  EXPECT_EQ(high(ProblemType::kMultiLabel, true), 2);
}

TEST_F(ClassifyTest, OneLabelIsASigmoid) {
  world_.description().labels = {"score"};
  world_.encoder().head_logits = [](HeadKind, int32_t, int32_t) { return std::vector<float>{2}; };
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result, world_.Classify(Request({std::string("a")})));
  EXPECT_NEAR(result.inputs[0].labels[0].score, 0.88080, 1e-5);
}

TEST_F(ClassifyTest, TopKCutsAndABadInputFailsAlone) {
  ClassifyRequest request = Request({std::string("ab"), std::string(50, 'x'), TokenIds{}});
  request.top_k = 2;
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result, world_.Classify(request));
  EXPECT_THAT(result.inputs[0].labels, SizeIs(2));
  EXPECT_THAT(result.inputs[1].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("inputs[1]")));
  EXPECT_EQ(result.inputs[1].original_tokens, 52);
  EXPECT_THAT(result.inputs[2].status, StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ClassifyTest, RefusesWhatItCannotDo) {
  const auto refused = [&](auto change, const char* message) {
    ClassifyRequest request = Request({std::string("a")});
    change(request);
    EXPECT_THAT(world_.Classify(request),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refused([](auto& r) { r.inputs.clear(); }, "inputs: is empty");
  refused([](auto& r) { r.top_k = 0; }, "top_k: is 0");
  refused([](auto& r) { r.aggregation = TokenAggregation::kNone; },
          "aggregation: is set; this model labels whole inputs");
  refused([](auto& r) { r.inputs.assign(500, std::string("a")); }, "--max_encode_bytes");
  world_.description().can_classify = false;
  EXPECT_THAT(world_.Classify(Request({std::string("a")})),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("its heads: none")));
}

// Letters are persons if they are capital, digits are places; the first of either begins one, and
// '+' begins a person anew.
class TokenLabelTest : public ClassifyTest {
 protected:
  TokenLabelTest() {
    world_.description().labels = {"O", "B-PER", "I-PER", "B-LOC", "I-LOC"};
    world_.description().labels_tokens = true;
    world_.encoder().head_logits = [](HeadKind kind, int32_t id, int32_t) {
      EXPECT_EQ(kind, HeadKind::kTokenClassification);
      EXPECT_LT(id, 256) << "a special token";
      int label = 0;
      if (id == '+') label = 1;
      if (id >= 'A' && id <= 'Z') label = 2;
      if (id == '1') label = 3;
      if (id == '2') label = 4;
      std::vector<float> logits(5, 0.0f);
      // 3 / (3 + 4) for all but '2', which has 7 / (7 + 4).
      logits[label] = std::log(id == '2' ? 7.0f : 3.0f);
      return logits;
    };
  }
};

TEST_F(TokenLabelTest, EveryTokenHasItsPlaceInTheText) {
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result, world_.Classify(Request({std::string("x\xc3\xa9"
                                                                                         "AB")})));
  const std::vector<LabeledSpan>& spans = result.inputs[0].spans;
  ASSERT_THAT(spans, SizeIs(5));  // a byte is a token
  EXPECT_THAT(result.inputs[0].labels, IsEmpty());
  EXPECT_EQ(spans[0].labels[0].label, "O");
  EXPECT_THAT(spans[0].labels, SizeIs(1));
  EXPECT_EQ(spans[3].labels[0].label, "I-PER");
  EXPECT_NEAR(spans[3].labels[0].score, 3.0 / 7, 1e-6);
  EXPECT_EQ(spans[3].text, "A");
  EXPECT_EQ(spans[3].span.byte_begin, 3);
  EXPECT_EQ(spans[3].span.byte_end, 4);
  EXPECT_EQ(spans[3].span.char_begin, 2);
  EXPECT_EQ(spans[3].span.char_end, 3);
}

TEST_F(TokenLabelTest, NeighboursOfOneEntityAreJoined) {
  ClassifyRequest request = Request({std::string("AB x+AC 122A1")});
  request.aggregation = TokenAggregation::kEntity;
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result, world_.Classify(request));
  std::vector<std::string> found;
  for (const LabeledSpan& span : result.inputs[0].spans) {
    found.push_back(span.labels[0].label + ":" + span.text);
  }
  EXPECT_THAT(found, ElementsAre("PER:AB", "PER:+AC", "LOC:122", "PER:A", "LOC:1"));
  const LabeledSpan& place = result.inputs[0].spans[2];
  EXPECT_EQ(place.span.byte_begin, 8);
  EXPECT_EQ(place.span.char_end, 11);
  EXPECT_NEAR(place.labels[0].score, (3.0 / 7 + 7.0 / 11 + 7.0 / 11) / 3, 1e-6);
}

TEST_F(TokenLabelTest, TokenIdsHaveLabelsAndNoText) {
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result,
                       world_.Classify(Request({TokenIds{'A', 'x', '1'}})));
  ASSERT_THAT(result.inputs[0].spans, SizeIs(3));
  EXPECT_EQ(result.inputs[0].spans[0].labels[0].label, "I-PER");
  EXPECT_EQ(result.inputs[0].spans[2].labels[0].label, "B-LOC");
  EXPECT_EQ(result.inputs[0].spans[2].text, "");
}

TEST_F(TokenLabelTest, RefusesWhatHasNoPlaceInOneText) {
  ClassifyRequest request = Request({std::string("A"), TextPair{"A", "B"}, TokenIds{'A'}});
  request.aggregation = TokenAggregation::kEntity;
  ASSERT_OK_AND_ASSIGN(const ClassifyResult result, world_.Classify(request));
  EXPECT_OK(result.inputs[0].status);
  EXPECT_THAT(result.inputs[1].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pair of texts")));
  EXPECT_THAT(result.inputs[2].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token ids")));
  request.top_k = 2;
  EXPECT_THAT(world_.Classify(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("an entity has one label")));
}

// ---------------------------------------------------------------------------------------------------------------------
// Rank.

// The more tokens, the better.
class RankTest : public ::testing::Test {
 protected:
  RankTest() {
    world_.description().can_rank = true;
    world_.encoder().head_logits = [this](HeadKind kind, int32_t, int32_t) {
      EXPECT_EQ(kind, HeadKind::kSequenceClassification);
      return std::vector<float>{score_++};
    };
  }

  static RankRequest Request(std::vector<std::string> documents) {
    RankRequest request;
    request.query = "q?";
    request.documents = std::move(documents);
    return request;
  }

  static std::vector<int32_t> Order(const RankResult& result) {
    std::vector<int32_t> order;
    for (const RankedDocument& document : result.documents) order.push_back(document.index);
    return order;
  }

  float score_ = 0;  // of the next document
  World world_;
};

TEST_F(RankTest, TheBestComesFirstAndTheFailedLast) {
  ASSERT_OK_AND_ASSIGN(const RankResult result,
                       world_.Rank(Request({"a", "", "b", std::string(30, 'x'), "c"})));
  EXPECT_THAT(Order(result), ElementsAre(4, 2, 0, 1, 3));
  EXPECT_NEAR(result.documents[0].score, 0.88080, 1e-5);  // the sigmoid of 2
  EXPECT_EQ(result.documents[2].score, 0.5f);
  EXPECT_EQ(result.documents[0].num_tokens, 6);
  EXPECT_THAT(result.documents[3].status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("documents[1]: the document is empty")));
  EXPECT_THAT(result.documents[4].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("35 tokens")));
}

TEST_F(RankTest, TopNKeepsTheBestAndSaysWhatFailed) {
  RankRequest request = Request({"a", "", "b", "c"});
  request.top_n = 2;
  ASSERT_OK_AND_ASSIGN(const RankResult result, world_.Rank(request));
  EXPECT_THAT(Order(result), ElementsAre(3, 2, 1));
}

TEST_F(RankTest, RawScoresAreLogitsAndSoAreThoseOfAModelThatSaysSo) {
  RankRequest request = Request({"a", "b", "c", "d"});
  request.raw_scores = true;
  ASSERT_OK_AND_ASSIGN(RankResult result, world_.Rank(request));
  EXPECT_EQ(result.documents[0].score, 3);
  request.raw_scores = false;
  world_.model().raw_rank_scores = true;
  ASSERT_OK_AND_ASSIGN(result, world_.Rank(request));
  EXPECT_EQ(result.documents[0].score, 7);
}

TEST_F(RankTest, OnlyTheDocumentIsCut) {
  RankRequest request = Request({std::string(30, 'x'), "y"});
  request.truncation.side = TruncationSide::kRight;
  std::vector<int32_t> seen;
  ASSERT_OK_AND_ASSIGN(RankResult result, world_.Rank(request));
  EXPECT_EQ(result.documents[1].index, 0);
  EXPECT_EQ(result.documents[1].num_tokens, 20);
  EXPECT_EQ(result.documents[1].original_tokens, 35);

  // Longer than the document, which would lose nothing if the longer were cut first.
  request.query = std::string(18, 'q');
  request.documents = {"yyy"};
  EXPECT_THAT(world_.Rank(request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the first text, which is not cut, takes 18 tokens")));
}

TEST_F(RankTest, RefusesWhatItCannotDo) {
  const auto refused = [&](auto change, const char* message) {
    RankRequest request = Request({"a"});
    change(request);
    EXPECT_THAT(world_.Rank(request),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refused([](auto& r) { r.query = ""; }, "query: is empty");
  refused([](auto& r) { r.documents.clear(); }, "documents: is empty");
  refused([](auto& r) { r.top_n = 0; }, "top_n: is 0");
  refused([](auto& r) { r.documents = {"", ""}; }, "none of the 2 inputs is good; documents[0]");
  world_.description().can_rank = false;
  EXPECT_THAT(world_.Rank(Request({"a"})), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// ---------------------------------------------------------------------------------------------------------------------
// Answer.

// Answers start at '<' and end at '>'; the first token says "no answer" as likely as `null_` says.
class AnswerTest : public ::testing::Test {
 protected:
  AnswerTest() {
    world_.description().can_answer = true;
    world_.encoder().head_logits = [this](HeadKind kind, int32_t id, int32_t position) {
      EXPECT_EQ(kind, HeadKind::kQuestionAnswering);
      if (position == 0) return std::vector<float>{null_, null_};
      return std::vector<float>{id == '<' ? 10.0f : 0.0f, id == '>' ? 10.0f : 0.0f};
    };
  }

  static AnswerRequest Request(std::string context) {
    AnswerRequest request;
    request.inputs = {{"who?", std::move(context)}};
    return request;
  }

  // The windows of the last request: a window has room for 13 bytes of the context.
  World world_;
  float null_ = 0;
};

TEST_F(AnswerTest, TheBestSpanAndWhereItIs) {
  ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(Request("\xc3\xa9 <ab> d")));
  ASSERT_THAT(result.inputs[0].answers, SizeIs(1));
  const AnswerSpan& answer = result.inputs[0].answers[0];
  EXPECT_EQ(answer.text, "<ab>");
  EXPECT_EQ(answer.span->byte_begin, 3);
  EXPECT_EQ(answer.span->byte_end, 7);
  EXPECT_EQ(answer.span->char_begin, 2);
  EXPECT_EQ(answer.span->char_end, 6);
  // Nine tokens of the context and the first token, all but one with a logit of 0.
  const double p = std::exp(10) / (std::exp(10) + 9);
  EXPECT_NEAR(answer.score, p * p, 1e-6);
  EXPECT_EQ(result.inputs[0].num_tokens, 16);
}

TEST_F(AnswerTest, TopKGivesDifferentSpansBestFirst) {
  AnswerRequest request = Request("<<a>");
  request.top_k = 2;
  ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(request));
  std::vector<std::string> texts;
  for (const AnswerSpan& answer : result.inputs[0].answers) texts.push_back(answer.text);
  EXPECT_THAT(texts, ElementsAre("<<a>", "<a>"));
  EXPECT_EQ(result.inputs[0].answers[0].score, result.inputs[0].answers[1].score);
}

TEST_F(AnswerTest, NoSpanIsLongerThanAskedFor) {
  AnswerRequest request = Request("<12345>");
  request.max_answer_tokens = 7;
  EXPECT_EQ(world_.Ask(request)->inputs[0].answers[0].text, "<12345>");
  request.max_answer_tokens = 6;
  ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(request));
  EXPECT_LE(result.inputs[0].answers[0].text.size(), 6u);
  EXPECT_LT(result.inputs[0].answers[0].score, 0.01);
}

TEST_F(AnswerTest, NoAnswerWinsWhereTheFirstTokenSaysSo) {
  AnswerRequest request = Request("a<b>c");
  request.allow_no_answer = true;
  request.top_k = 2;
  null_ = 20;
  ASSERT_OK_AND_ASSIGN(AnswerResult result, world_.Ask(request));
  ASSERT_THAT(result.inputs[0].answers, SizeIs(2));
  EXPECT_EQ(result.inputs[0].answers[0].text, "");
  EXPECT_FALSE(result.inputs[0].answers[0].span.has_value());
  EXPECT_GT(result.inputs[0].answers[0].score, 0.99);
  EXPECT_EQ(result.inputs[0].answers[1].text, "<b>");

  null_ = -20;
  ASSERT_OK_AND_ASSIGN(result, world_.Ask(request));
  EXPECT_EQ(result.inputs[0].answers[0].text, "<b>");
  null_ = 20;
  request.allow_no_answer = false;
  ASSERT_OK_AND_ASSIGN(result, world_.Ask(request));
  EXPECT_EQ(result.inputs[0].answers[0].text, "<b>");
}

TEST_F(AnswerTest, ALongContextIsReadInWindowsThatOverlap) {
  // 40 tokens of context; 13 a window, and 4 of them shared: windows from 0, 9, 18 and 27.
  std::string context(40, '.');
  context[14] = '<';
  context[19] = '>';
  AnswerRequest request = Request(context);
  request.window_overlap_tokens = 4;
  request.allow_no_answer = true;
  request.top_k = 100;
  ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(request));
  EXPECT_EQ(result.inputs[0].num_tokens, 4 * 20);
  EXPECT_EQ(result.usage.input_tokens, 80);
  // Only the window from 9 sees both ends.
  EXPECT_EQ(result.inputs[0].answers[0].text, "<....>");
  EXPECT_EQ(result.inputs[0].answers[0].span->char_begin, 14);
  // That the answer is seen by one window makes "no answer" unlikely, though others see nothing.
  for (const AnswerSpan& answer : result.inputs[0].answers) {
    if (answer.text.empty()) {
      EXPECT_LT(answer.score, 1e-6);
    }
  }
  // A span that two windows see is one answer.
  for (size_t i = 0; i < result.inputs[0].answers.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto &a = result.inputs[0].answers[i], &b = result.inputs[0].answers[j];
      if (!a.span.has_value() || !b.span.has_value()) continue;
      EXPECT_FALSE(a.span->char_begin == b.span->char_begin &&
                   a.span->char_end == b.span->char_end);
    }
  }
}

TEST_F(AnswerTest, EveryTokenOfTheContextIsInSomeWindow) {
  world_.encoder().head_logits = [](HeadKind, int32_t id, int32_t) {
    return std::vector<float>(2, id == '<' ? 20.0f : 0.0f);
  };
  for (const int length : {12, 13, 14, 22, 23, 40}) {
    for (const int overlap : {0, 1, 6, 12}) {
      for (int place = 0; place < length; ++place) {
        std::string context(length, '.');
        context[place] = '<';
        AnswerRequest request = Request(context);
        request.window_overlap_tokens = overlap;
        request.max_answer_tokens = 1;
        ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(request));
        ASSERT_EQ(result.inputs[0].answers[0].span->byte_begin, place)
            << length << " with an overlap of " << overlap;
      }
    }
  }
}

TEST_F(AnswerTest, ABadInputFailsAlone) {
  AnswerRequest request = Request("<a>");
  request.inputs.push_back({"", "x"});
  request.inputs.push_back({"x", ""});
  request.inputs.push_back({std::string(17, 'q'), "x"});
  request.inputs.push_back({"q", std::string(3000, 'x')});
  request.window_overlap_tokens = 15;
  request.inputs.push_back({"qq", std::string(30, 'x')});
  request.inputs.push_back({"z", "<c>"});
  ASSERT_OK_AND_ASSIGN(const AnswerResult result, world_.Ask(request));
  const auto bad = [&](int i, const char* message) {
    EXPECT_THAT(result.inputs[i].status,
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
    EXPECT_THAT(result.inputs[i].answers, IsEmpty());
  };
  EXPECT_EQ(result.inputs[0].answers[0].text, "<a>");
  bad(1, "inputs[1]: the question is empty");
  bad(2, "inputs[2]: the context is empty");
  bad(3, "inputs[3]: the question takes 20 tokens");
  bad(4, "makes 2985 windows of 16 that overlap by 15; at most 1024");
  bad(5, "window_overlap_tokens is 15; with this question a window has 15 tokens");
  EXPECT_EQ(result.inputs[6].answers[0].text, "<c>");
}

TEST_F(AnswerTest, RefusesWhatItCannotDo) {
  const auto refused = [&](auto change, const char* message) {
    AnswerRequest request = Request("a");
    change(request);
    EXPECT_THAT(world_.Ask(request),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refused([](auto& r) { r.inputs.clear(); }, "inputs: is empty");
  refused([](auto& r) { r.inputs = {{"q", ""}, {"", "c"}}; }, "none of the 2 inputs is good");
  refused([](auto& r) { r.top_k = 0; }, "top_k: is 0; must be in [1, 100]");
  refused([](auto& r) { r.top_k = 101; }, "top_k: is 101");
  refused([](auto& r) { r.max_answer_tokens = 0; }, "max_answer_tokens: is 0");
  refused([](auto& r) { r.window_overlap_tokens = -1; }, "window_overlap_tokens: is -1");
  world_.description().can_answer = false;
  EXPECT_THAT(world_.Ask(Request("a")), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// ---------------------------------------------------------------------------------------------------------------------
// All of them on one runner.

TEST(ReadersTest, RequestsOfEveryKindShareStepsAndGetWhatTheyGetAlone) {
  World world;
  ModelDescription& description = world.description();
  description.can_fill_mask = description.can_classify = description.can_answer = true;
  description.labels = {"a", "b"};
  world.encoder().head_logits = [&](HeadKind kind, int32_t id, int32_t position) {
    const int32_t size = kind == HeadKind::kMaskedLanguageModel ? description.vocab_size : 2;
    std::vector<float> logits(size);
    for (int32_t i = 0; i < size; ++i) {
      logits[i] = static_cast<float>((id * 7 + position * 13 + i * 5) % 11);
    }
    return logits;
  };
  FillMaskRequest fill;
  fill.inputs = {"a_b", "_"};
  ClassifyRequest classify;
  classify.inputs = {std::string("abc")};
  AnswerRequest answer;
  answer.inputs = {{"q", "some context of more than a window"}};
  EncodeRequest encode;
  encode.inputs = {std::string("xyz")};

  const auto alone_fill = world.Fill(fill);
  const auto alone_classify = world.Classify(classify);
  const auto alone_answer = world.Ask(answer);
  world.encoder().batch_tokens.clear();
  const auto filled = world.Add<FillMaskResult>(fill);
  const auto classified = world.Add<ClassifyResult>(classify);
  const auto answered = world.Add<AnswerResult>(answer);
  const auto encoded = world.Add<EncodeResult>(encode);
  while (world.Step()) {
  }
  EXPECT_LE(world.encoder().batch_tokens.size(), 3u);
  EXPECT_OK(**encoded);
  for (size_t i = 0; i < 2; ++i) {
    const auto& mask = (**filled)->inputs[i].masks[0];
    EXPECT_EQ(mask.candidates[0].id, alone_fill->inputs[i].masks[0].candidates[0].id);
    EXPECT_EQ(mask.candidates[0].score, alone_fill->inputs[i].masks[0].candidates[0].score);
  }
  EXPECT_EQ((**classified)->inputs[0].labels[0].score, alone_classify->inputs[0].labels[0].score);
  EXPECT_EQ((**answered)->inputs[0].answers[0].text, alone_answer->inputs[0].answers[0].text);
  EXPECT_EQ((**answered)->inputs[0].answers[0].score, alone_answer->inputs[0].answers[0].score);
}

TEST(ReadersTest, ACancelledAnswerEndsBetweenItsWindows) {
  World world(/*max_batch_tokens=*/20);
  world.description().can_answer = true;
  world.encoder().head_logits = [](HeadKind, int32_t, int32_t) { return std::vector<float>{0, 0}; };
  AnswerRequest request;
  request.inputs = {{"q", std::string(200, 'x')}};
  request.control = std::make_shared<RequestControl>();
  const auto answer = world.Add<AnswerResult>(request);
  EXPECT_TRUE(world.Step());
  request.control->cancelled = true;
  EXPECT_FALSE(world.Step());
  EXPECT_THAT(**answer, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(world.encoder().batch_tokens, SizeIs(1));
  EXPECT_EQ(world.runner().num_tokens_waiting(), 0);
}

}  // namespace
}  // namespace attendant::engine
