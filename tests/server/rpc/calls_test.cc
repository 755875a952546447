// The RPCs over a real connection, with an engine that does what each test says.

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/inference_server.h"
#include "server/rpc/encode_stream_reactor.h"
#include "tests/server/rpc/scripted_engine.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using engine::Engine;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

template <typename Detail>
Detail DetailOf(const grpc::Status& status) {
  google::rpc::Status message;
  message.ParseFromString(status.error_details());
  Detail detail;
  for (const auto& any : message.details()) {
    if (any.Is<Detail>()) any.UnpackTo(&detail);
  }
  return detail;
}

std::string FieldOf(const grpc::Status& status) {
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  return bad_request.field_violations().empty() ? "" : bad_request.field_violations(0).field();
}

// Two values for each good input; a text "bad" fails alone.
engine::EncodeResult EncodeAll(const engine::EncodeRequest& request) {
  engine::EncodeResult result;
  int rows = 0;
  for (const engine::EncodeInput& input : request.inputs) {
    engine::EncodedInput& encoded = result.inputs.emplace_back();
    const auto* text = std::get_if<std::string>(&input);
    if (text == nullptr || *text == "bad") {
      encoded.status = absl::InvalidArgumentError("is bad");
      continue;
    }
    encoded.row = rows++;
    encoded.num_rows = 1;
    encoded.num_tokens = encoded.original_tokens = 3;
    const float values[] = {static_cast<float>(text->size()), 1.0f};
    result.embeddings.data.append(reinterpret_cast<const char*>(values), sizeof(values));
  }
  result.embeddings.shape = {rows, 2};
  result.usage.input_tokens = 3 * rows;
  return result;
}

class CallsTest : public ::testing::Test {
 protected:
  CallsTest() {
    EngineScript& script = Script();
    script.models = ScriptedModels();
    script.on_load = nullptr;
    script.num_wakes = 0;
    script.encode = [](engine::EncodeRequest request, Engine::EncodeCallback done) {
      std::move(done)(EncodeAll(request));
    };
    script.generate = [](engine::GenerateRequest, std::shared_ptr<engine::TokenSink> sink) {
      sink->OnDone(absl::InternalError("nothing scripted"));
    };
    options_.listen = options_.metrics_listen = "127.0.0.1:0";
    options_.request_log = "off";
    options_.models = {{.name = "encoder", .path = "e"}, {.name = "decoder", .path = "d"}};
  }

  void StartWithoutModels() {
    ASSERT_OK_AND_ASSIGN(server_, InferenceServer::Start(options_));
    auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->grpc_port()),
                                       grpc::InsecureChannelCredentials());
    inference_ = v1::InferenceService::NewStub(channel);
    models_ = v1::ModelService::NewStub(channel);
    health_ = grpc::health::v1::Health::NewStub(channel);
  }

  void Start() {
    StartWithoutModels();
    ASSERT_OK(server_->LoadModels());
  }

  HealthResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthResponse response;
    return health_->Check(&context, request, &response).ok() ? response.status()
                                                             : HealthResponse::UNKNOWN;
  }

  grpc::Status Encode(const std::vector<std::string>& texts,
                      v1::EncodeResponse* response = nullptr) {
    v1::EncodeRequest request;
    for (const std::string& text : texts) request.add_inputs()->set_text(text);
    grpc::ClientContext context;
    v1::EncodeResponse unused;
    return inference_->Encode(&context, request, response != nullptr ? response : &unused);
  }

  static v1::GenerateRequest Prompt(const std::string& text) {
    v1::GenerateRequest request;
    request.set_text(text);
    return request;
  }

  ServerOptions options_;
  std::unique_ptr<InferenceServer> server_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Readiness.

