// FillMask, Classify, Rank and Answer over real connections, on tiny BERTs of random weights; what
// they must say is what tests/engine/heads_golden_test.cc compares.

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

class HeadsTest : public ServingTest {
 protected:
  HeadsTest() {
    options_.models.clear();
    for (const std::string head : {"masked_lm", "sequence_classification", "token_classification",
                                   "question_answering", "ranking"}) {
      options_.models.push_back(
          {.name = head,
           .path = attendant::testing::TestDataPath(absl::StrCat("goldens/bert/", head)),
           .dtype = engine::DataType::kFloat32});
    }
    Start();
  }

  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::InferenceService::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    return (inference_.get()->*method)(&context, request, &response);
  }

  grpc::Status FillMask(const v1::FillMaskRequest& request, v1::FillMaskResponse& response) {
    return Call(&v1::InferenceService::Stub::FillMask, request, response);
  }
  grpc::Status Classify(const v1::ClassifyRequest& request, v1::ClassifyResponse& response) {
    return Call(&v1::InferenceService::Stub::Classify, request, response);
  }
  grpc::Status Rank(const v1::RankRequest& request, v1::RankResponse& response) {
    return Call(&v1::InferenceService::Stub::Rank, request, response);
  }
  grpc::Status Answer(const v1::AnswerRequest& request, v1::AnswerResponse& response) {
    return Call(&v1::InferenceService::Stub::Answer, request, response);
  }
};

