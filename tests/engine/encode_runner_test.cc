#include "engine/encode_runner.h"

#include <cstring>
#include <stdexcept>

#include "absl/time/clock.h"
#include "engine/readers/readers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int32_t kBos = FakeTokenizer::kBos;
constexpr int32_t kEos = FakeTokenizer::kEos;

std::vector<float> Floats(const Tensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

class World {
 public:
  using Answer = std::optional<absl::StatusOr<EncodeResult>>;

  explicit World(int32_t max_batch_tokens = 32)
      : context_(1, /*pin_threads=*/false),
        model_(FakeEncoderModel(std::make_unique<FakeTokenizer>(std::vector<std::string>{}, true))),
        runner_(encoder_, context_, max_batch_tokens) {}

  std::shared_ptr<Answer> Add(EncodeRequest request) {
    auto answer = std::make_shared<Answer>();
    if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
    Engine::EncodeCallback done = [answer](absl::StatusOr<EncodeResult> result) {
      EXPECT_FALSE(answer->has_value()) << "answered twice";
      *answer = std::move(result);
    };
    auto job = Prepare(std::move(request), InFlight(model_), absl::Now(), done);
    if (!job.ok()) {
      *answer = job.status();
      return answer;
    }
    runner_.Add(*std::move(job));
    return answer;
  }

  bool Step() {
    StepReport report;
    runner_.EndOverdue(now);
    return runner_.Step(report);
  }

  absl::StatusOr<EncodeResult> Run(EncodeRequest request) {
    const auto answer = Add(std::move(request));
    while (Step()) {
    }
    EXPECT_FALSE(runner_.has_jobs());
    EXPECT_EQ(runner_.num_tokens_waiting(), 0);
    return **answer;
  }

  LoadedModel& model() { return *model_; }
  FakeEncoder& encoder() { return encoder_; }
  EncodeRunner& runner() { return runner_; }

  absl::Time now = absl::UnixEpoch();

 private:
  KernelContext context_;
  std::shared_ptr<LoadedModel> model_;
  FakeEncoder encoder_;
  EncodeRunner runner_;
};

EncodeRequest Inputs(std::vector<EncodeInput> inputs) {
  EncodeRequest request;
  request.inputs = std::move(inputs);
  return request;
}

// With the factor 3 of the fake's last layer.
TEST(EncodeRunnerTest, PoolsEachInputsTokens) {
  World world;
  EncodeRequest request = Inputs({TokenIds{10, 20}, TokenIds{7}, TokenIds{1, 2, 6}});
  ASSERT_OK_AND_ASSIGN(EncodeResult result, world.Run(request));
  EXPECT_THAT(result.embeddings.shape, ElementsAre(3, 4));
  EXPECT_THAT(Floats(result.embeddings),
              ElementsAre(45, 1.5f, 0, 6, /**/ 21, 0, 0, 3, /**/ 9, 3, 0, 9));
  EXPECT_EQ(result.usage.input_tokens, 6);
  EXPECT_EQ(result.inputs[2].row, 2);
  EXPECT_EQ(result.inputs[2].num_tokens, 3);

  request.pooling = Pooling::kCls;
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_THAT(Floats(result.embeddings),
              ElementsAre(30, 0, 0, 6, /**/ 21, 0, 0, 3, /**/ 3, 0, 0, 9));
  request.pooling = Pooling::kLastToken;
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_THAT(Floats(result.embeddings),
              ElementsAre(60, 3, 0, 6, /**/ 21, 0, 0, 3, /**/ 18, 6, 0, 9));
  request.pooling = Pooling::kMax;
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_THAT(Floats(result.embeddings),
              ElementsAre(60, 3, 0, 6, /**/ 21, 0, 0, 3, /**/ 18, 6, 0, 9));
}

TEST(EncodeRunnerTest, WithoutPoolingEveryTokenHasARow) {
  World world;
  EncodeRequest request = Inputs({TokenIds{10, 20}, TokenIds{2000}, TokenIds{7}});
  request.pooling = Pooling::kNone;
  ASSERT_OK_AND_ASSIGN(const EncodeResult result, world.Run(request));
  EXPECT_THAT(result.embeddings.shape, ElementsAre(3, 4));
  EXPECT_THAT(Floats(result.embeddings),
              ElementsAre(30, 0, 0, 6, /**/ 60, 3, 0, 6, /**/ 21, 0, 0, 3));
  EXPECT_EQ(result.inputs[0].num_rows, 2);
  EXPECT_EQ(result.inputs[1].row, -1);
  EXPECT_EQ(result.inputs[2].row, 2);
}

TEST(EncodeRunnerTest, DimensionsAreCutBeforeNormalizing) {
  World world;
  EncodeRequest request = Inputs({TokenIds{3, 3, 3, 3, 3, 3, 3, 3, 3}});  // 9, 12, 0, 27
  request.dimensions = 2;
  request.normalize = true;
  ASSERT_OK_AND_ASSIGN(const EncodeResult result, world.Run(request));
  EXPECT_THAT(result.embeddings.shape, ElementsAre(1, 2));
  const auto values = Floats(result.embeddings);
  EXPECT_NEAR(values[0], 0.6, 1e-6);
  EXPECT_NEAR(values[1], 0.8, 1e-6);
}

TEST(EncodeRunnerTest, TextsPairsAndPromptsBecomeTokens) {
  World world;
  world.model().sentence.prompts = {{"query", "q:"}, {"none", ""}};
  EncodeRequest request = Inputs({std::string("ab"), TextPair{"c", "de"}, TokenIds{'x'}});
  request.prompt_name = "query";
  request.pooling = Pooling::kNone;
  request.dimensions = 1;
  ASSERT_OK_AND_ASSIGN(EncodeResult result, world.Run(request));
  std::vector<int32_t> ids;
  for (const float value : Floats(result.embeddings))
    ids.push_back(static_cast<int32_t>(value / 3));
  EXPECT_THAT(ids, ElementsAre(kBos, 'q', ':', 'a', 'b', kEos, /**/ kBos, 'q', ':', 'c', kEos, 'd',
                               'e', kEos,
                               /**/ 'x'));
  world.model().sentence.default_prompt_name = "query";
  request.prompt_name.reset();
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_EQ(result.inputs[0].num_tokens, 6);
  request.prompt = "";
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_EQ(result.inputs[0].num_tokens, 4);
}

TEST(EncodeRunnerTest, SegmentsReachTheModelAndAreZeroForOneWithoutThem) {
  World world;
  EncodeRequest request = Inputs({TextPair{"a", "b"}, std::string("c")});
  request.pooling = Pooling::kMax;
  ASSERT_OK_AND_ASSIGN(EncodeResult result, world.Run(request));
  EXPECT_EQ(Floats(result.embeddings)[2], 3);
  EXPECT_EQ(Floats(result.embeddings)[4 + 2], 0);
  world.model().type_vocab_size = 0;
  ASSERT_OK_AND_ASSIGN(result, world.Run(request));
  EXPECT_EQ(Floats(result.embeddings)[2], 0);
}

TEST(EncodeRunnerTest, HiddenLayersComeForTheTokensOfGoodInputs) {
  World world;
  EncodeRequest request = Inputs({TokenIds{10, 20}, TokenIds{}, TokenIds{7}});
  request.hidden_layers = {-1, 0, 1};
  ASSERT_OK_AND_ASSIGN(const EncodeResult result, world.Run(request));
  ASSERT_THAT(result.hidden_states, SizeIs(3));
  EXPECT_THAT(Floats(result.hidden_states[0]), ElementsAre(30, 0, 0, 6, 60, 3, 0, 6, 21, 0, 0, 3));
  EXPECT_THAT(Floats(result.hidden_states[1]), ElementsAre(10, 0, 0, 2, 20, 1, 0, 2, 7, 0, 0, 1));
  EXPECT_THAT(Floats(result.hidden_states[2]), ElementsAre(20, 0, 0, 4, 40, 2, 0, 4, 14, 0, 0, 2));
}

TEST(EncodeRunnerTest, ABadInputFailsAloneAndIsNamed) {
  World world;
  const std::string long_text(50, 'x');
  ASSERT_OK_AND_ASSIGN(const EncodeResult result,
                       world.Run(Inputs({std::string("good"), long_text, TokenIds{},
                                         TokenIds{5, -1}, std::string(), TokenIds{9}})));
  EXPECT_THAT(result.embeddings.shape, ElementsAre(2, 4));
  EXPECT_OK(result.inputs[0].status);
  EXPECT_THAT(
      result.inputs[1].status,
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("inputs[1]"), HasSubstr("52 tokens"), HasSubstr("takes 20"))));
  EXPECT_EQ(result.inputs[1].original_tokens, 52);
  EXPECT_THAT(result.inputs[2].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("inputs[2]: has no tokens")));
  EXPECT_THAT(result.inputs[3].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token 1 has id -1")));
  EXPECT_THAT(result.inputs[4].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
  EXPECT_EQ(result.inputs[5].row, 1);
  EXPECT_EQ(Floats(result.embeddings)[4], 27);
}

TEST(EncodeRunnerTest, TruncationSaysHowLongTheInputWas) {
  World world;
  EncodeRequest request = Inputs({std::string(50, 'x')});
  request.truncation.side = TruncationSide::kRight;
  ASSERT_OK_AND_ASSIGN(const EncodeResult result, world.Run(request));
  EXPECT_EQ(result.inputs[0].num_tokens, 20);
  EXPECT_EQ(result.inputs[0].original_tokens, 52);
}

TEST(EncodeRunnerTest, MalformedRequestsFailAsAWhole) {
  World world;
  const auto refused = [&](auto change, absl::string_view message) {
    EncodeRequest request = Inputs({TokenIds{1, 2}});
    change(request);
    EXPECT_THAT(world.Run(std::move(request)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(message))));
  };
  refused([](auto& r) { r.inputs.clear(); }, "inputs: is empty");
  refused([](auto& r) { r.inputs = {TokenIds{}}; }, "inputs[0]: has no tokens");
  refused([](auto& r) { r.inputs = {TokenIds{}, TokenIds{}}; }, "none of the 2 inputs is good");
  refused([](auto& r) { r.dimensions = 5; }, "dimensions: is 5; this model's vectors have 4");
  refused([](auto& r) { r.dimensions = 0; }, "dimensions");
  refused([](auto& r) { r.hidden_layers = {3}; }, "layer 3; this model has 0 to 2");
  refused([](auto& r) { r.hidden_layers = {-2}; }, "layer -2");
  refused([](auto& r) { r.prompt_name = "nope"; }, "prompt_name: is \"nope\"");
  refused([](auto& r) { r.output_dtype = DataType::kBinary; }, "multiple of 8");
  refused([](auto& r) { r.truncation.max_tokens = 0; }, "truncation.max_tokens");
  refused(
      [](auto& r) {
        r.inputs.assign(200, TokenIds{1, 2, 3, 4});
        r.pooling = Pooling::kNone;
      },
      "12800 bytes; this server allows 10000");
}

