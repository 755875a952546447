#include "server/rpc/head_conversion.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/status/status_details.h"
#include "tests/server/rpc/scripted_engine.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string FieldOf(const absl::Status& status) {
  const google::rpc::Status message = ToRpcStatus(status);
  for (const auto& any : message.details()) {
    google::rpc::BadRequest bad_request;
    if (any.UnpackTo(&bad_request)) return bad_request.field_violations(0).field();
  }
  return "";
}

engine::ModelDescription Model() { return ScriptedModels()[2]; }

template <typename Message>
struct BadField {
  const char* field;
  const char* message;
  std::function<void(Message&)> change;
};

template <typename Message>
void ExpectAllNamed(const Message& good, const std::vector<BadField<Message>>& cases) {
  for (const BadField<Message>& bad : cases) {
    SCOPED_TRACE(bad.field);
    Message message = good;
    bad.change(message);
    const absl::Status status = FromMessage(message, Model(), {.max_inputs = 3}).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
    EXPECT_EQ(FieldOf(status), bad.field);
  }
}

TEST(FillMaskConversionTest, EveryBadFieldIsNamed) {
  v1::FillMaskRequest good;
  good.add_inputs()->set_text("a [MASK]");
  ExpectAllNamed<v1::FillMaskRequest>(
      good,
      {{"inputs", "is empty", [](auto& r) { r.clear_inputs(); }},
       {"inputs", "has 4 entries; this server allows 3",
        [](auto& r) {
          for (int i = 0; i < 3; ++i) r.add_inputs();
        }},
       {"inputs[0]", "is not set: one of text, tokens",
        [](auto& r) { r.mutable_inputs(0)->clear_input(); }},
       {"inputs[0].tokens.ids", "is empty", [](auto& r) { r.mutable_inputs(0)->mutable_tokens(); }},
       {"inputs[0].tokens.ids[1]", "is 100; the vocabulary has ids from 0 to 99",
        [](auto& r) {
          r.mutable_inputs(0)->mutable_tokens()->add_ids(1);
          r.mutable_inputs(0)->mutable_tokens()->add_ids(100);
        }},
       {"top_k", "is 0; must be in [1, 1000]", [](auto& r) { r.set_top_k(0); }},
       {"top_k", "is 1001; must be in [1, 1000]", [](auto& r) { r.set_top_k(1001); }},
       {"targets[1]", "is empty", [](auto& r) { r.add_targets("x"), r.add_targets(""); }},
       {"targets", "has 1001 entries; the limit is 1000",
        [](auto& r) {
          for (int i = 0; i < 1001; ++i) r.add_targets("x");
        }},
       {"truncation.max_tokens", "is 17; must be in [1, 16]",
        [](auto& r) { r.mutable_truncation()->set_max_tokens(17); }}});
}