TEST_F(CallsTest, AnswersUnavailableAndNotServingWhileLoading) {
  StartWithoutModels();
  EXPECT_EQ(Health(""), HealthResponse::NOT_SERVING);
  const grpc::Status status = Encode({"x"});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "LOADING");
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 0);

  ASSERT_OK(server_->LoadModels());
  for (const std::string service :
       {"", "attendant.v1.InferenceService", "attendant.v1.ModelService",
        "attendant.v1.InferenceService/encoder"}) {
    EXPECT_EQ(Health(service), HealthResponse::SERVING) << service;
  }
  EXPECT_TRUE(Encode({"x"}).ok());
}

TEST_F(CallsTest, AModelThatCannotBeLoadedIsNamed) {
  options_.models.push_back({.name = "absent", .path = "/nowhere"});
  StartWithoutModels();
  EXPECT_THAT(server_->LoadModels(),
              attendant::testing::StatusIs(absl::StatusCode::kNotFound,
                                           HasSubstr("cannot load model absent: /nowhere")));
}

// ---------------------------------------------------------------------------------------------------------------------
// Encode.

TEST_F(CallsTest, OneBadInputFailsAlone) {
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->set_text("four");
  request.add_inputs()->mutable_tokens()->add_ids(100);
  request.add_inputs()->set_text("bad");
  request.add_inputs()->set_image("png");
  request.add_inputs();
  request.add_inputs()->set_text("a");
  grpc::ClientContext context;
  v1::EncodeResponse response;
  ASSERT_TRUE(inference_->Encode(&context, request, &response).ok());
  ASSERT_EQ(response.inputs_size(), 6);
  std::vector<int> codes, rows;
  for (const auto& input : response.inputs()) {
    codes.push_back(input.status().code());
    rows.push_back(input.num_rows() > 0 ? input.row() : -1);
  }
  EXPECT_THAT(codes, ElementsAre(0, 3, 3, 3, 3, 0));
  EXPECT_THAT(rows, ElementsAre(0, -1, -1, -1, -1, 1));
  EXPECT_THAT(response.inputs(1).status().message(), HasSubstr("inputs[1].tokens.ids[0] is 100"));
  EXPECT_THAT(response.embeddings().shape(), ElementsAre(2, 2));
  EXPECT_EQ(response.model(), "encoder");
  EXPECT_TRUE(response.has_timing());
}

TEST_F(CallsTest, AllBadInputsFailTheRequest) {
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->mutable_tokens();
  grpc::ClientContext context;
  v1::EncodeResponse response;
  const grpc::Status status = inference_->Encode(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "inputs[0].tokens.ids");
}

TEST_F(CallsTest, UnknownAndUnableModelsAreExplained) {
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->set_text("x");
  request.set_model("nobody");
  v1::EncodeResponse response;
  {
    grpc::ClientContext context;
    const grpc::Status status = inference_->Encode(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(status.error_message(), HasSubstr("decoder, encoder"));
    EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(), "nobody");
  }
  {
    request.set_model("decoder");
    grpc::ClientContext context;
    const grpc::Status status = inference_->Encode(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), HasSubstr("cannot encode; it serves Generate"));
  }
}

TEST_F(CallsTest, AnEmptyModelNameNeedsOneThatIsMeant) {
  Script().models.push_back(Script().models[1]);
  Script().models.back().name = "second";
  options_.models.push_back({.name = "second", .path = "s"});
  Start();
  const grpc::Status status = Encode({"x"});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "model");
  EXPECT_THAT(status.error_message(), HasSubstr("encoder, second"));

  options_.default_model = "second";
  Start();
  v1::EncodeResponse response;
  EXPECT_TRUE(Encode({"x"}, &response).ok());
  EXPECT_EQ(response.model(), "second");
}

TEST_F(CallsTest, InvalidUtf8IsInvalidArgumentWithItsField) {
  Start();
  const grpc::Status status = Encode({"good", "\xff\xfe"});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "inputs[1].text");
}

