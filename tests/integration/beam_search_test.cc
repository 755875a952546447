// Beam search over real connections: a trained checkpoint beside the repository against the
// reference's n best, and what a client sees that goes away.

#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
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
using simdjson::dom::element;

std::vector<int32_t> Ids(element array) {
  std::vector<int32_t> ids;
  for (const element id : array.get_array()) ids.push_back(static_cast<int32_t>(int64_t{id}));
  return ids;
}

TEST_F(ServingTest, BartFindsTheNBestThatTheReferenceFinds) {
  const auto checkpoint = SharedDataPath("models/bart-g2p-en-us");
  if (!checkpoint.has_value()) GTEST_SKIP() << "no shared checkpoint bart-g2p-en-us";
  options_.models.push_back(
      {.name = "bart", .path = *checkpoint, .dtype = engine::DataType::kFloat32});
  Start();
  simdjson::dom::parser parser;
  const element golden =
      parser.load(TestDataPath("goldens/generation/models_bart-g2p-en-us.json").string());
  int num_searches = 0;
  for (const element item : golden["cases"].get_array()) {
    int64_t num_beams;
    if (std::string_view(item["config"]) != "plain" ||
        item["request"]["num_beams"].get(num_beams)) {
      continue;
    }
    SCOPED_TRACE(simdjson::minify(item));
    v1::GenerateRequest request;
    request.set_model("bart");
    for (const int32_t id : Ids(item["input_ids"])) request.mutable_tokens()->add_ids(id);
    v1::BeamSearch& search = *request.mutable_beam_search();
    search.set_num_beams(static_cast<int32_t>(num_beams));
    for (const auto& [key, value] : item["request"].get_object()) {
      if (key == "length_penalty") search.set_length_penalty(static_cast<float>(double{value}));
      if (key == "early_stopping") {
        search.set_exhaustive(value.is_string());
        if (!value.is_string()) search.set_early_stopping(bool{value});
      }
      if (key == "num_return_sequences")
        request.set_num_sequences(static_cast<int32_t>(int64_t{value}));
      if (key == "max_new_tokens")
        request.mutable_stopping()->set_max_new_tokens(static_cast<int32_t>(int64_t{value}));
      if (key == "min_new_tokens")
        request.mutable_stopping()->set_min_new_tokens(static_cast<int32_t>(int64_t{value}));
      if (key == "no_repeat_ngram_size")
        request.mutable_sampling()->set_no_repeat_ngram_size(static_cast<int32_t>(int64_t{value}));
    }
    request.mutable_output()->set_token_ids(true);

    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, request);
    std::map<int, std::vector<int32_t>> ids;
    std::map<int, float> scores;
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      for (const v1::Token& token : response.chunk().tokens())
        ids[response.chunk().sequence()].push_back(token.id());
      if (response.has_started()) {
        EXPECT_EQ(response.started().beam_search().num_beams(), num_beams);
      }
      if (response.has_finished())
        scores[response.finished().sequence()] = response.finished().score();
    }
    const grpc::Status status = stream->Finish();
    ASSERT_TRUE(status.ok()) << status.error_message();
    int sequence = 0;
    for (const element hypothesis : item["hypotheses"].get_array()) {
      EXPECT_EQ(ids[sequence], Ids(hypothesis));
      EXPECT_NEAR(scores[sequence], double{item["scores"].get_array().at(sequence)}, 1e-4);
      ++sequence;
    }
    EXPECT_EQ(scores.size(), sequence);
    ++num_searches;
  }
  EXPECT_GE(num_searches, 20);
}

TEST_F(ServingTest, ACancelledBeamSearchFreesItsCache) {
  Start();
  v1::GenerateRequest request = Prompt("a", 120);
  request.set_model("gpt2");
  request.mutable_beam_search()->set_num_beams(8);
  request.mutable_stopping()->set_ignore_eos(true);
  const std::string metric = "attendant_kv_cache_usage_ratio{model=\"gpt2\"}";
  {
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, request);
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  // Until it stays 0: the first is from before the search's first step was counted, perhaps.
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  int num_zeros = 0;
  while (num_zeros < 20 && absl::Now() < deadline) {
    num_zeros = Metric(metric) == 0 ? num_zeros + 1 : 0;
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(num_zeros, 20);
}

TEST_F(ServingTest, ABadBeamSearchNamesItsField) {
  Start();
  const auto field = [&](auto change) {
    v1::GenerateRequest request = Prompt("a", 4);
    request.set_model("gpt2");
    request.mutable_beam_search()->set_num_beams(4);
    change(request);
    const grpc::Status status = Generate(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    return FieldOf(status);
  };
  EXPECT_EQ(field([](auto& r) { r.mutable_beam_search()->set_num_beams(17); }),
            "beam_search.num_beams");
  EXPECT_EQ(field([](auto& r) { r.mutable_sampling()->set_temperature(1); }),
            "sampling.temperature");
  EXPECT_EQ(field([](auto& r) { r.set_num_sequences(5); }), "num_sequences");
  EXPECT_EQ(field([](auto& r) { r.mutable_stopping()->add_stop("x"); }), "stopping.stop");
  EXPECT_EQ(field([](auto& r) { r.mutable_output()->set_top_logprobs(2); }), "output.top_logprobs");
}

}  // namespace
}  // namespace attendant::server
