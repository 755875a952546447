// What the server promises, with real models over real connections.

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(ServingTest, HealthAndProbesAndReflectionAnswer) {
  Start();
  for (const std::string service :
       {"", "attendant.v1.InferenceService", "attendant.v1.ModelService",
        "attendant.v1.InferenceService/bert"}) {
    EXPECT_EQ(Health(service), grpc::health::v1::HealthCheckResponse::SERVING) << service;
  }
  EXPECT_EQ(Health("nobody"), grpc::health::v1::HealthCheckResponse::UNKNOWN);
  EXPECT_THAT(HttpGet("/livez"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet("/readyz"), HasSubstr("200 OK"));
  // A ServerReflectionRequest with list_services, field 7, set to "".
  std::string answer;
  EXPECT_TRUE(CallRaw("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                      std::string("\x3a\x00", 2), &answer)
                  .ok());
  EXPECT_THAT(answer, HasSubstr("attendant.v1.InferenceService"));
  EXPECT_THAT(answer, HasSubstr("attendant.v1.ModelService"));
  EXPECT_THAT(answer, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(ServingTest, EncodesABatchAsItEncodesEachAlone) {
  Start();
  v1::EncodeResponse response;
  ASSERT_TRUE(Encode(Texts({"ab", "ba ab", "b"}), &response).ok());
  EXPECT_THAT(response.embeddings().shape(), ElementsAre(3, 40));
  const std::vector<float> alone = Vector("ba ab");
  for (int i = 0; i < 40; ++i) {
    float value;
    std::memcpy(&value, response.embeddings().data().data() + (40 + i) * sizeof(float),
                sizeof(value));
    EXPECT_NEAR(value, alone[i], 1e-5);
  }
  EXPECT_GT(response.usage().input_tokens(), 3);
  EXPECT_GT(response.timing().total().nanos(), 0);
}

TEST_F(ServingTest, StreamsOfEncodesAnswerEveryId) {
  Start();
  grpc::ClientContext context;
  auto stream = inference_->EncodeStream(&context);
  constexpr int kRequests = 300;
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      v1::EncodeStreamRequest request;
      request.set_id(i);
      *request.mutable_request() = Texts({std::string(1 + i % 20, 'a')});
      if (i % 50 == 0) request.mutable_request()->set_model("nobody");
      stream->Write(request);
    }
    stream->WritesDone();
  });
  std::map<uint64_t, int> codes;
  v1::EncodeStreamResponse answer;
  while (stream->Read(&answer)) codes[answer.id()] = answer.error().code();
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_EQ(codes.size(), kRequests);
  for (const auto& [id, code] : codes)
    EXPECT_EQ(code, id % 50 == 0 ? StatusCode::NOT_FOUND : StatusCode::OK);
}

TEST_F(ServingTest, GeneratesTheSameAloneAndBesideOthers) {
  Start();
  std::string alone;
  v1::GenerateFinished finished;
  ASSERT_TRUE(Generate(Prompt("abc", 40), &alone, &finished).ok());
  EXPECT_EQ(finished.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.usage().output_tokens(), 40);
  std::vector<std::thread> callers;
  std::vector<std::string> texts(8);
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&, i] {
      EXPECT_TRUE(Generate(Prompt("abc", 40), &texts[i]).ok());
      Vector("ab");
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const std::string& text : texts) EXPECT_EQ(text, alone);
}

TEST_F(ServingTest, ACancelledGenerationLeavesNothingBehind) {
  Start();
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, Prompt("abc", 120));
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    while (stream->Read(&response)) {
    }
    EXPECT_THAT(stream->Finish().error_code(),
                ::testing::AnyOf(StatusCode::CANCELLED, StatusCode::OK));
  }
  // The client hears of the end before the server has cleared up behind it.
  const char* const left[] = {"attendant_requests_running{model=\"gpt2\"} ",
                              "attendant_requests_in_flight ",
                              "attendant_kv_cache_usage_ratio{model=\"gpt2\"} "};
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  for (const char* metric : left) {
    while (Metric(metric) != 0 && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_EQ(Metric(metric), 0) << metric;
  }
}

TEST_F(ServingTest, ADeadlineEndsTheWork) {
  Start();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(1)));
  auto stream = inference_->Generate(&context, Prompt("abc", 120));
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::DEADLINE_EXCEEDED);
  std::string text;
  EXPECT_TRUE(Generate(Prompt("abc", 4), &text).ok());
}

TEST_F(ServingTest, OverloadIsRefusedWithATimeToRetryWhileHealthAnswers) {
  options_.max_requests = 4;
  Start();
  std::atomic<int> good = 0, refused = 0, other = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 16; ++i) {
    callers.emplace_back([&] {
      for (int j = 0; j < 10; ++j) {
        const grpc::Status status = Generate(Prompt("abc", 60));
        google::rpc::Status details;
        details.ParseFromString(status.error_details());
        bool has_retry = false;
        for (const auto& any : details.details()) has_retry |= any.Is<google::rpc::RetryInfo>();
        if (status.ok()) {
          ++good;
        } else if (status.error_code() == StatusCode::RESOURCE_EXHAUSTED && has_retry) {
          ++refused;
        } else {
          ++other;
        }
      }
    });
  }
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Health(), grpc::health::v1::HealthCheckResponse::SERVING);
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(good, 0);
  EXPECT_GT(refused, 0);
  EXPECT_EQ(other, 0);
  EXPECT_EQ(Metric("attendant_rejected_total{reason=\"requests_full\"} "), refused);
}