TEST(EncodeRunnerTest, ADecoderDoesNotEncode) {
  World world;
  world.model().description.can_encode = false;
  world.model().description.kind = "decoder";
  EXPECT_THAT(world.Run(Inputs({TokenIds{1}})),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is a decoder; it serves Generate")));
}

TEST(EncodeRunnerTest, PacksInputsOfAllRequestsUpToTheLimit) {
  World world(/*max_batch_tokens=*/10);
  std::vector<std::shared_ptr<World::Answer>> answers;
  for (int i = 0; i < 5; ++i) answers.push_back(world.Add(Inputs({TokenIds{i, i, i}})));
  while (world.Step()) {
  }
  EXPECT_THAT(world.encoder().batch_tokens, ElementsAre(9, 6));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Floats((**answers[i])->embeddings)[0], 3 * i);
}

TEST(EncodeRunnerTest, AnInputLongerThanABatchIsABatchOfItsOwn) {
  World world(/*max_batch_tokens=*/10);
  ASSERT_OK(world.Run(Inputs({TokenIds{1}, TokenIds(15, 2), TokenIds{3}})));
  EXPECT_THAT(world.encoder().batch_tokens, ElementsAre(1, 15, 1));
}

TEST(EncodeRunnerTest, AShortRequestDoesNotWaitForAllOfALongOne) {
  World world(/*max_batch_tokens=*/10);
  const auto bulk = world.Add(Inputs(std::vector<EncodeInput>(100, TokenIds{1, 2, 3})));
  world.Step();
  const auto single = world.Add(Inputs({TokenIds{4}}));
  world.Step();
  EXPECT_TRUE(single->has_value());
  EXPECT_FALSE(bulk->has_value());
  EXPECT_EQ(world.runner().num_running(), 1);
}

