// The attention maps inside a loaded model, over real connections.

#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/server_program.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/memory.h"
#include "tests/support/random_bert.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using ::attendant::testing::kMemoryIsMeasured;
using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kAttendSteps[] = "attendant_step_duration_seconds_count{phase=\"attend\"}";

v1::AttendRequest MapsOf(const std::string& model, const std::string& text) {
  v1::AttendRequest request;
  request.mutable_model()->set_model(model);
  request.mutable_model()->set_text(text);
  return request;
}

std::vector<float> Floats(const v1::Tensor& tensor) {
  std::vector<float> values(tensor.data().size() / sizeof(float));
  std::memcpy(values.data(), tensor.data().data(), tensor.data().size());
  return values;
}

// Beside the tiny models, "wide": 12 layers, 12 heads, 512 positions.
class AttentionMapsTest : public ServingTest {
 protected:
  AttentionMapsTest()
      : folder_(std::filesystem::path(::testing::TempDir()) / absl::StrCat("bert_", getpid())) {}
  ~AttentionMapsTest() override { std::filesystem::remove_all(folder_); }

  void WriteWide() { testing::WriteBert({}, folder_); }

  void StartWithWide() {
    WriteWide();
    options_.models.push_back(
        {.name = "wide", .path = folder_.string(), .dtype = engine::DataType::kFloat32});
    options_.default_model = "bert";
    Start();
  }

  // 512 tokens of "wide".
  static v1::AttendRequest WideMaps() {
    v1::AttendRequest request;
    request.mutable_model()->set_model("wide");
    for (int i = 0; i < 512; ++i) {
      request.mutable_model()->mutable_tokens()->add_ids(5 + (i * i) % 90);
    }
    return request;
  }

  const std::filesystem::path folder_;
};

TEST_F(AttentionMapsTest, AreLabelledAndTheirRowsSumToOne) {
  Start();
  for (const std::string model : {"bert", "gpt2"}) {
    std::vector<v1::AttendResponse> responses;
    const grpc::Status status = Attend(MapsOf(model, "ab ba"), &responses);
    ASSERT_TRUE(status.ok()) << status.error_message();
    const v1::AttendStarted& started = responses.front().started();
    EXPECT_EQ(started.model(), model);
    EXPECT_FALSE(started.request_id().empty());
    const int num_tokens = started.query_tokens_size();
    if (model == "gpt2") {
      EXPECT_THAT(started.query_tokens(), ElementsAre("a", "b", " ", "b", "a"));
    } else {
      EXPECT_EQ(started.query_tokens(0), " [CLS]");
      EXPECT_EQ(started.query_tokens(num_tokens - 1), " [SEP]");
    }
    const int num_heads = model == "gpt2" ? 3 : 5;
    EXPECT_THAT(started.weights_shape(), ElementsAre(num_heads, num_tokens, num_tokens));
    EXPECT_EQ(started.key_tokens_size(), num_tokens);
    EXPECT_TRUE(responses.back().has_finished());
    EXPECT_EQ(responses.back().finished().usage().input_tokens(), num_tokens);

    std::map<int, int> rows_of_layer;
    for (const v1::AttendResponse& response : responses) {
      if (!response.has_block()) continue;
      const v1::AttendBlock& block = response.block();
      EXPECT_EQ(block.kind(), model == "gpt2" ? v1::ATTENTION_KIND_DECODER_SELF
                                              : v1::ATTENTION_KIND_ENCODER_SELF);
      const std::vector<float> weights = Floats(block.weights());
      for (size_t row = 0; row < weights.size(); row += num_tokens) {
        double sum = 0;
        for (int key = 0; key < num_tokens; ++key) sum += weights[row + key];
        EXPECT_NEAR(sum, 1, 1e-5);
        ++rows_of_layer[block.layer()];
      }
    }
    EXPECT_THAT(rows_of_layer, ElementsAre(std::pair(0, num_heads * num_tokens),
                                           std::pair(1, num_heads * num_tokens),
                                           std::pair(2, num_heads * num_tokens)));
  }
}