TEST_F(CallsTest, ADefectShowsNothingButTheRequestId) {
  Script().encode = [](engine::EncodeRequest, Engine::EncodeCallback done) {
    std::move(done)(absl::InternalError("secret"));
  };
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->set_text("x");
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "my-id");
  v1::EncodeResponse response;
  const grpc::Status status = inference_->Encode(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), HasSubstr("my-id"));
  EXPECT_THAT(status.error_message(), Not(HasSubstr("secret")));
  const auto id = context.GetServerTrailingMetadata().find("x-request-id");
  ASSERT_NE(id, context.GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(id->second.data(), id->second.size()), "my-id");
}

TEST_F(CallsTest, ACancelledCallStopsItsWork) {
  absl::Notification started, cancelled;
  Script().encode = [&](engine::EncodeRequest request, Engine::EncodeCallback done) {
    std::thread([&, control = request.control, done = std::move(done)]() mutable {
      started.Notify();
      while (!control->cancelled) absl::SleepFor(absl::Milliseconds(1));
      cancelled.Notify();
      std::move(done)(control->Check(absl::Now()));
    }).detach();
  };
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->set_text("x");
  grpc::ClientContext context;
  v1::EncodeResponse response;
  std::thread canceller([&] {
    started.WaitForNotification();
    context.TryCancel();
  });
  EXPECT_EQ(inference_->Encode(&context, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_TRUE(cancelled.WaitForNotificationWithTimeout(absl::Seconds(10)));
  EXPECT_GT(Script().num_wakes, 0);
}

TEST_F(CallsTest, TheDeadlineReachesTheEngine) {
  absl::Mutex mutex;
  absl::Time deadline;
  Script().encode = [&](engine::EncodeRequest request, Engine::EncodeCallback done) {
    absl::MutexLock lock(&mutex);
    deadline = request.control->deadline;
    std::move(done)(EncodeAll(request));
  };
  Start();
  v1::EncodeRequest request;
  request.add_inputs()->set_text("x");
  grpc::ClientContext context;
  const absl::Time asked = absl::Now() + absl::Seconds(40);
  context.set_deadline(absl::ToChronoTime(asked));
  v1::EncodeResponse response;
  ASSERT_TRUE(inference_->Encode(&context, request, &response).ok());
  absl::MutexLock lock(&mutex);
  EXPECT_LT(absl::AbsDuration(deadline - asked), absl::Seconds(1));
}

TEST_F(CallsTest, BeyondTheLimitRequestsAreToldWhenToRetryWhileHealthAnswers) {
  absl::Mutex mutex;
  std::vector<Engine::EncodeCallback> waiting;
  Script().encode = [&](engine::EncodeRequest, Engine::EncodeCallback done) {
    absl::MutexLock lock(&mutex);
    waiting.push_back(std::move(done));
  };
  options_.max_requests = 2;
  Start();
  std::vector<std::thread> callers;
  std::atomic<int> good = 0;
  for (int i = 0; i < 2; ++i) callers.emplace_back([&] { good += Encode({"x"}).ok(); });
  {
    absl::MutexLock lock(&mutex);
    const auto both = [&] { return waiting.size() == 2; };
    mutex.Await(absl::Condition(&both));
  }
  const grpc::Status status = Encode({"x"});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "REQUESTS_FULL");
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(status).has_retry_delay());
  EXPECT_EQ(Health(""), HealthResponse::SERVING);
  {
    absl::MutexLock lock(&mutex);
    engine::EncodeRequest one;
    one.inputs.push_back(std::string("x"));
    for (Engine::EncodeCallback& done : waiting) std::move(done)(EncodeAll(one));
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good, 2);
}