TEST(FillMaskConversionTest, DefaultsAndEveryFieldArrive) {
  v1::FillMaskRequest message;
  message.add_inputs()->set_text("a [MASK] and more text than that");
  message.add_inputs();
  message.add_inputs()->mutable_tokens()->add_ids(7);
  v1::FillMaskRequest copy = message;
  ASSERT_OK_AND_ASSIGN(auto conversion, FromMessage(copy, Model(), {}));
  EXPECT_EQ(conversion.request.top_k, 5);
  EXPECT_THAT(conversion.request.targets, IsEmpty());
  EXPECT_EQ(std::get<std::string>(conversion.request.inputs[0]),
            "a [MASK] and more text than that");
  EXPECT_OK(conversion.input_status[0]);
  EXPECT_THAT(conversion.input_status[1], StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(std::get<engine::TokenIds>(conversion.request.inputs[2]), engine::TokenIds{7});
  EXPECT_EQ(conversion.num_tokens, 32 / 4 + 2 + 1);

  message.set_top_k(1000);
  message.add_targets("cat");
  message.mutable_truncation()->set_side(v1::Truncation::SIDE_LEFT);
  ASSERT_OK_AND_ASSIGN(conversion, FromMessage(message, Model(), {}));
  EXPECT_EQ(conversion.request.top_k, 1000);
  EXPECT_THAT(conversion.request.targets, ElementsAre("cat"));
  EXPECT_EQ(conversion.request.truncation.side, engine::TruncationSide::kLeft);
}

TEST(FillMaskConversionTest, ResultsKeepTheirOrderAndSayWhatFailed) {
  engine::FillMaskResult result;
  result.inputs.resize(3);
  result.inputs[0].masks = {
      {.token_index = 4, .candidates = {{7, "cat", 0.5f}, {8, "\xff", 0.2f}}}};
  result.inputs[0].num_tokens = 9;
  result.inputs[0].original_tokens = 12;
  result.inputs[1].status = absl::InvalidArgumentError("inputs[1]: has no mask token");
  result.usage.input_tokens = 9;
  const v1::FillMaskResponse message =
      ToMessage(std::move(result),
                {absl::OkStatus(), absl::OkStatus(), InvalidField("inputs[2]", "is not set")}, "m",
                absl::Seconds(2));
  EXPECT_EQ(message.model(), "m");
  EXPECT_EQ(message.usage().input_tokens(), 9);
  EXPECT_EQ(message.timing().total().seconds(), 2);
  ASSERT_EQ(message.inputs_size(), 3);
  EXPECT_EQ(message.inputs(0).status().code(), 0);
  EXPECT_EQ(message.inputs(0).original_tokens(), 12);
  EXPECT_EQ(message.inputs(0).masks(0).token_index(), 4);
  EXPECT_EQ(message.inputs(0).masks(0).candidates(0).token(), "cat");
  EXPECT_EQ(message.inputs(0).masks(0).candidates(0).token_id(), 7);
  EXPECT_EQ(message.inputs(0).masks(0).candidates(1).token(), "\xEF\xBF\xBD");
  EXPECT_THAT(message.inputs(1).status().message(), HasSubstr("no mask token"));
  EXPECT_EQ(message.inputs(2).status().code(), 3);
}

TEST(ClassifyConversionTest, EveryBadFieldIsNamed) {
  v1::ClassifyRequest good;
  good.add_inputs()->set_text("a");
  ExpectAllNamed<v1::ClassifyRequest>(
      good, {{"inputs", "is empty", [](auto& r) { r.clear_inputs(); }},
             {"inputs[0]", "is not set: one of text, pair, tokens",
              [](auto& r) { r.mutable_inputs(0)->clear_input(); }},
             {"inputs[0].tokens.ids[0]", "is -1",
              [](auto& r) { r.mutable_inputs(0)->mutable_tokens()->add_ids(-1); }},
             {"top_k", "is 0; must be at least 1", [](auto& r) { r.set_top_k(0); }},
             {"aggregation", "is 9, which is not a value",
              [](auto& r) { r.set_aggregation(static_cast<v1::TokenAggregation>(9)); }},
             {"truncation.side", "is 9", [](auto& r) {
                r.mutable_truncation()->set_side(static_cast<v1::Truncation::Side>(9));
              }}});
}

TEST(ClassifyConversionTest, EveryFieldArrives) {
  v1::ClassifyRequest message;
  message.add_inputs()->mutable_pair()->set_text("a");
  message.mutable_inputs(0)->mutable_pair()->set_text_pair("b");
  message.set_top_k(2);
  message.set_raw_scores(true);
  message.set_aggregation(v1::TOKEN_AGGREGATION_ENTITY);
  ASSERT_OK_AND_ASSIGN(const auto conversion, FromMessage(message, Model(), {}));
  EXPECT_EQ(std::get<engine::TextPair>(conversion.request.inputs[0]).text_pair, "b");
  EXPECT_EQ(conversion.request.top_k, 2);
  EXPECT_TRUE(conversion.request.raw_scores);
  EXPECT_EQ(conversion.request.aggregation, engine::TokenAggregation::kEntity);

  v1::ClassifyRequest plain;
  plain.add_inputs()->set_text("a");
  ASSERT_OK_AND_ASSIGN(const auto defaults, FromMessage(plain, Model(), {}));
  EXPECT_FALSE(defaults.request.top_k.has_value());
  EXPECT_FALSE(defaults.request.raw_scores);
  EXPECT_FALSE(defaults.request.aggregation.has_value());
}

TEST(ClassifyConversionTest, SpansArriveInBytesAndCodePoints) {
  engine::ClassifyResult result;
  result.inputs.resize(1);
  result.inputs[0].labels = {{"good", 0.75f}, {"bad", 0.25f}};
  result.inputs[0].spans = {{.labels = {{"PER", 0.5f}}, .span = {3, 7, 2, 5}, .text = "\xc3\xa9x"}};
  const v1::ClassifyResponse message =
      ToMessage(std::move(result), {absl::OkStatus()}, "m", absl::ZeroDuration());
  EXPECT_EQ(message.inputs(0).labels(0).label(), "good");
  EXPECT_EQ(message.inputs(0).labels(1).score(), 0.25f);
  const v1::LabeledSpan& span = message.inputs(0).spans(0);
  EXPECT_EQ(span.labels(0).label(), "PER");
  EXPECT_EQ(span.text(), "\xc3\xa9x");
  EXPECT_EQ(span.span().byte_start(), 3);
  EXPECT_EQ(span.span().byte_end(), 7);
  EXPECT_EQ(span.span().char_start(), 2);
  EXPECT_EQ(span.span().char_end(), 5);
}

TEST(RankConversionTest, EveryBadFieldIsNamed) {
  v1::RankRequest good;
  good.set_query("q");
  good.add_documents("d");
  ExpectAllNamed<v1::RankRequest>(
      good, {{"query", "is empty", [](auto& r) { r.clear_query(); }},
             {"documents", "is empty", [](auto& r) { r.clear_documents(); }},
             {"documents", "has 4 entries",
              [](auto& r) {
                for (int i = 0; i < 3; ++i) r.add_documents("d");
              }},
             {"top_n", "is 0; must be at least 1", [](auto& r) { r.set_top_n(0); }},
             {"truncation.max_tokens", "is 0",
              [](auto& r) { r.mutable_truncation()->set_max_tokens(0); }}});
}

TEST(RankConversionTest, ThereAndBack) {
  v1::RankRequest message;
  message.set_query("four");
  message.add_documents("12345678");
  message.add_documents(std::string(1000, 'x'));
  message.set_top_n(1);
  message.set_raw_scores(true);
  ASSERT_OK_AND_ASSIGN(const auto conversion, FromMessage(message, Model(), {}));
  EXPECT_EQ(conversion.request.query, "four");
  EXPECT_EQ(conversion.request.documents[0], "12345678");
  EXPECT_EQ(conversion.request.top_n, 1);
  EXPECT_TRUE(conversion.request.raw_scores);
  EXPECT_EQ(conversion.num_tokens, 5 + 16);  // one costs no more than the model takes

  engine::RankResult result;
  result.documents = {{.index = 1, .score = 2.5f, .num_tokens = 4, .original_tokens = 5},
                      {.index = 0, .status = absl::InvalidArgumentError("documents[0]: long")}};
  const v1::RankResponse response =
      ToMessage(std::move(result), conversion.input_status, "m", absl::ZeroDuration());
  EXPECT_EQ(response.documents(0).index(), 1);
  EXPECT_EQ(response.documents(0).score(), 2.5f);
  EXPECT_EQ(response.documents(0).original_tokens(), 5);
  EXPECT_EQ(response.documents(1).status().code(), 3);
}

TEST(AnswerConversionTest, EveryBadFieldIsNamed) {
  v1::AnswerRequest good;
  good.add_inputs()->set_question("q");
  good.mutable_inputs(0)->set_context("c");
  ExpectAllNamed<v1::AnswerRequest>(
      good,
      {{"inputs", "is empty", [](auto& r) { r.clear_inputs(); }},
       {"inputs[0].question", "is empty", [](auto& r) { r.mutable_inputs(0)->clear_question(); }},
       {"inputs[0].context", "is empty", [](auto& r) { r.mutable_inputs(0)->clear_context(); }},
       {"top_k", "is 101; must be in [1, 100]", [](auto& r) { r.set_top_k(101); }},
       {"max_answer_tokens", "is 0; must be at least 1",
        [](auto& r) { r.set_max_answer_tokens(0); }},
       {"window_overlap_tokens", "is -1; must be in [0, 15]",
        [](auto& r) { r.set_window_overlap_tokens(-1); }},
       {"window_overlap_tokens", "is 16; must be in [0, 15]",
        [](auto& r) { r.set_window_overlap_tokens(16); }}});
}

TEST(AnswerConversionTest, DefaultsAndEveryFieldArrive) {
  v1::AnswerRequest message;
  message.add_inputs()->set_question("q");
  message.mutable_inputs(0)->set_context("c");
  message.add_inputs();
  v1::AnswerRequest copy = message;
  ASSERT_OK_AND_ASSIGN(auto conversion, FromMessage(copy, Model(), {}));
  EXPECT_EQ(conversion.request.top_k, 1);
  EXPECT_EQ(conversion.request.max_answer_tokens, 15);
  EXPECT_FALSE(conversion.request.window_overlap_tokens.has_value());
  EXPECT_FALSE(conversion.request.allow_no_answer);
  EXPECT_EQ(conversion.request.inputs[0].context, "c");
  EXPECT_THAT(conversion.input_status[1], StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(conversion.num_tokens, 4);

  message.set_top_k(3);
  message.set_max_answer_tokens(9);
  message.set_window_overlap_tokens(0);
  message.set_allow_no_answer(true);
  ASSERT_OK_AND_ASSIGN(conversion, FromMessage(message, Model(), {}));
  EXPECT_EQ(conversion.request.top_k, 3);
  EXPECT_EQ(conversion.request.max_answer_tokens, 9);
  EXPECT_EQ(conversion.request.window_overlap_tokens, 0);
  EXPECT_TRUE(conversion.request.allow_no_answer);
}

TEST(AnswerConversionTest, AdmissionCountsEveryWindow) {
  const auto tokens = [](int context_bytes, int overlap) {
    v1::AnswerRequest message;
    message.add_inputs()->set_question("q");
    message.mutable_inputs(0)->set_context(std::string(context_bytes, 'x'));
    message.set_window_overlap_tokens(overlap);
    return FromMessage(message, Model(), {})->num_tokens;
  };
  EXPECT_EQ(tokens(40, 0), 2 + 12);
  // Some 102 tokens of context in windows of 16, of which 14 are context.
  EXPECT_EQ(tokens(400, 0), 16 * (2 + 88 / 14));
  EXPECT_EQ(tokens(400, 13), 16 * (2 + 88));
  EXPECT_EQ(tokens(400, 15), 16 * (2 + 88));
  EXPECT_EQ(tokens(40000, 15), 16 * 1024);
}

TEST(AnswerConversionTest, NoAnswerHasNoSpan) {
  engine::AnswerResult result;
  result.inputs.resize(1);
  result.inputs[0].num_tokens = 20;
  result.inputs[0].answers = {{.text = "", .score = 0.75f},
                              {.text = "x", .score = 0.5f, .span = engine::TextSpan{1, 2, 1, 2}}};
  const v1::AnswerResponse message =
      ToMessage(std::move(result), {absl::OkStatus()}, "m", absl::ZeroDuration());
  EXPECT_FALSE(message.inputs(0).answers(0).has_span());
  EXPECT_EQ(message.inputs(0).answers(0).score(), 0.75f);
  EXPECT_EQ(message.inputs(0).answers(1).span().byte_end(), 2);
  EXPECT_EQ(message.inputs(0).num_tokens(), 20);
}

}  // namespace
}  // namespace attendant::server