TEST_F(AttentionMapsTest, ReducedMapsSayWhatTheyAre) {
  Start();
  v1::AttendRequest request = MapsOf("bert", "ab ba");
  v1::ModelAttention& maps = *request.mutable_model();
  maps.add_layers(-1);
  maps.add_heads(1);
  maps.add_heads(3);
  maps.mutable_query_range()->set_begin(1);
  maps.mutable_query_range()->set_end(3);
  maps.set_reduction(v1::ATTENTION_REDUCTION_TOP_K);
  maps.set_top_k(2);
  std::vector<v1::AttendResponse> responses;
  ASSERT_TRUE(Attend(request, &responses).ok());
  EXPECT_THAT(responses[0].started().weights_shape(), ElementsAre(2, 2, 2));
  EXPECT_EQ(responses[0].started().query_tokens_size(), 2);
  ASSERT_EQ(responses.size(), 4) << "heads that are not neighbours come apart";
  for (int i = 1; i < 3; ++i) {
    const v1::AttendBlock& block = responses[i].block();
    EXPECT_EQ(block.layer(), 2);
    EXPECT_EQ(block.heads().begin(), i == 1 ? 1 : 3);
    EXPECT_EQ(block.queries().begin(), 1);
    EXPECT_EQ(block.queries().end(), 3);
    EXPECT_THAT(block.weights().shape(), ElementsAre(1, 2, 2));
    EXPECT_THAT(block.keys().shape(), ElementsAre(1, 2, 2));
    EXPECT_EQ(block.keys().dtype(), v1::DATA_TYPE_INT32);
  }

  maps.set_reduction(v1::ATTENTION_REDUCTION_ROLLOUT);
  maps.clear_layers();
  responses.clear();
  ASSERT_TRUE(Attend(request, &responses).ok());
  ASSERT_EQ(responses.size(), 3);
  EXPECT_EQ(responses[0].started().weights_shape_size(), 2);
  EXPECT_FALSE(responses[1].block().has_heads());
  EXPECT_EQ(responses[1].block().weights().shape(0), 2);
}

TEST_F(AttentionMapsTest, OfAnEncoderDecoderAreOfThreeKinds) {
  options_.models = {{.name = "bart",
                      .path = testing::TestDataPath("goldens/bart/plain"),
                      .dtype = engine::DataType::kFloat32}};
  Start();
  v1::AttendRequest request;
  v1::ModelAttention& maps = *request.mutable_model();
  for (const int id : {4, 9, 17, 33, 60, 2}) maps.mutable_tokens()->add_ids(id);
  EXPECT_THAT(Attend(request).error_message(), HasSubstr("ENCODER_SELF, DECODER_SELF and CROSS"));
  maps.set_kind(v1::ATTENTION_KIND_CROSS);
  EXPECT_THAT(Attend(request).error_message(), HasSubstr("one of target_text, target_tokens"));
  for (const int id : {2, 8, 40, 11, 95}) maps.mutable_target_tokens()->add_ids(id);
  maps.set_reduction(v1::ATTENTION_REDUCTION_MEAN_HEADS);
  maps.add_layers(-1);
  std::vector<v1::AttendResponse> responses;
  grpc::Status status = Attend(request, &responses);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(responses[0].started().weights_shape(), ElementsAre(5, 6));
  EXPECT_EQ(responses[1].block().kind(), v1::ATTENTION_KIND_CROSS);
  EXPECT_EQ(responses[1].block().layer(), 2);
  const std::vector<float> weights = Floats(responses[1].block().weights());
  ASSERT_EQ(weights.size(), 5 * 6);
  for (int query = 0; query < 5; ++query) {
    double sum = 0;
    for (int key = 0; key < 6; ++key) sum += weights[query * 6 + key];
    EXPECT_NEAR(sum, 1, 1e-5);
  }
  maps.set_reduction(v1::ATTENTION_REDUCTION_ROLLOUT);
  status = Attend(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "model.reduction");
  maps.clear_reduction();
  maps.mutable_target_tokens()->set_ids(3, 97);
  status = Attend(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "model.target_tokens.ids[3]");
  for (const auto& [kind, heads, queries, keys] :
       {std::tuple(v1::ATTENTION_KIND_ENCODER_SELF, 4, 6, 6),
        std::tuple(v1::ATTENTION_KIND_DECODER_SELF, 6, 5, 5)}) {
    maps.mutable_target_tokens()->set_ids(3, 11);
    maps.set_kind(kind);
    responses.clear();
    ASSERT_TRUE(Attend(request, &responses).ok());
    EXPECT_THAT(responses[0].started().weights_shape(), ElementsAre(heads, queries, keys));
  }
}