TEST_F(CallsTest, HeadsAnswerAndFailAsEncodeDoes) {
  options_.models.push_back({.name = "reader", .path = "r"});
  Start();
  engine::RankRequest seen;
  Script().rank = [&](engine::RankRequest request, Engine::RankCallback done) {
    engine::RankResult result;
    result.documents.resize(request.documents.size());
    result.usage.input_tokens = 7;
    seen = std::move(request);
    std::move(done)(std::move(result));
  };
  v1::RankRequest request;
  request.set_query("q");
  request.add_documents("d");
  v1::RankResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(inference_->Rank(&context, request, &response).ok());
  }
  EXPECT_EQ(response.model(), "reader");
  EXPECT_EQ(response.usage().input_tokens(), 7);
  EXPECT_EQ(seen.model, "reader");
  EXPECT_EQ(seen.documents, std::vector<std::string>{"d"});
  ASSERT_NE(seen.control, nullptr);

  Script().rank = [](engine::RankRequest, Engine::RankCallback done) {
    std::move(done)(absl::InvalidArgumentError("documents[0]: too long"));
  };
  {
    grpc::ClientContext context;
    const grpc::Status status = inference_->Rank(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(FieldOf(status), "documents");
  }
  request.set_model("decoder");
  {
    grpc::ClientContext context;
    const grpc::Status status = inference_->Rank(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), HasSubstr("cannot rank"));
    EXPECT_THAT(status.error_message(), HasSubstr("its heads: lm"));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// EncodeStream.

TEST_F(CallsTest, AStreamAnswersInAnyOrderAndGoesOnAfterABadRequest) {
  absl::Mutex mutex;
  std::vector<std::pair<engine::EncodeRequest, Engine::EncodeCallback>> waiting;
  Script().encode = [&](engine::EncodeRequest request, Engine::EncodeCallback done) {
    absl::MutexLock lock(&mutex);
    waiting.emplace_back(std::move(request), std::move(done));
  };
  Start();
  grpc::ClientContext context;
  auto stream = inference_->EncodeStream(&context);
  const auto send = [&](uint64_t id, const std::string& text) {
    v1::EncodeStreamRequest request;
    request.set_id(id);
    request.mutable_request()->add_inputs()->set_text(text);
    ASSERT_TRUE(stream->Write(request));
  };
  send(1, "first");
  send(2, "second");
  v1::EncodeStreamRequest empty;
  empty.set_id(3);
  ASSERT_TRUE(stream->Write(empty));
  send(4, "\xff");

  v1::EncodeStreamResponse answer;
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 3);
  EXPECT_EQ(answer.error().code(), 3);
  EXPECT_THAT(answer.error().message(), HasSubstr("request.inputs is empty"));
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 4);
  EXPECT_THAT(answer.error().message(), HasSubstr("request.inputs[0].text is not UTF-8"));
  {
    absl::MutexLock lock(&mutex);
    const auto both = [&] { return waiting.size() == 2; };
    mutex.Await(absl::Condition(&both));
    for (int i : {1, 0}) std::move(waiting[i].second)(EncodeAll(waiting[i].first));
  }
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 2);
  EXPECT_TRUE(answer.has_response());
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.id(), 1);
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(CallsTest, AStreamHasSoManyRequestsInFlightAndNoMore) {
  absl::Mutex mutex;
  int most = 0;
  std::vector<std::pair<engine::EncodeRequest, Engine::EncodeCallback>> waiting;
  bool hold = true;
  Script().encode = [&](engine::EncodeRequest request, Engine::EncodeCallback done) {
    absl::MutexLock lock(&mutex);
    if (hold) {
      waiting.emplace_back(std::move(request), std::move(done));
      most = std::max<int>(most, waiting.size());
    } else {
      std::move(done)(EncodeAll(request));
    }
  };
  Start();
  constexpr int kRequests = 4 * EncodeStreamReactor::kMaxInFlight;
  grpc::ClientContext context;
  auto stream = inference_->EncodeStream(&context);
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      v1::EncodeStreamRequest request;
      request.set_id(i);
      request.mutable_request()->add_inputs()->set_text("x");
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  {
    absl::MutexLock lock(&mutex);
    const auto full = [&] { return waiting.size() == EncodeStreamReactor::kMaxInFlight; };
    EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&full), absl::Seconds(20)));
  }
  absl::SleepFor(absl::Milliseconds(100));  // for one too many to show itself
  {
    absl::MutexLock lock(&mutex);
    EXPECT_EQ(most, EncodeStreamReactor::kMaxInFlight);
    hold = false;
    for (auto& [request, done] : waiting) std::move(done)(EncodeAll(request));
  }
  std::vector<bool> seen(kRequests);
  v1::EncodeStreamResponse answer;
  while (stream->Read(&answer)) seen[answer.id()] = answer.has_response();
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(seen, Not(::testing::Contains(false)));
}