TEST_F(HeadsTest, FillMaskGivesWordsWithProbabilities) {
  v1::FillMaskRequest request;
  request.add_inputs()->set_text("the [MASK] eats [MASK]");
  request.add_inputs()->set_text("no gap");
  v1::FillMaskResponse response;
  ASSERT_TRUE(FillMask(request, response).ok());
  EXPECT_EQ(response.model(), "masked_lm");  // the only one that can
  ASSERT_EQ(response.inputs(0).masks_size(), 2);
  EXPECT_EQ(response.inputs(0).masks(0).token_index(), 2);
  EXPECT_EQ(response.inputs(0).masks(0).candidates_size(), 5);
  float last = 1;
  for (const v1::MaskCandidate& candidate : response.inputs(0).masks(0).candidates()) {
    EXPECT_LE(candidate.score(), last);
    EXPECT_GT(candidate.score(), 0);
    EXPECT_FALSE(candidate.token().empty());
    last = candidate.score();
  }
  EXPECT_EQ(response.inputs(1).status().code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(response.inputs(1).status().message(),
              AllOf(HasSubstr("inputs[1]"), HasSubstr("[MASK]")));
  EXPECT_EQ(Metric("attendant_requests_total{code=\"OK\",model=\"masked_lm\",rpc=\"FillMask\"}"),
            1);

  request.mutable_inputs()->RemoveLast();
  request.add_targets("cat");
  request.add_targets("eating");
  const grpc::Status status = FillMask(request, response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "targets[1]");
}

TEST_F(HeadsTest, ClassifyLabelsInputsOrTokens) {
  v1::ClassifyRequest request;
  request.set_model("sequence_classification");
  request.add_inputs()->set_text("the cat");
  v1::ClassifyResponse response;
  ASSERT_TRUE(Classify(request, response).ok());
  ASSERT_EQ(response.inputs(0).labels_size(), 3);
  float sum = 0;
  for (const v1::LabelScore& label : response.inputs(0).labels()) sum += label.score();
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(response.inputs(0).num_tokens(), 4);

  request.set_model("token_classification");
  ASSERT_TRUE(Classify(request, response).ok());
  ASSERT_EQ(response.inputs(0).spans_size(), 2);
  EXPECT_EQ(response.inputs(0).spans(1).text(), "cat");
  EXPECT_EQ(response.inputs(0).spans(1).span().byte_start(), 4);
  EXPECT_EQ(response.inputs(0).labels_size(), 0);

  request.set_model("sequence_classification");
  request.set_aggregation(v1::TOKEN_AGGREGATION_ENTITY);
  const grpc::Status status = Classify(request, response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "aggregation");
}

TEST_F(HeadsTest, RankSortsDocuments) {
  v1::RankRequest request;
  request.set_query("the cat");
  for (const char* document : {"the sun", "", "red tree", "a man"}) request.add_documents(document);
  v1::RankResponse response;
  const grpc::Status status = Rank(request, response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model(), "ranking");
  ASSERT_EQ(response.documents_size(), 4);
  EXPECT_GE(response.documents(0).score(), response.documents(1).score());
  EXPECT_GE(response.documents(1).score(), response.documents(2).score());
  EXPECT_EQ(response.documents(3).index(), 1);
  EXPECT_EQ(response.documents(3).status().code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(HeadsTest, AnswerFindsASpanOfALongContext) {
  v1::AnswerRequest request;
  v1::AnswerInput* input = request.add_inputs();
  input->set_question("who?");
  for (int i = 0; i < 40; ++i) input->mutable_context()->append("the cat is on a red tree. ");
  v1::AnswerResponse response;
  ASSERT_TRUE(Answer(request, response).ok());
  EXPECT_EQ(response.model(), "question_answering");
  ASSERT_EQ(response.inputs(0).answers_size(), 1);
  const v1::AnswerSpan& answer = response.inputs(0).answers(0);
  EXPECT_EQ(input->context().substr(answer.span().byte_start(), answer.text().size()),
            answer.text());
  EXPECT_GT(response.inputs(0).num_tokens(), 40 * 8);
  EXPECT_EQ(response.usage().input_tokens(), response.inputs(0).num_tokens());
}

TEST_F(HeadsTest, AModelWithoutTheHeadSaysWhatItHas) {
  v1::AnswerRequest request;
  request.set_model("masked_lm");
  request.add_inputs()->set_question("q");
  request.mutable_inputs(0)->set_context("c");
  v1::AnswerResponse response;
  const grpc::Status status = Answer(request, response);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("masked_lm (bert) cannot answer"), HasSubstr("Encode"),
                    HasSubstr("FillMask"), HasSubstr("its heads: masked_lm")));
}

TEST_F(HeadsTest, ModelsSayWhichHeadsTheyHave) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(models_->ListModels(&context, {}, &response).ok());
  for (const v1::Model& model : response.models()) {
    const std::vector<std::string> rpcs(model.rpcs().begin(), model.rpcs().end());
    const std::vector<int> heads(model.heads().begin(), model.heads().end());
    if (model.name() == "masked_lm") {
      EXPECT_THAT(rpcs, IsSupersetOf({"Encode", "FillMask"}));
      EXPECT_THAT(heads,
                  ElementsAre(v1::MODEL_HEAD_EMBEDDING, v1::MODEL_HEAD_MASKED_LANGUAGE_MODEL));
    }
    if (model.name() == "ranking") {
      EXPECT_THAT(rpcs, IsSupersetOf({"Classify", "Rank"}));
      EXPECT_THAT(heads,
                  ElementsAre(v1::MODEL_HEAD_EMBEDDING, v1::MODEL_HEAD_SEQUENCE_CLASSIFICATION,
                              v1::MODEL_HEAD_RANKING));
    }
    if (model.name() == "token_classification") {
      EXPECT_THAT(heads,
                  ElementsAre(v1::MODEL_HEAD_EMBEDDING, v1::MODEL_HEAD_TOKEN_CLASSIFICATION));
    }
  }
}

TEST_F(HeadsTest, ConcurrentRequestsGetWhatTheyGetAlone) {
  v1::FillMaskRequest fill;
  fill.add_inputs()->set_text("the [MASK] is red");
  v1::AnswerRequest ask;
  ask.add_inputs()->set_question("who?");
  ask.mutable_inputs(0)->set_context("the man in the tree is eating bread and the cat is not");
  v1::FillMaskResponse fill_alone;
  v1::AnswerResponse ask_alone;
  ASSERT_TRUE(FillMask(fill, fill_alone).ok());
  ASSERT_TRUE(Answer(ask, ask_alone).ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; ++j) {
        v1::FillMaskResponse filled;
        v1::AnswerResponse answered;
        EXPECT_TRUE(FillMask(fill, filled).ok());
        EXPECT_TRUE(Answer(ask, answered).ok());
        for (int c = 0; c < 5; ++c) {
          EXPECT_EQ(filled.inputs(0).masks(0).candidates(c).token_id(),
                    fill_alone.inputs(0).masks(0).candidates(c).token_id());
          EXPECT_NEAR(filled.inputs(0).masks(0).candidates(c).score(),
                      fill_alone.inputs(0).masks(0).candidates(c).score(), 1e-5);
        }
        EXPECT_EQ(answered.inputs(0).answers(0).text(), ask_alone.inputs(0).answers(0).text());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace attendant::server