// The alignment of each token that is generated is the row of the cross maps from which it was
// read.
TEST_F(AttentionMapsTest, OfAGenerationAreThoseOfItsTokens) {
  options_.models.push_back({.name = "bart",
                             .path = testing::TestDataPath("goldens/bart/plain"),
                             .dtype = engine::DataType::kFloat32});
  Start();
  constexpr int kTokens = 7;
  for (const int num_beams : {1, 3}) {
    v1::GenerateRequest generate = Prompt("", kTokens);
    generate.set_model("bart");
    for (const int id : {4, 9, 17, 33, 60, 2}) generate.mutable_tokens()->add_ids(id);
    generate.mutable_output()->set_cross_attention(true);
    if (num_beams > 1) generate.mutable_beam_search()->set_num_beams(num_beams);
    grpc::ClientContext context;
    auto stream = inference_->Generate(&context, generate);
    v1::GenerateResponse response;
    std::vector<int32_t> ids;
    std::vector<float> alignment;
    while (stream->Read(&response)) {
      const v1::GenerateChunk& chunk = response.chunk();
      if (chunk.tokens().empty()) continue;
      for (const v1::Token& token : chunk.tokens()) ids.push_back(token.id());
      EXPECT_THAT(chunk.cross_attention().shape(), ElementsAre(chunk.tokens_size(), 6));
      const std::vector<float> rows = Floats(chunk.cross_attention());
      alignment.insert(alignment.end(), rows.begin(), rows.end());
    }
    const grpc::Status status = stream->Finish();
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_FALSE(ids.empty());
    ASSERT_EQ(alignment.size(), ids.size() * 6);

    v1::AttendRequest request;
    v1::ModelAttention& maps = *request.mutable_model();
    maps.set_model("bart");
    *maps.mutable_tokens() = generate.tokens();
    maps.mutable_target_tokens()->add_ids(2);
    for (size_t i = 0; i + 1 < ids.size(); ++i) maps.mutable_target_tokens()->add_ids(ids[i]);
    maps.set_kind(v1::ATTENTION_KIND_CROSS);
    maps.set_reduction(v1::ATTENTION_REDUCTION_MEAN_HEADS);
    maps.add_layers(-1);
    std::vector<v1::AttendResponse> responses;
    ASSERT_TRUE(Attend(request, &responses).ok());
    std::vector<float> weights;
    for (const v1::AttendResponse& part : responses) {
      const std::vector<float> rows = Floats(part.block().weights());
      weights.insert(weights.end(), rows.begin(), rows.end());
    }
    ASSERT_EQ(weights.size(), alignment.size());
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(alignment[i], weights[i], 1e-5);
  }

  v1::GenerateRequest generate = Prompt("ab", 2);
  generate.set_model("gpt2");
  generate.mutable_output()->set_cross_attention(true);
  const grpc::Status refused = Generate(generate);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("is a decoder, which has no source"));
}