// ---------------------------------------------------------------------------------------------------------------------
// Generate.

engine::GenerateChunk Chunk(const std::string& text, int sequence = 0) {
  engine::GenerateChunk chunk;
  chunk.sequence = sequence;
  chunk.text = text;
  chunk.tokens.push_back(
      {.id = 7, .text = text, .logprob = -0.5f, .top = {{.id = 8, .text = "\xff", .logprob = -1}}});
  return chunk;
}

TEST_F(CallsTest, AGenerationStreams) {
  Script().generate = [](engine::GenerateRequest request, std::shared_ptr<engine::TokenSink> sink) {
    engine::GenerateStarted started;
    started.sampling.seed = 42;
    started.stopping.max_new_tokens = request.max_new_tokens.value_or(0);
    started.usage.input_tokens = 2;
    sink->OnStarted(started);
    sink->OnChunk(Chunk("Hel"));
    sink->OnChunk(Chunk("lo"));
    sink->OnFinished(
        {.reason = engine::FinishReason::kStopSequence, .stop_match = std::string("!")});
    sink->OnDone(absl::OkStatus());
  };
  Start();
  v1::GenerateRequest request = Prompt("Say hello");
  request.mutable_stopping()->set_max_new_tokens(5);
  request.mutable_output()->set_top_logprobs(1);
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, request);
  v1::GenerateResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.started().sampling().seed(), 42);
  EXPECT_EQ(response.started().stopping().max_new_tokens(), 5);
  EXPECT_EQ(response.started().model(), "decoder");
  EXPECT_THAT(response.started().request_id(), Not(IsEmpty()));
  std::string text;
  int num_tokens = 0;
  while (stream->Read(&response) && response.has_chunk()) {
    text += response.chunk().text();
    num_tokens += response.chunk().tokens_size();
    EXPECT_EQ(response.chunk().tokens(0).logprob(), -0.5f);
    EXPECT_EQ(response.chunk().tokens(0).top(0).text(), "\xef\xbf\xbd");
  }
  EXPECT_EQ(text, "Hello");
  EXPECT_EQ(num_tokens, 2);
  EXPECT_EQ(response.finished().stop(), "!");
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(CallsTest, AReaderThatIsTooSlowIsCutOffAndItsWorkStops) {
  absl::Notification stopped;
  Script().generate = [&](engine::GenerateRequest request,
                          std::shared_ptr<engine::TokenSink> sink) {
    std::thread([&, control = request.control, sink] {
      sink->OnStarted({});
      const absl::Time give_up = absl::Now() + absl::Seconds(60);
      while (control->Check(absl::Now()).ok() && absl::Now() < give_up) {
        sink->OnChunk(Chunk(std::string(1000, 'x')));
        absl::SleepFor(absl::Microseconds(20));
      }
      stopped.Notify();
      sink->OnDone(control->Check(absl::Now()));
    }).detach();
  };
  options_.limits.max_stream_backlog_bytes = 100'000;
  Start();
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, Prompt("x"));
  ASSERT_TRUE(stopped.WaitForNotificationWithTimeout(absl::Seconds(60)));
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "SLOW_READER");
}

