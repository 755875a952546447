#include "client/client.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "client/attention_blocks.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ClientTest : public ::testing::Test {
 protected:
  static Client ConnectTo(const std::string& address, ClientOptions options = {}) {
    return *Client::Connect(address, options);
  }

  FakeServer server_;
  Client client_ = ConnectTo(server_.address());
};

v1::GenerateRequest Prompt(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

TEST_F(ClientTest, EncodesTextsIntoRows) {
  ASSERT_OK_AND_ASSIGN(const FloatTensor vectors, client_.Encode({"hello", "sky"}));
  EXPECT_THAT(vectors.shape, ElementsAre(2, 3));
  EXPECT_THAT(vectors.Row(0), ElementsAre(5, 2, 1));
  EXPECT_THAT(vectors.Row(1), ElementsAre(3, 0, 1));
}

TEST_F(ClientTest, NamesTheTextThatFailed) {
  EXPECT_THAT(client_.Encode({"good", "bad"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text 1: is a bad word")));
}

TEST_F(ClientTest, TakesAMessageLargerThanTheDefaultOfGrpc) {
  const int64_t count = 3 << 20;  // 12 MiB
  v1::AttendRequest request;
  *request.mutable_layer()->mutable_query() =
      ToMessage({{1, count}, std::vector<float>(count, 1.5f)});
  ASSERT_OK_AND_ASSIGN(const Attention attention, client_.Attend(request));
  EXPECT_THAT(attention.output.shape, ElementsAre(1, count));
  EXPECT_EQ(attention.output.values.back(), 3.0f);
}

TEST_F(ClientTest, RefusesAMessageLargerThanItsLimit) {
  const Client small = ConnectTo(server_.address(), {.max_receive_bytes = 1 << 10});
  EXPECT_THAT(small.Encode(std::vector<std::string>(1000, "text")),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ClientTest, StreamsWhatIsGenerated) {
  std::vector<std::string> texts;
  std::string id;
  int64_t output_tokens = 0;
  const absl::Status status =
      client_.Generate(Prompt("to be or"), [&](const v1::GenerateResponse& response) {
        if (response.has_started()) id = response.started().request_id();
        if (response.has_chunk()) texts.push_back(response.chunk().text());
        if (response.has_finished()) output_tokens = response.finished().usage().output_tokens();
        return true;
      });
  EXPECT_OK(status);
  EXPECT_EQ(id, "fake-1");
  EXPECT_THAT(texts, ElementsAre("to ", "be ", "or "));
  EXPECT_EQ(output_tokens, 3);
  EXPECT_THAT(*client_.Generate("not to be"), Eq("not to be "));
}

TEST_F(ClientTest, KeepsWhatCameBeforeAnError) {
  std::string text;
  const absl::Status status =
      client_.Generate(Prompt("please break now"), [&](const v1::GenerateResponse& response) {
        text += response.chunk().text();
        return true;
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, HasSubstr("lost the thread")));
  EXPECT_EQ(text, "please break ");
}

TEST_F(ClientTest, CancelsTheCallWhenTheCallbackSaysSo) {
  const absl::Status status = client_.Generate(
      Prompt("hang"), [](const v1::GenerateResponse& response) { return !response.has_chunk(); });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  while (!server_.saw_cancellation()) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ClientTest, EndsACallAtItsDeadline) {
  const Client hasty = ConnectTo(server_.address(), {.deadline = absl::Milliseconds(100)});
  EXPECT_THAT(hasty.Generate("hang"), StatusIs(absl::StatusCode::kDeadlineExceeded));
  while (!server_.saw_cancellation()) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ClientTest, PutsBlocksInTheirPlace) {
  FloatTensor query{{2, 3, 4, 5}, {}};
  for (int i = 0; i < 2 * 3 * 4 * 5; ++i) query.values.push_back(i);
  v1::AttendRequest request;
  *request.mutable_tensors()->mutable_query() = ToMessage(query);
  ASSERT_OK_AND_ASSIGN(const Attention attention, client_.Attend(request));
  EXPECT_EQ(attention.output.shape, query.shape);
  EXPECT_EQ(attention.output.values, query.values);
  EXPECT_THAT(attention.weights.values, IsEmpty());
}

TEST_F(ClientTest, PutsTheMapsOfAModelTogether) {
  v1::AttendRequest request;
  v1::ModelAttention& model = *request.mutable_model();
  model.set_text("one two three");
  model.set_target_text("eins zwei");
  model.set_kind(v1::ATTENTION_KIND_CROSS);
  ASSERT_OK_AND_ASSIGN(const Attention attention, client_.Attend(request));
  EXPECT_THAT(attention.started.key_tokens(), ElementsAre("one", "two", "three"));
  ASSERT_THAT(attention.maps, SizeIs(3));
  for (int layer = 0; layer < 3; ++layer) {
    const AttentionMap& map = attention.maps[layer];
    EXPECT_EQ(map.layer, layer);
    EXPECT_EQ(map.kind, v1::ATTENTION_KIND_CROSS);
    EXPECT_THAT(map.heads, ElementsAre(0, 1));
    EXPECT_THAT(map.weights.shape, ElementsAre(2, 2, 3));
    for (int row = 0; row < 4; ++row) {
      const auto weights = absl::MakeConstSpan(map.weights.values).subspan(3 * row, 3);
      EXPECT_NEAR(weights[0] + weights[1] + weights[2], 1, 1e-6);
    }
    // Head 0 of query 1, and then head 1 of query 1, which looks one key back.
    const float ratio = std::exp(1.0f / (layer + 1));
    EXPECT_NEAR(map.weights.values[4] / map.weights.values[3], ratio, 1e-5);
    EXPECT_NEAR(map.weights.values[9] / map.weights.values[10], ratio, 1e-5);
  }
}

TEST_F(ClientTest, PutsAChoiceOfLayersAndHeadsTogether) {
  v1::AttendRequest request;
  v1::ModelAttention& model = *request.mutable_model();
  model.set_text("one two");
  model.add_layers(-1);
  for (const int head : {5, 3}) model.add_heads(head);
  ASSERT_OK_AND_ASSIGN(const Attention attention, client_.Attend(request));
  ASSERT_THAT(attention.maps, SizeIs(1));
  EXPECT_EQ(attention.maps[0].layer, 2);
  EXPECT_THAT(attention.maps[0].heads, ElementsAre(3, 5));
  EXPECT_THAT(attention.maps[0].weights.shape, ElementsAre(2, 2, 2));
}

TEST_F(ClientTest, PutsReducedMapsTogether) {
  v1::AttendRequest request;
  v1::ModelAttention& model = *request.mutable_model();
  model.set_text("one two three");
  model.set_reduction(v1::ATTENTION_REDUCTION_MEAN_HEADS);
  ASSERT_OK_AND_ASSIGN(const Attention mean, client_.Attend(request));
  EXPECT_THAT(mean.maps[0].heads, IsEmpty());
  EXPECT_THAT(mean.maps[0].weights.shape, ElementsAre(3, 3));

  model.set_reduction(v1::ATTENTION_REDUCTION_TOP_K);
  model.set_top_k(2);
  ASSERT_OK_AND_ASSIGN(const Attention top, client_.Attend(request));
  EXPECT_THAT(top.maps[0].weights.shape, ElementsAre(2, 3, 2));
  EXPECT_THAT(absl::MakeConstSpan(top.maps[0].keys).subspan(0, 4), ElementsAre(2, 1, 2, 1));
  EXPECT_LT(top.maps[0].weights.values[0], top.maps[0].weights.values[1]);
}

TEST_F(ClientTest, CallsTheHeads) {
  v1::FillMaskRequest fill;
  fill.add_inputs()->set_text("a [MASK]");
  EXPECT_EQ(client_.FillMask(fill)->inputs(0).masks(0).candidates_size(), 5);
  v1::AnswerRequest answer;
  answer.add_inputs()->set_context("here it is");
  EXPECT_EQ(client_.Answer(answer)->inputs(0).answers(0).text(), "here");
  v1::ClassifyRequest classify;
  classify.add_inputs()->set_image("pixels");
  EXPECT_EQ(client_.Classify(classify)->inputs(0).labels(0).label(), "images");
  v1::RankRequest rank;
  for (const char* document : {"longer", "long"}) rank.add_documents(document);
  EXPECT_EQ(client_.Rank(rank)->documents(0).index(), 1);
}

TEST_F(ClientTest, SaysWhatTheServerHasLoaded) {
  ASSERT_OK_AND_ASSIGN(const v1::ListModelsResponse list, client_.ListModels());
  EXPECT_THAT(list.models(), SizeIs(2));
  EXPECT_EQ(client_.GetModel("words")->architecture(), "llama");
  EXPECT_THAT(client_.GetModel("nothing"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ClientTest, TokenizesAndBack) {
  v1::TokenizeRequest request;
  request.add_inputs()->set_text("hi");
  ASSERT_OK_AND_ASSIGN(const v1::TokenizeResponse tokens, client_.Tokenize(request));
  ASSERT_THAT(tokens.inputs(), SizeIs(1));
  v1::DetokenizeRequest back;
  for (const v1::TextToken& token : tokens.inputs(0).tokens()) {
    if (back.inputs().empty()) back.add_inputs();
    back.mutable_inputs(0)->add_ids(token.id());
  }
  EXPECT_EQ(client_.Detokenize(back)->texts(0), "hi");
}

TEST_F(ClientTest, TellsHealthApart) {
  EXPECT_OK(client_.Health());
  EXPECT_THAT(client_.Health("draining"),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("NOT_SERVING")));
  EXPECT_THAT(client_.Health("nothing"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ClientTest, DecodesTheDetailsOfErrors) {
  const absl::Status bad = client_.Encode(v1::EncodeRequest()).status();
  EXPECT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument, "nothing to encode"));
  EXPECT_THAT(DetailLines(bad), ElementsAre("inputs: has 0 of 1 to 4096"));
  EXPECT_EQ(Describe(bad), "INVALID_ARGUMENT: nothing to encode\n  inputs: has 0 of 1 to 4096");

  const absl::Status missing = client_.Encode({"text"}, "none").status();
  EXPECT_THAT(DetailLines(missing), ElementsAre("model 'none': loaded: letters, words"));

  const absl::Status busy = client_.Generate("overloaded").status();
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(RetryDelay(busy), absl::Milliseconds(1500));
  EXPECT_THAT(DetailLines(busy), ElementsAre("try again in 1.5s"));
  EXPECT_EQ(RetryDelay(bad), std::nullopt);
}

TEST(StatusTest, DescribesOnlyWhatTheMessageDoesNotSay) {
  google::rpc::Status details;
  details.set_code(3);
  google::rpc::BadRequest bad;
  bad.add_field_violations()->set_field("sampling.top_p");
  bad.mutable_field_violations(0)->set_description("is 0; must be in (0, 1]");
  details.add_details()->PackFrom(bad);
  google::rpc::ErrorInfo error;
  error.set_reason("INVALID_FIELD");
  details.add_details()->PackFrom(error);
  const auto describe = [&](const std::string& message) {
    return Describe(FromGrpcStatus(
        grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, message, details.SerializeAsString())));
  };
  EXPECT_EQ(describe("sampling.top_p is 0; must be in (0, 1]"),
            "INVALID_ARGUMENT: sampling.top_p is 0; must be in (0, 1]");
  EXPECT_EQ(describe("bad request"),
            "INVALID_ARGUMENT: bad request\n  sampling.top_p: is 0; must be in (0, 1]");

  (*error.mutable_metadata())["limit"] = "64";
  details.mutable_details(1)->PackFrom(error);
  EXPECT_THAT(describe("bad request"), ::testing::EndsWith("\n  INVALID_FIELD: limit = 64"));
}

TEST(StatusTest, TakesDetailsThatDoNotParse) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::INTERNAL, "message", "\xff\xff"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, "message"));
  EXPECT_THAT(DetailLines(status), IsEmpty());
}

TEST(ConnectTest, FailsAtTheFirstCallWhereNobodyListens) {
  const Client client = *Client::Connect("127.0.0.1:1");
  EXPECT_THAT(client.Health(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(ConnectTest, RefusesOptionsThatCannotBe) {
  EXPECT_THAT(
      Client::Connect("localhost:1", {.tls = TlsOptions{.root_certificates_file = "/no/such.pem"}})
          .status(),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such.pem")));
  EXPECT_THAT(
      Client::Connect("localhost:1", {.tls = TlsOptions{.certificate_file = "mine.pem"}}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Client::Connect("localhost:1", {.bearer_token = "secret"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("TLS")));
}

// Blocks that a broken server could send.
class AttentionBlocksTest : public ::testing::Test {
 protected:
  AttentionBlocksTest() {
    v1::AttendResponse started;
    for (const int size : {2, 3, 4}) started.mutable_started()->add_output_shape(size);
    EXPECT_OK(blocks_.Add(started));
  }

  // Heads [0, 1), rows [begin, end).
  static v1::AttendResponse Block(int begin, int end, FloatTensor tensor) {
    v1::AttendResponse response;
    v1::AttendBlock& block = *response.mutable_block();
    block.mutable_heads()->set_end(1);
    block.mutable_queries()->set_begin(begin);
    block.mutable_queries()->set_end(end);
    *block.mutable_output() = ToMessage(tensor);
    return response;
  }

  AttentionBlocks blocks_{v1::AttendRequest()};
};

TEST_F(AttentionBlocksTest, RefusesABlockThatDoesNotFit) {
  const std::vector<std::pair<v1::AttendResponse, std::string>> cases = {
      {Block(2, 4, {{1, 2, 4}, std::vector<float>(8)}), "ranges"},
      {Block(-1, 1, {{1, 2, 4}, std::vector<float>(8)}), "ranges"},
      {Block(1, 1, {{1, 0, 4}, {}}), "ranges"},
      {Block(0, 2, {{1, 2, 3}, std::vector<float>(6)}), "size"},
      {Block(0, 2, {{2, 4}, std::vector<float>(8)}), "axes"},
      {Block(0, 2, {{1, 2, 4}, std::vector<float>(7)}), "bytes"},
  };
  for (const auto& [response, reason] : cases) {
    EXPECT_THAT(blocks_.Add(response), StatusIs(absl::StatusCode::kInternal, HasSubstr(reason)));
  }
}

TEST_F(AttentionBlocksTest, MissesWhatNeverCame) {
  EXPECT_OK(blocks_.Add(Block(0, 2, {{1, 2, 4}, std::vector<float>(8)})));
  v1::AttendResponse finished;
  finished.mutable_finished();
  EXPECT_OK(blocks_.Add(finished));
  EXPECT_THAT(std::move(blocks_).Finish(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("24 values of output")));
}

TEST_F(AttentionBlocksTest, MissesTheEnd) {
  EXPECT_THAT(std::move(blocks_).Finish(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("ended early")));
}

TEST(AttentionBlocksStartTest, RefusesAShapeThatCannotBe) {
  for (const int64_t size : {int64_t{-1}, int64_t{1} << 40}) {
    AttentionBlocks blocks{v1::AttendRequest()};
    v1::AttendResponse started;
    for (int axis = 0; axis < 3; ++axis) started.mutable_started()->add_output_shape(size);
    EXPECT_THAT(blocks.Add(started), StatusIs(absl::StatusCode::kInternal));
  }
}

TEST(ModelBlocksTest, RefusesABlockThatDoesNotFit) {
  v1::AttendRequest request;
  for (const int head : {2, 4}) request.mutable_model()->add_heads(head);
  request.mutable_model()->mutable_query_range()->set_begin(10);
  AttentionBlocks blocks(request);
  v1::AttendResponse started;
  for (const int size : {2, 3, 4}) started.mutable_started()->add_weights_shape(size);
  EXPECT_OK(blocks.Add(started));
  // Heads [head, head + num_heads), row `query`.
  const auto block = [](int head, int num_heads, int query, int columns) {
    v1::AttendResponse response;
    v1::AttendBlock& block = *response.mutable_block();
    block.mutable_heads()->set_begin(head);
    block.mutable_heads()->set_end(head + num_heads);
    block.mutable_queries()->set_begin(query);
    block.mutable_queries()->set_end(query + 1);
    *block.mutable_weights() =
        ToMessage({{num_heads, 1, columns}, std::vector<float>(num_heads * columns)});
    return response;
  };
  const std::vector<std::pair<v1::AttendResponse, std::string>> cases = {
      {block(1, 1, 10, 4), "heads"}, {block(2, 2, 10, 4), "heads"}, {block(5, 1, 10, 4), "heads"},
      {block(2, 1, 9, 4), "rows"},   {block(2, 1, 13, 4), "rows"},  {block(2, 1, 10, 5), "size"},
  };
  for (const auto& [response, reason] : cases) {
    EXPECT_THAT(blocks.Add(response), StatusIs(absl::StatusCode::kInternal, HasSubstr(reason)));
  }
  EXPECT_OK(blocks.Add(block(4, 1, 12, 4)));
  v1::AttendResponse finished;
  finished.mutable_finished();
  EXPECT_OK(blocks.Add(finished));
  EXPECT_THAT(std::move(blocks).Finish(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("24 weights of layer 0 and sent 4")));
}

v1::Tensor MakeTensor(v1::DataType dtype, std::vector<int64_t> shape, const std::string& data) {
  v1::Tensor message;
  message.set_dtype(dtype);
  message.mutable_shape()->Add(shape.begin(), shape.end());
  message.set_data(data);
  return message;
}

TEST(TensorTest, WidensEveryType) {
  using S = std::string;
  const auto values = [](const v1::Tensor& message) { return FromMessage(message)->values; };
  EXPECT_THAT(values(ToMessage({{2}, {1.5f, -2}})), ElementsAre(1.5f, -2));
  // 1, -2, the smallest subnormal, the largest value
  EXPECT_THAT(
      values(MakeTensor(v1::DATA_TYPE_FLOAT16, {4}, S("\x00\x3c\x00\xc0\x01\x00\xff\x7b", 8))),
      ElementsAre(1, -2, 5.9604645e-8f, 65504));
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_FLOAT16, {1}, S("\x00\xfc", 2))),
              ElementsAre(-INFINITY));
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_BFLOAT16, {2}, S("\x80\x3f\x40\xc0", 4))),
              ElementsAre(1, -3));
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_INT8, {2}, "\x7f\x81")), ElementsAre(127, -127));
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_UINT8, {1}, "\xff")), ElementsAre(255));
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_INT32, {1}, "\xfe\xff\xff\xff")), ElementsAre(-2));
  // Two rows of nine bits, two bytes each.
  EXPECT_THAT(values(MakeTensor(v1::DATA_TYPE_BINARY, {2, 9}, S("\x81\x80\x00\x00", 4))),
              ElementsAre(1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(TensorTest, RefusesBytesThatDoNotMatchTheShape) {
  const v1::Tensor cases[] = {
      MakeTensor(v1::DATA_TYPE_FLOAT32, {2}, "1234567"),
      MakeTensor(v1::DATA_TYPE_FLOAT32, {-1}, "1234"),
      MakeTensor(v1::DATA_TYPE_FLOAT32, {int64_t{1} << 62, 8}, ""),
      MakeTensor(v1::DATA_TYPE_BINARY, {2, 9}, "12"),
      MakeTensor(v1::DATA_TYPE_UNSPECIFIED, {1}, "1234"),
  };
  for (const v1::Tensor& message : cases) {
    EXPECT_THAT(FromMessage(message), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

}  // namespace
}  // namespace attendant::client