TEST_F(AttentionMapsTest, OfAnImageHaveItsPatchesOnTheirAxes) {
  options_.models = {{.name = "vit",
                      .path = testing::TestDataPath("goldens/vit/classifier"),
                      .dtype = engine::DataType::kFloat32}};
  Start();
  v1::AttendRequest request;
  request.mutable_model()->set_image(
      testing::ReadFileOrDie(testing::TestDataPath("goldens/images/files/rgb_8.png")));
  request.mutable_model()->set_reduction(v1::ATTENTION_REDUCTION_ROLLOUT);
  std::vector<v1::AttendResponse> responses;
  const grpc::Status status = Attend(request, &responses);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::AttendStarted& started = responses[0].started();
  EXPECT_EQ(started.patch_grid().rows(), 3);
  EXPECT_EQ(started.patch_grid().columns(), 3);
  EXPECT_EQ(started.patch_grid().num_prefix_tokens(), 1);
  EXPECT_TRUE(started.query_tokens().empty());
  EXPECT_THAT(started.weights_shape(), ElementsAre(10, 10));
  EXPECT_EQ(Floats(responses[1].block().weights()).size(), 100);

  request.mutable_model()->set_image("not an image");
  EXPECT_EQ(Attend(request).error_code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_model()->set_text("ab");
  EXPECT_EQ(Attend(request).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(AttentionMapsTest, BadRequestsAreRefusedByFieldValueAndLimit) {
  options_.engine.max_map_bytes = 2000;
  Start();
  struct Case {
    std::string field, message;
    std::function<void(v1::ModelAttention&)> spoil;
    StatusCode code = StatusCode::INVALID_ARGUMENT;
  };
  const auto range = [](v1::IndexRange* range, int begin, int end) {
    range->set_begin(begin);
    range->set_end(end);
  };
  for (const Case& c : std::vector<Case>{
           {"model", "is not set", [](auto& m) { m.clear_input(); }},
           {"model", "the text is empty", [](auto& m) { m.set_text(""); }},
           {"model.text", "not UTF-8", [](auto& m) { m.set_text("\xff"); }},
           {"model.tokens.ids", "is empty", [](auto& m) { m.mutable_tokens(); }},
           {"model.tokens.ids[0]", "is 97", [](auto& m) { m.mutable_tokens()->add_ids(97); }},
           {"model", "takes 70",
            [](auto& m) {
              for (int i = 0; i < 71; ++i) m.mutable_tokens()->add_ids(7);
            }},
           {"model.layers", "holds 3; this model has 0 to 2", [](auto& m) { m.add_layers(3); }},
           {"model.layers", "holds -2", [](auto& m) { m.add_layers(-2); }},
           {"model.layers", "holds 2 twice",
            [](auto& m) {
              m.add_layers(2);
              m.add_layers(-1);
            }},
           {"model.heads", "holds 5; this model has 0 to 4", [](auto& m) { m.add_heads(5); }},
           {"model.heads", "holds -1", [](auto& m) { m.add_heads(-1); }},
           {"model.query_range", "is [0, 1000)",
            [&](auto& m) { range(m.mutable_query_range(), 0, 1000); }},
           {"model.query_range", "is [2, 2)",
            [&](auto& m) { range(m.mutable_query_range(), 2, 2); }},
           {"model.key_range", "is [-1, 2)", [&](auto& m) { range(m.mutable_key_range(), -1, 2); }},
           {"model.kind", "is 9", [](auto& m) { m.set_kind(static_cast<v1::AttentionKind>(9)); }},
           {"model.reduction", "is 77",
            [](auto& m) { m.set_reduction(static_cast<v1::AttentionReduction>(77)); }},
           {"model.top_k", "is 0; must be at least 1", [](auto& m) { m.set_top_k(0); }},
           {"model.truncation.max_tokens", "is 71",
            [](auto& m) { m.mutable_truncation()->set_max_tokens(71); }},
           {"model.target", "is set", [](auto& m) { m.set_target_text("b"); }},
           {"model", "allows 2000 (--max_map_bytes)",
            [](auto& m) { m.set_text("ab ba ab ba ab ba ab ba"); }},
           {"", "its maps are of kind ENCODER_SELF",
            [](auto& m) { m.set_kind(v1::ATTENTION_KIND_CROSS); }, StatusCode::FAILED_PRECONDITION},
           {"", "loaded: bert, gpt2", [](auto& m) { m.set_model("nobody"); },
            StatusCode::NOT_FOUND},
           {"model.model", "several could be meant", [](auto& m) { m.clear_model(); }}}) {
    v1::AttendRequest request = MapsOf("bert", "ab");
    c.spoil(*request.mutable_model());
    std::vector<v1::AttendResponse> responses;
    const grpc::Status status = Attend(request, &responses);
    EXPECT_EQ(status.error_code(), c.code) << status.error_message();
    EXPECT_EQ(FieldOf(status), c.field) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(c.message));
    EXPECT_TRUE(responses.empty());
  }
  EXPECT_TRUE(Attend(MapsOf("bert", "ab")).ok());
}

// 151 MB of maps, to a client that sets no limits, in the memory of two layers of them. The server
// is a process of its own: what a gRPC client holds of a stream is not the server's.
TEST_F(AttentionMapsTest, TwelveLayersOfTwelveHeadsAreStreamedInTheMemoryOfTwoLayers) {
  WriteWide();
  ServerProgram program({"--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
                         absl::StrCat("--model=wide=", folder_.string(), ",dtype=f32")});
  const int port = program.Port("grpc");
  ASSERT_GT(port, 0) << program.Output();
  auto inference = v1::InferenceService::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));

  // What the first call of any kind allocates for good is not of these maps.
  v1::AttendRequest small = WideMaps();
  small.mutable_model()->mutable_query_range()->set_end(16);
  v1::AttendResponse response;
  {
    grpc::ClientContext context;
    auto stream = inference->Attend(&context, small);
    while (stream->Read(&response)) {
    }
    ASSERT_TRUE(stream->Finish().ok()) << program.Output();
  }

  constexpr int64_t kLayerBytes = int64_t{12} * 512 * 512 * 4;
  program.ResetPeakBytes();
  const int64_t before = program.ResidentBytes();
  ASSERT_GT(before, 0);
  ASSERT_LE(program.PeakBytes(), before + (int64_t{1} << 20)) << "the peak was not reset";
  int64_t num_values = 0, largest = 0;
  grpc::ClientContext context;
  auto stream = inference->Attend(&context, WideMaps());
  while (stream->Read(&response)) {
    largest = std::max<int64_t>(largest, response.ByteSizeLong());
    const std::vector<float> weights = Floats(response.block().weights());
    num_values += static_cast<int64_t>(weights.size());
    for (size_t row = 0; row < weights.size(); row += 512) {
      double sum = 0;
      for (int key = 0; key < 512; ++key) sum += weights[row + key];
      ASSERT_NEAR(sum, 1, 1e-5);
    }
  }
  const grpc::Status status = stream->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(num_values, int64_t{12} * 12 * 512 * 512);
  EXPECT_LE(largest, int64_t{1} << 20);
  if (kMemoryIsMeasured) {
    EXPECT_LE(program.PeakBytes() - before, 2 * kLayerBytes);
  }
}