TEST_F(CallsTest, WaitingChunksOfASequenceAreJoined) {
  Script().generate = [](engine::GenerateRequest, std::shared_ptr<engine::TokenSink> sink) {
    sink->OnStarted({});
    for (int i = 0; i < 1000; ++i)
      sink->OnChunk(Chunk(absl::StrCat(i % 2 == 0 ? "a" : "b"), i % 2));
    sink->OnDone(absl::OkStatus());
  };
  Start();
  v1::GenerateRequest request = Prompt("x");
  request.set_num_sequences(2);
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, request);
  v1::GenerateResponse response;
  int num_messages = 0;
  std::string texts[2];
  while (stream->Read(&response)) {
    if (!response.has_chunk()) continue;
    ++num_messages;
    texts[response.chunk().sequence()] += response.chunk().text();
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(texts[0], std::string(500, 'a'));
  EXPECT_EQ(texts[1], std::string(500, 'b'));
  EXPECT_LT(num_messages, 1000);
}

TEST_F(CallsTest, AnErrorOfTheEngineEndsTheStreamAndNamesThePrompt) {
  Script().generate = [](engine::GenerateRequest, std::shared_ptr<engine::TokenSink> sink) {
    sink->OnDone(absl::InvalidArgumentError("the input has 99 tokens; the model takes 16"));
  };
  Start();
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, Prompt("x"));
  v1::GenerateResponse response;
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "text");
}

// ---------------------------------------------------------------------------------------------------------------------
// Attend.