TEST_F(ServingTest, ADrainUnderLoadLosesNothingThatWasAccepted) {
  Start();
  std::atomic<int> good = 0, refused = 0, other = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      while (true) {
        std::string text;
        v1::GenerateFinished finished;
        const grpc::Status status = Generate(Prompt("abc", 40), &text, &finished);
        if (status.ok() && finished.usage().output_tokens() == 40) {
          ++good;
        } else if (text.empty() && (status.error_code() == StatusCode::UNAVAILABLE ||
                                    status.error_code() == StatusCode::CANCELLED)) {
          ++refused;
          return;
        } else {
          ++other;
          ADD_FAILURE() << "status " << status.error_code() << ", " << status.error_message()
                        << ", after the text \"" << text << "\"";
          return;
        }
      }
    });
  }
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(server_->Drain(absl::Milliseconds(100), absl::Seconds(30)), 0);
  for (std::thread& caller : callers) caller.join();
  EXPECT_GT(good, 0);
  EXPECT_EQ(refused, 4);
  EXPECT_EQ(other, 0) << "an accepted request was cut off";
}

TEST_F(ServingTest, ClientsThatDoNotGiveUpDoNotDelayADrain) {
  Start();
  std::atomic<bool> stop = false;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      while (!stop) Generate(Prompt("abc", 1));
    });
  }
  absl::SleepFor(absl::Milliseconds(100));
  const absl::Time start = absl::Now();
  EXPECT_EQ(server_->Drain(absl::ZeroDuration(), absl::Seconds(60)), 0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  stop = true;
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ServingTest, AttentionOfEqualKeysIsTheirMean) {
  Start();
  std::vector<v1::AttendResponse> responses;
  v1::AttendRequest request = Ones(3, 5, 4);
  request.mutable_tensors()->set_return_weights(true);
  ASSERT_TRUE(Attend(request, &responses).ok());
  ASSERT_GE(responses.size(), 4);
  EXPECT_THAT(responses.front().started().output_shape(), ElementsAre(3, 5, 4));
  EXPECT_TRUE(responses.back().has_finished());
  int64_t num_outputs = 0, num_weights = 0;
  for (const v1::AttendResponse& response : responses) {
    const auto check = [&](const v1::Tensor& tensor, float expected, int64_t& count) {
      for (size_t i = 0; i < tensor.data().size(); i += sizeof(float), ++count) {
        float value;
        std::memcpy(&value, tensor.data().data() + i, sizeof(value));
        EXPECT_NEAR(value, expected, 1e-6);
      }
    };
    check(response.block().output(), 1.0f, num_outputs);
    check(response.block().weights(), 0.2f, num_weights);
  }
  EXPECT_EQ(num_outputs, 3 * 5 * 4);
  EXPECT_EQ(num_weights, 3 * 5 * 5);
}

TEST_F(ServingTest, ModelsTokensAndTextAgree) {
  Start();
  v1::GetModelRequest get;
  get.set_model("gpt2");
  v1::GetModelResponse model;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(models_->GetModel(&context, get, &model).ok());
  }
  EXPECT_EQ(model.model().architecture(), "gpt2");
  EXPECT_EQ(model.model().vocab_size(), 97);
  v1::TokenizeRequest tokenize;
  tokenize.set_model("gpt2");
  tokenize.add_inputs()->set_text("abc");
  v1::TokenizeResponse tokens;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(models_->Tokenize(&context, tokenize, &tokens).ok());
  }
  v1::DetokenizeRequest detokenize;
  detokenize.set_model("gpt2");
  v1::TokenIds& ids = *detokenize.add_inputs();
  for (const v1::TextToken& token : tokens.inputs(0).tokens()) ids.add_ids(token.id());
  v1::DetokenizeResponse text;
  grpc::ClientContext context;
  ASSERT_TRUE(models_->Detokenize(&context, detokenize, &text).ok());
  EXPECT_THAT(text.texts(), ElementsAre("abc"));
}

TEST_F(ServingTest, MetricsAgreeWithWhatWasAsked) {
  Start();
  for (int i = 0; i < 3; ++i) Vector("ab");
  Encode(Texts({}));
  v1::EncodeRequest unknown = Texts({"a"});
  unknown.set_model("made-up");
  Encode(unknown);
  ASSERT_TRUE(Generate(Prompt("abc", 7)).ok());
  EXPECT_EQ(Metric("attendant_requests_total{code=\"OK\",model=\"bert\",rpc=\"Encode\"} "), 3);
  EXPECT_EQ(
      Metric("attendant_requests_total{code=\"INVALID_ARGUMENT\",model=\"bert\",rpc=\"Encode\"} "),
      1);
  EXPECT_EQ(Metric("attendant_requests_total{code=\"NOT_FOUND\",model=\"\",rpc=\"Encode\"} "), 1);
  EXPECT_EQ(Metric("attendant_output_tokens_total{model=\"gpt2\"} "), 7);
  EXPECT_EQ(Metric("attendant_time_to_first_token_seconds_count{model=\"gpt2\"} "), 1);
  EXPECT_EQ(Metric("attendant_inter_token_latency_seconds_count{model=\"gpt2\"} "), 6);
  EXPECT_GE(Metric("attendant_step_duration_seconds_count{phase=\"encode\"} "), 3);
  EXPECT_GT(Metric("attendant_memory_bytes{kind=\"weights\"} "), 0);
  EXPECT_GT(Metric("attendant_steps_total "), 0);
  EXPECT_THAT(HttpGet("/metrics"), ::testing::Not(HasSubstr("made-up")));
}

}  // namespace
}  // namespace attendant::server