TEST(EncodeRunnerTest, CancelledAndOverdueRequestsEndBeforeTheNextStep) {
  World world(/*max_batch_tokens=*/4);
  EncodeRequest request = Inputs(std::vector<EncodeInput>(9, TokenIds{1, 2, 3}));
  request.control = std::make_shared<RequestControl>();
  const auto control = request.control;
  const auto cancelled = world.Add(request);
  request.control = std::make_shared<RequestControl>();
  request.control->deadline = world.now + absl::Seconds(1);
  const auto overdue = world.Add(request);
  world.Step();
  control->cancelled = true;
  world.now += absl::Seconds(2);
  EXPECT_FALSE(world.Step());
  EXPECT_THAT(**cancelled, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(**overdue, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(world.runner().num_tokens_waiting(), 0);
}

TEST(EncodeRunnerTest, AStepThatThrowsEndsItsRequestsAndNoOthers) {
  World world(/*max_batch_tokens=*/4);
  const auto failed = world.Add(Inputs({TokenIds{1, 2, 3}, TokenIds{1, 2, 3}}));
  const auto good = world.Add(Inputs({TokenIds{1, 2, 3}}));
  world.encoder().before_forward = [&] {
    world.encoder().before_forward = nullptr;
    throw std::runtime_error("no memory");
  };
  while (world.Step()) {
  }
  EXPECT_THAT(**failed, StatusIs(absl::StatusCode::kInternal));
  EXPECT_OK(**good);
}

}  // namespace
}  // namespace attendant::engine