TEST_F(CallsTest, ASlowReaderHoldsBackItsAttend) {
  constexpr int kBlocks = 60;
  std::atomic<int> most_ahead = 0, num_computed = 0, num_read = 0;
  Script().attend = [&](engine::AttendRequest, std::shared_ptr<engine::AttendSink> sink) {
    std::thread([&, sink] {
      sink->OnStarted({.output_shape = {kBlocks, 1, 1}});
      while (num_computed < kBlocks) {
        if (!sink->Ready()) {
          absl::SleepFor(absl::Microseconds(100));
          continue;
        }
        engine::AttendBlock block;
        block.head_begin = num_computed;
        block.head_end = ++num_computed;
        block.tensor = {engine::DataType::kFloat32, {1, 1, 1 << 18}, std::string(1 << 20, '\0')};
        sink->OnBlock(std::move(block));
        most_ahead = std::max<int>(most_ahead, num_computed - num_read);
      }
      sink->OnDone(absl::OkStatus(), {});
    }).detach();
  };
  Start();
  v1::AttendRequest request;
  for (v1::Tensor* tensor :
       {request.mutable_tensors()->mutable_query(), request.mutable_tensors()->mutable_key(),
        request.mutable_tensors()->mutable_value()}) {
    tensor->set_dtype(v1::DATA_TYPE_FLOAT32);
    for (int i = 0; i < 3; ++i) tensor->add_shape(1);
    tensor->set_data(std::string(4, '\0'));
  }
  grpc::ClientContext context;
  auto stream = inference_->Attend(&context, request);
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_LT(num_computed, kBlocks / 2) << "nothing is read, and yet blocks are computed";
  v1::AttendResponse response;
  bool finished = false;
  while (stream->Read(&response)) {
    num_read += response.has_block();
    finished |= response.has_finished();
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(num_read, kBlocks);
  EXPECT_TRUE(finished);
  EXPECT_GT(Script().num_wakes, 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// ModelService.

TEST_F(CallsTest, ModelsAreDescribed) {
  Start();
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(models_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 2);
  const v1::Model& encoder =
      response.models(0).name() == "encoder" ? response.models(0) : response.models(1);
  EXPECT_EQ(encoder.stack(), v1::MODEL_STACK_ENCODER);
  EXPECT_EQ(encoder.tokenizer(), v1::TOKENIZER_KIND_WORD_PIECE);
  EXPECT_THAT(encoder.rpcs(),
              ElementsAre("Encode", "EncodeStream", "Attend", "Tokenize", "Detokenize"));
}

TEST_F(CallsTest, TextBecomesTokensAndTokensText) {
  Start();
  v1::TokenizeRequest request;
  request.set_model("encoder");
  request.add_inputs()->set_text("ab");
  request.add_inputs();
  v1::TokenizeResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(models_->Tokenize(&context, request, &response).ok());
  }
  ASSERT_EQ(response.inputs_size(), 2);
  EXPECT_EQ(response.inputs(0).tokens(1).id(), 'b');
  EXPECT_EQ(response.inputs(0).tokens(1).span().byte_end(), 2);
  EXPECT_EQ(response.inputs(1).status().code(), 3);

  v1::DetokenizeRequest back;
  back.set_model("encoder");
  back.add_inputs()->add_ids('a');
  back.add_inputs()->add_ids(0xff);
  v1::DetokenizeResponse texts;
  grpc::ClientContext context;
  ASSERT_TRUE(models_->Detokenize(&context, back, &texts).ok());
  EXPECT_THAT(texts.texts(), ElementsAre("a", "\xef\xbf\xbd"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Drain.

TEST_F(CallsTest, ADrainFinishesWhatRunsAndRefusesTheRest) {
  absl::Notification started;
  Script().generate = [&](engine::GenerateRequest, std::shared_ptr<engine::TokenSink> sink) {
    std::thread([&, sink] {
      sink->OnStarted({});
      started.Notify();
      for (int i = 0; i < 50; ++i) {
        sink->OnChunk(Chunk("x"));
        absl::SleepFor(absl::Milliseconds(10));
      }
      sink->OnDone(absl::OkStatus());
    }).detach();
  };
  Start();
  grpc::ClientContext context, idle_context, watch_context;
  auto stream = inference_->Generate(&context, Prompt("x"));
  // Neither a stream whose client has nothing to ask nor one that watches health holds up a drain.
  auto idle = inference_->EncodeStream(&idle_context);
  v1::EncodeStreamRequest one;
  one.mutable_request()->add_inputs()->set_text("x");
  ASSERT_TRUE(idle->Write(one));
  v1::EncodeStreamResponse answer;
  ASSERT_TRUE(idle->Read(&answer));
  auto watch = health_->Watch(&watch_context, {});
  HealthResponse health;
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), HealthResponse::SERVING);
  started.WaitForNotification();

  const absl::Time start = absl::Now();
  int64_t num_cut_off = -1;
  std::thread drain(
      [&] { num_cut_off = server_->Drain(absl::Milliseconds(50), absl::Seconds(30)); });
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), HealthResponse::NOT_SERVING);
  std::string text;
  v1::GenerateResponse response;
  while (stream->Read(&response)) text += response.chunk().text();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(text, std::string(50, 'x'));
  EXPECT_FALSE(idle->Read(&answer));
  EXPECT_EQ(idle->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  drain.join();
  EXPECT_EQ(num_cut_off, 0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(15));
  EXPECT_EQ(Encode({"x"}).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(CallsTest, ADrainCutsOffWhatTakesTooLong) {
  absl::Notification started;
  Script().generate = [&](engine::GenerateRequest request,
                          std::shared_ptr<engine::TokenSink> sink) {
    std::thread([&, sink, control = request.control] {
      sink->OnStarted({});
      started.Notify();
      while (control->Check(absl::Now()).ok()) absl::SleepFor(absl::Milliseconds(1));
      sink->OnDone(control->Check(absl::Now()));
    }).detach();
  };
  Start();
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, Prompt("x"));
  started.WaitForNotification();
  EXPECT_EQ(server_->Drain(absl::ZeroDuration(), absl::Milliseconds(100)), 1);
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "DRAINING");
}

}  // namespace
}  // namespace attendant::server
