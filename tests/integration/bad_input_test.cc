// Hostile requests over the wire. Each gets its own clear error, and the server answers the next as
// before.

#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using grpc::StatusCode;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class BadInputTest : public ServingTest {
 protected:
  void Expect(const grpc::Status& status, StatusCode code, const std::string& field,
              const std::string& message) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(message));
    EXPECT_EQ(Vector("ab").size(), 40) << "the server does not go on";
  }
};

TEST_F(BadInputTest, OfEncode) {
  Start();
  Expect(Encode({}), StatusCode::INVALID_ARGUMENT, "inputs", "is empty");
  Expect(Encode(Texts({""})), StatusCode::INVALID_ARGUMENT, "inputs", "empty");
  Expect(Encode(Texts({"\xff"})), StatusCode::INVALID_ARGUMENT, "inputs[0].text", "not UTF-8");
  std::string ten_megabytes;
  while (ten_megabytes.size() < 10'000'000) ten_megabytes += "a b c d ";
  Expect(Encode(Texts({ten_megabytes})), StatusCode::INVALID_ARGUMENT, "inputs",
         "the model takes 70");
  v1::EncodeRequest ids;
  ids.add_inputs()->mutable_tokens()->add_ids(97);
  Expect(Encode(ids), StatusCode::INVALID_ARGUMENT, "inputs[0].tokens.ids[0]",
         "is 97; the vocabulary has ids from 0 to 96");
  v1::EncodeRequest unknown = Texts({"a"});
  unknown.set_model(std::string(100'000, 'm'));
  Expect(Encode(unknown), StatusCode::NOT_FOUND, "", "loaded: bert, gpt2");
  v1::EncodeRequest unable = Texts({"a"});
  unable.set_model("gpt2");
  Expect(Encode(unable), StatusCode::FAILED_PRECONDITION, "", "cannot encode");
}

TEST_F(BadInputTest, OfGenerate) {
  Start();
  v1::GenerateRequest request = Prompt("ab", 4);
  request.mutable_sampling()->set_temperature(kNan);
  Expect(Generate(request), StatusCode::INVALID_ARGUMENT, "sampling.temperature", "is nan");
  request = Prompt("ab", 4);
  request.mutable_sampling()->set_top_p(std::numeric_limits<float>::infinity());
  Expect(Generate(request), StatusCode::INVALID_ARGUMENT, "sampling.top_p", "is inf");
  request = Prompt("ab", 4);
  request.mutable_tokens()->add_ids(-5);
  Expect(Generate(request), StatusCode::INVALID_ARGUMENT, "tokens.ids[0]", "is -5");
  Expect(Generate(Prompt("ab\xc3", 4)), StatusCode::INVALID_ARGUMENT, "text", "not UTF-8");
  Expect(Generate(Prompt(std::string(10'000'000, 'a'), 4)), StatusCode::INVALID_ARGUMENT, "text",
         "tokens");
  Expect(Generate(Prompt("ab", 1'000'000)), StatusCode::INVALID_ARGUMENT, "stopping.max_new_tokens",
         "--max_new_tokens");
  request = Prompt("ab", 4);
  request.set_model("bert");
  Expect(Generate(request), StatusCode::FAILED_PRECONDITION, "", "cannot generate");
}

TEST_F(BadInputTest, OfAttend) {
  Start();
  v1::AttendRequest request = Ones(3, 2, 4);
  request.mutable_tensors()->mutable_key()->mutable_data()->pop_back();
  Expect(Attend(request), StatusCode::INVALID_ARGUMENT, "tensors.key.data", "has 95 bytes");
  request = Ones(3, 2, 4);
  *request.mutable_tensors()->mutable_key() = Ones(2, 2, 4).tensors().key();
  *request.mutable_tensors()->mutable_value() = Ones(2, 2, 4).tensors().value();
  Expect(Attend(request), StatusCode::INVALID_ARGUMENT, "tensors.key", "heads");
  request = Ones(3, 2, 4);
  request.mutable_tensors()->set_scale(kNan);
  Expect(Attend(request), StatusCode::INVALID_ARGUMENT, "tensors.scale", "nan");
}

TEST_F(BadInputTest, AMessageAboveTheLimitIsRefused) {
  options_.max_request_bytes = 1 << 20;
  Start();
  EXPECT_EQ(Encode(Texts({std::string(2 << 20, 'a')})).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Vector("ab").size(), 40);
}

TEST_F(BadInputTest, ACompressedMessageCannotUnfoldBeyondTheLimit) {
  options_.max_request_bytes = 1 << 20;
  Start();
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::EncodeResponse response;
  const grpc::Status status =
      inference_->Encode(&context, Texts({std::string(64 << 20, 'a')}), &response);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(Vector("ab").size(), 40);
}

TEST_F(BadInputTest, RandomBytesToEveryMethodNeverStopTheServer) {
  Start();
  // Good messages, to be damaged: they reach further than noise does.
  v1::EncodeStreamRequest streamed;
  *streamed.mutable_request() = Texts({"abc", "de"});
  v1::TokenizeRequest tokenize;
  tokenize.add_inputs()->set_text("abc");
  v1::DetokenizeRequest detokenize;
  detokenize.add_inputs()->add_ids(5);
  const std::vector<std::pair<std::string, std::string>> methods = {
      {"InferenceService/Encode", Texts({"abc", "de"}).SerializeAsString()},
      {"InferenceService/EncodeStream", streamed.SerializeAsString()},
      {"InferenceService/Generate", Prompt("abc", 3).SerializeAsString()},
      {"InferenceService/Attend", Ones(2, 3, 4).SerializeAsString()},
      {"InferenceService/Rank", ""},
      {"ModelService/ListModels", ""},
      {"ModelService/GetModel", ""},
      {"ModelService/Tokenize", tokenize.SerializeAsString()},
      {"ModelService/Detokenize", detokenize.SerializeAsString()},
  };
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    for (const auto& [method, good] : methods) {
      std::string bytes = good;
      if (bytes.empty() || round % 4 == 0) {
        bytes.resize(random() % 40);
        for (char& byte : bytes) byte = static_cast<char>(random());
      } else {
        for (unsigned i = 0; i < 1 + random() % 3; ++i)
          bytes[random() % bytes.size()] = static_cast<char>(random());
        if (random() % 3 == 0) bytes.resize(random() % bytes.size());
      }
      const grpc::Status status = CallRaw(absl::StrCat("/attendant.v1.", method), bytes);
      EXPECT_THAT(status.error_code(),
                  AnyOf(StatusCode::OK, StatusCode::INVALID_ARGUMENT, StatusCode::NOT_FOUND,
                        StatusCode::FAILED_PRECONDITION, StatusCode::UNIMPLEMENTED))
          << method << ": " << status.error_message();
    }
  }
  EXPECT_EQ(Vector("ab").size(), 40);
  EXPECT_EQ(Health(), grpc::health::v1::HealthCheckResponse::SERVING);
}

}  // namespace
}  // namespace attendant::server