TEST_F(AttentionMapsTest, ASlowReaderHoldsBackItsOwnMaps) {
  StartWithWide();
  grpc::ClientContext context;
  auto stream = inference_->Attend(&context, WideMaps());
  v1::AttendResponse response;
  ASSERT_TRUE(stream->Read(&response));
  // What was computed stands still once the blocks that may wait do, and what gRPC has on its way.
  double steps = 0;
  for (int still = 0; still < 10;) {
    absl::SleepFor(absl::Milliseconds(50));
    const double now = Metric(kAttendSteps);
    still = now == steps ? still + 1 : 0;
    steps = now;
  }
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 100) << "of some three hundred";
  EXPECT_EQ(Vector("ab").size(), 40) << "others wait for the reader";
  int64_t num_blocks = 0;
  while (stream->Read(&response)) num_blocks += response.has_block();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_GE(num_blocks, 144);
}

TEST_F(AttentionMapsTest, ACancelledStreamStops) {
  StartWithWide();
  grpc::ClientContext context;
  auto stream = inference_->Attend(&context, WideMaps());
  v1::AttendResponse response;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream->Read(&response));
  context.TryCancel();
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (Metric("attendant_requests_total{code=\"CANCELLED\",model=\"wide\",rpc=\"Attend\"}") < 1 &&
         absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  const double steps = Metric(kAttendSteps);
  EXPECT_LT(steps, 150) << "of some three hundred";
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(Metric(kAttendSteps), steps);
  EXPECT_EQ(Vector("ab").size(), 40);
}

}  // namespace
}  // namespace attendant::server
