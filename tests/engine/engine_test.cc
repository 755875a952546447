#include "engine/engine.h"

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "engine/checkpoint/safetensors_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

// The engine with its threads, on the tiny checkpoints of tests/goldens.

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr int kGoldenLengths[] = {1, 2, 17, 63};
constexpr int kGreedyTokens = 64;

// The expected values of a case of tests/goldens.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(*SafetensorsFile::Open(
            TestDataPath(absl::StrCat("goldens/", name, "/expected.safetensors")))) {}

  std::vector<int32_t> Ids(int length, absl::string_view what) const {
    const SafetensorsFile::Tensor& tensor = Find(length, what);
    std::vector<int32_t> ids;
    for (size_t i = 0; i < tensor.data.size(); i += sizeof(int64_t)) {
      int64_t id;
      std::memcpy(&id, tensor.data.data() + i, sizeof id);
      ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  }

  std::vector<float> Values(int length, absl::string_view what) const {
    const SafetensorsFile::Tensor& tensor = Find(length, what);
    std::vector<float> values(tensor.data.size() / sizeof(float));
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    return values;
  }

 private:
  const SafetensorsFile::Tensor& Find(int length, absl::string_view what) const {
    const SafetensorsFile::Tensor* tensor = file_.Find(absl::StrCat("length_", length, ".", what));
    CHECK(tensor != nullptr) << what;
    return *tensor;
  }

  SafetensorsFile file_;
};

EngineOptions TestOptions() {
  EngineOptions options;
  options.num_threads = 1;
  options.pin_threads = false;
  options.kv_cache_bytes = 4 << 20;
  options.max_batch_tokens = 256;
  return options;
}

ModelSource Source(const std::string& name, const std::string& golden) {
  return {.name = name, .path = TestDataPath("goldens/" + golden), .dtype = DataType::kFloat32};
}

std::unique_ptr<Engine> EngineWith(std::vector<ModelSource> sources,
                                   EngineOptions options = TestOptions()) {
  auto engine = Engine::Create(options);
  CHECK(engine.ok()) << engine.status();
  for (const ModelSource& source : sources) {
    const absl::Status status = (*engine)->LoadModel(source);
    CHECK(status.ok()) << status;
  }
  return *std::move(engine);
}

GenerateRequest Greedy(const std::string& model, TokenIds prompt,
                       int max_new_tokens = kGreedyTokens) {
  GenerateRequest request;
  request.model = model;
  request.prompt = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;
  request.temperature = 0;
  return request;
}

std::shared_ptr<RecordingSink> Start(Engine& engine, GenerateRequest request) {
  auto sink = std::make_shared<RecordingSink>();
  engine.Generate(std::move(request), sink);
  return sink;
}

absl::StatusOr<EncodeResult> Encode(Engine& engine, EncodeRequest request) {
  absl::Notification done;
  absl::StatusOr<EncodeResult> answer;
  engine.Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
    answer = std::move(result);
    done.Notify();
  });
  done.WaitForNotification();
  return answer;
}

std::vector<float> Floats(const Tensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// |a - b| over |b|.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double difference = 0, length = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    length += b[i] * b[i];
  }
  return std::sqrt(difference / length);
}

TEST(EngineTest, GreedyTextIsThatOfTheReference) {
  const auto engine = EngineWith({Source("llama", "llama/plain"), Source("gpt2", "gpt2/sharded")});
  for (const auto& [model, name] :
       {std::pair("llama", "llama/plain"), std::pair("gpt2", "gpt2/sharded")}) {
    const Golden golden(name);
    for (const int length : kGoldenLengths) {
      const auto sink = Start(*engine, Greedy(model, golden.Ids(length, "input_ids")));
      ASSERT_OK(sink->Wait());
      EXPECT_EQ(sink->ids(), golden.Ids(length, "greedy_ids")) << model << " " << length;
    }
  }
}

// Sources and targets of four models at once, beside a decoder.
TEST(EngineTest, EncoderDecodersSayWhatTheReferenceSays) {
  const std::vector<std::string> names = {"t5/v1_0", "t5/v1_1", "transformer/plain",
                                          "transformer/module"};
  std::vector<ModelSource> sources = {Source("llama", "llama/plain")};
  for (const std::string& name : names) sources.push_back(Source(name, name));
  const auto engine = EngineWith(sources);
  std::vector<std::pair<std::shared_ptr<RecordingSink>, std::vector<int32_t>>> expected;
  const auto start = [&](const std::string& model, const std::string& name, int length) {
    const Golden golden(name);
    expected.emplace_back(Start(*engine, Greedy(model, golden.Ids(length, "input_ids"))),
                          golden.Ids(length, "greedy_ids"));
  };
  for (const int length : kGoldenLengths) {
    start("llama", "llama/plain", length);
    for (const std::string& name : names) start(name, name, length);
  }
  for (const auto& [sink, ids] : expected) {
    ASSERT_OK(sink->Wait());
    EXPECT_EQ(sink->ids(), ids);
  }
}

TEST(EngineTest, TheEncoderOfAnEncoderDecoderEncodes) {
  const auto engine = EngineWith({Source("t5", "t5/v1_0"), Source("marian", "marian/separate")});
  for (const auto& [model, name] :
       {std::pair("t5", "t5/v1_0"), std::pair("marian", "marian/separate")}) {
    const Golden golden(name);
    for (const int length : kGoldenLengths) {
      EncodeRequest request;
      request.model = model;
      request.inputs = {golden.Ids(length, "input_ids")};
      request.normalize = false;
      ASSERT_OK_AND_ASSIGN(const EncodeResult result, Encode(*engine, request));
      EXPECT_LT(Distance(Floats(result.embeddings), golden.Values(length, "pooled_mean")), 2e-5);
    }
  }
}

// Prompts in chunks of 24 tokens at most, a cache that holds one of the long ones and little more,
// and sixteen at a time.
TEST(EngineTest, SixteenAtATimeSayWhatEachSaysAlone) {
  const Golden golden("llama/plain");
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 16; ++i) {
    requests.push_back(Greedy("llama", golden.Ids(kGoldenLengths[i % 4], "input_ids")));
    if (i < 8) continue;
    requests.back().temperature = 0.8f;
    requests.back().top_p = 0.95f;
    requests.back().seed = i;
    requests.back().repetition_penalty = 1.1f;
  }
  std::vector<std::vector<int32_t>> alone;
  {
    const auto engine = EngineWith({Source("llama", "llama/plain")});
    for (const GenerateRequest& request : requests) {
      const auto sink = Start(*engine, request);
      ASSERT_OK(sink->Wait());
      alone.push_back(sink->ids());
    }
  }
  EngineOptions options = TestOptions();
  options.max_batch_tokens = 24;
  options.max_running_sequences = 12;
  options.kv_cache_block_size = 8;
  options.kv_cache_bytes = 30 * 3 * 2 * 6 * 8 * 2 * 4;  // 30 blocks
  const auto engine = EngineWith({Source("llama", "llama/plain")}, options);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const GenerateRequest& request : requests) sinks.push_back(Start(*engine, request));
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_OK(sinks[i]->Wait());
      EXPECT_EQ(sinks[i]->ids(), alone[i]) << i;
    }
  }
  EXPECT_THAT(engine->Stats().models[0].preemptions, Gt(0));
}

TEST(EngineTest, EncodeGivesTheReferencesVectorsAloneAndTogether) {
  const auto engine = EngineWith({Source("bert", "bert/plain")});
  const Golden golden("bert/plain");
  EncodeRequest together;
  together.model = "bert";
  together.hidden_layers = {-1};
  for (const int length : kGoldenLengths)
    together.inputs.push_back(golden.Ids(length, "input_ids"));
  ASSERT_OK_AND_ASSIGN(const EncodeResult all, Encode(*engine, together));
  const std::vector<float> rows = Floats(all.embeddings);
  const size_t size = rows.size() / 4;
  for (int i = 0; i < 4; ++i) {
    EncodeRequest alone = together;
    alone.inputs = {together.inputs[i]};
    ASSERT_OK_AND_ASSIGN(const EncodeResult one, Encode(*engine, alone));
    const std::vector<float> row(rows.begin() + i * size, rows.begin() + (i + 1) * size);
    // Sums may be ordered otherwise for other numbers of rows.
    EXPECT_LT(Distance(Floats(one.embeddings), row), 1e-6) << i;
  }
  // Types 0 throughout, as token ids have them, is what the reference computed for the shortest
  // input alone.
  const std::vector<float> shortest(rows.begin(), rows.begin() + size);
  EXPECT_LT(Distance(shortest, golden.Values(1, "pooled_mean")), 2e-4);
  EXPECT_EQ(all.hidden_states[0].shape[0], 1 + 2 + 17 + 63);
}

TEST(EngineTest, ModelsRunSideBySide) {
  const auto engine = EngineWith({Source("llama", "llama/plain"), Source("gpt2", "gpt2/sharded"),
                                  Source("bert", "bert/plain")});
  const Golden llama("llama/plain"), gpt2("gpt2/sharded"), bert("bert/plain");
  std::vector<std::shared_ptr<RecordingSink>> llamas, gpts;
  absl::BlockingCounter encoded(16);
  std::atomic<int> num_good = 0;
  for (int i = 0; i < 16; ++i) {
    llamas.push_back(Start(*engine, Greedy("llama", llama.Ids(17, "input_ids"))));
    gpts.push_back(Start(*engine, Greedy("gpt2", gpt2.Ids(17, "input_ids"))));
    EncodeRequest request;
    request.model = "bert";
    request.inputs = {bert.Ids(63, "input_ids")};
    engine->Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
      num_good += result.ok();
      encoded.DecrementCount();
    });
  }
  encoded.Wait();
  EXPECT_EQ(num_good, 16);
  for (int i = 0; i < 16; ++i) {
    ASSERT_OK(llamas[i]->Wait());
    ASSERT_OK(gpts[i]->Wait());
    EXPECT_EQ(llamas[i]->ids(), llama.Ids(17, "greedy_ids"));
    EXPECT_EQ(gpts[i]->ids(), gpt2.Ids(17, "greedy_ids"));
  }
}

TEST(EngineTest, APrefixIsTakenFromTheCacheAndTheTextIsTheSame) {
  const auto engine = EngineWith({Source("llama", "llama/plain")});
  const Golden golden("llama/plain");
  for (int i = 0; i < 2; ++i) {
    const auto sink = Start(*engine, Greedy("llama", golden.Ids(63, "input_ids")));
    ASSERT_OK(sink->Wait());
    EXPECT_EQ(sink->ids(), golden.Ids(63, "greedy_ids"));
    EXPECT_EQ(sink->finished().usage.cached_tokens, i == 0 ? 0 : 48);
  }
}

// Sampling goes on until it is stopped: the context is what ends it.
GenerateRequest Endless() {
  GenerateRequest request = Greedy("llama", {1}, 130);
  request.temperature = 1;
  return request;
}

TEST(EngineTest, ACancelledStreamEndsAndItsBlocksAreFree) {
  EngineOptions options = TestOptions();
  const auto engine = EngineWith({Source("llama", "llama/plain")}, options);
  std::vector<GenerateRequest> requests(8, Endless());
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (GenerateRequest& request : requests) {
    request.control = std::make_shared<RequestControl>();
    sinks.push_back(Start(*engine, request));
  }
  for (const auto& sink : sinks) sink->WaitForChunks(2);
  for (const GenerateRequest& request : requests) request.control->cancelled = true;
  engine->Wake();
  int num_cancelled = 0;
  for (const auto& sink : sinks) num_cancelled += absl::IsCancelled(sink->Wait());
  EXPECT_THAT(num_cancelled, Gt(0)) << "all had ended before";
  // The step loop publishes after each round; one more request makes sure that there was one.
  ASSERT_OK(Start(*engine, Greedy("llama", {1}, 1))->Wait());
  while (engine->Stats().models[0].requests_running > 0) absl::SleepFor(absl::Milliseconds(1));
  const ModelStats stats = engine->Stats().models[0];
  EXPECT_EQ(stats.kv_cache_usage_ratio, 0);
  EXPECT_EQ(stats.requests_waiting, 0);
}

TEST(EngineTest, ADeadlineEndsWhatRunsAndWhatWaits) {
  EngineOptions options = TestOptions();
  options.max_running_sequences = 1;
  const auto engine = EngineWith({Source("llama", "llama/plain")}, options);
  GenerateRequest past = Endless();
  past.control = std::make_shared<RequestControl>();
  past.control->deadline = absl::Now() - absl::Seconds(1);
  EXPECT_THAT(Start(*engine, past)->Wait(), StatusIs(absl::StatusCode::kDeadlineExceeded));

  // Enough of them that some still wait when the deadline comes.
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  auto control = std::make_shared<RequestControl>();
  control->deadline = absl::Now() + absl::Milliseconds(30);
  for (int i = 0; i < 200; ++i) {
    GenerateRequest request = Endless();
    request.control = control;
    sinks.push_back(Start(*engine, request));
  }
  int num_overdue = 0;
  for (const auto& sink : sinks) num_overdue += absl::IsDeadlineExceeded(sink->Wait());
  EXPECT_THAT(num_overdue, Gt(100));
}

TEST(EngineTest, DestroyedWhileBusyItEndsEveryRequest) {
  auto engine = EngineWith({Source("llama", "llama/plain"), Source("bert", "bert/plain")});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::atomic<int> num_answers = 0;
  for (int i = 0; i < 64; ++i) {
    sinks.push_back(Start(*engine, Endless()));
    EncodeRequest request;
    request.model = "bert";
    request.inputs.assign(50, TokenIds{1, 2, 3});
    engine->Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
      if (!result.ok()) {
        EXPECT_THAT(result, StatusIs(absl::StatusCode::kUnavailable));
      }
      ++num_answers;
    });
  }
  engine.reset();
  EXPECT_EQ(num_answers, 64);
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->is_done());
    if (!sink->status().ok()) {
      EXPECT_THAT(sink->status(), StatusIs(absl::StatusCode::kUnavailable));
    }
  }
}

TEST(EngineTest, ModelsAreFoundByNameAndDescribed) {
  const auto engine = EngineWith({Source("llama", "llama/plain")});
  EXPECT_OK(engine->GetModel(""));
  ASSERT_OK(engine->LoadModel(Source("bert", "bert/plain")));
  EXPECT_THAT(engine->LoadModel(Source("bert", "bert/plain")),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(engine->GetModel(""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bert, llama")));
  EXPECT_THAT(engine->GetModel("nope"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("loaded: bert, llama")));
  EXPECT_THAT(Start(*engine, Greedy("nope", {1}))->Wait(), StatusIs(absl::StatusCode::kNotFound));

  const std::vector<ModelDescription> models = engine->ListModels();
  ASSERT_THAT(models, SizeIs(2));
  EXPECT_EQ(models[0].kind, "encoder");
  EXPECT_TRUE(models[0].can_encode);
  EXPECT_FALSE(models[0].can_generate);
  EXPECT_GT(models[0].embedding_size, 0);
  EXPECT_EQ(models[1].architecture, "llama");
  EXPECT_EQ(models[1].vocab_size, 98);
  EXPECT_EQ(models[1].max_tokens, 140);
  EXPECT_THAT(models[1].kv_cache_bytes, AllOf(Gt(0), ::testing::Le(4 << 20)));
  EXPECT_EQ(models[1].tokenizer_kind, "ByteLevelBPE");
}

TEST(EngineTest, AModelSaysWhatItCanDoInstead) {
  const auto engine = EngineWith({Source("llama", "llama/plain"), Source("bert", "bert/plain")});
  EXPECT_THAT(Start(*engine, Greedy("bert", {1}))->Wait(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "model \"bert\" is an encoder; it serves Encode"));
  EncodeRequest request;
  request.model = "llama";
  request.inputs = {TokenIds{1}};
  EXPECT_THAT(Encode(*engine, request), StatusIs(absl::StatusCode::kFailedPrecondition,
                                                 HasSubstr("is a decoder; it serves Generate")));
}

TEST(EngineTest, LoadsAndUnloadsWhileItServes) {
  const auto engine = EngineWith({Source("llama", "llama/plain")});
  const Golden golden("llama/plain");
  std::atomic<bool> stop = false;
  std::thread load([&] {
    while (!stop) {
      std::vector<double> progress;
      EXPECT_OK(engine->LoadModel(Source("bert", "bert/plain"),
                                  [&](double p) { progress.push_back(p); }));
      EXPECT_THAT(progress, Each(AllOf(::testing::Ge(0), ::testing::Le(1))));
      EXPECT_THAT(progress, Not(IsEmpty()));
      EncodeRequest request;
      request.model = "bert";
      request.inputs = {TokenIds{1, 2, 3}};
      EXPECT_OK(Encode(*engine, request));
      EXPECT_OK(engine->UnloadModel("bert"));
      EXPECT_THAT(Encode(*engine, request), StatusIs(absl::StatusCode::kNotFound));
    }
  });
  for (int i = 0; i < 10; ++i) {
    const auto sink = Start(*engine, Greedy("llama", golden.Ids(17, "input_ids")));
    EXPECT_OK(sink->Wait());
    EXPECT_EQ(sink->ids(), golden.Ids(17, "greedy_ids"));
  }
  stop = true;
  load.join();
  EXPECT_THAT(engine->UnloadModel("bert"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(engine->ListModels(), SizeIs(1));
}

TEST(EngineTest, UnloadingWaitsForTheModelsRequests) {
  const auto engine = EngineWith({Source("llama", "llama/plain")});
  const auto sink = Start(*engine, Endless());
  sink->WaitForChunks(1);
  ASSERT_OK(engine->UnloadModel("llama"));
  EXPECT_TRUE(sink->is_done());
  EXPECT_OK(sink->status());
}

// A copy of a golden's checkpoint in a folder of its own.
class PackedCacheEngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "engine_test.XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    fs::copy(TestDataPath("goldens/llama/plain"), folder_ / "llama");
    options_.packed_cache = "";
  }
  void TearDown() override { fs::remove_all(folder_); }

  // The tokens of a model loaded with `options_`.
  TokenIds Tokens(std::optional<DataType> dtype = DataType::kFloat32) {
    const auto engine =
        EngineWith({{.name = "llama", .path = folder_ / "llama", .dtype = dtype}}, options_);
    const auto sink = Start(*engine, Greedy("llama", Golden("llama/plain").Ids(17, "input_ids")));
    EXPECT_OK(sink->Wait());
    return sink->ids();
  }

  static std::vector<fs::path> PackedFiles(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".packed") files.push_back(entry.path());
    }
    return files;
  }

  // Another for a file that took its place.
  static ino_t InodeOf(const fs::path& file) {
    struct stat status;
    CHECK_EQ(stat(file.c_str(), &status), 0);
    return status.st_ino;
  }

  fs::path folder_;
  EngineOptions options_ = TestOptions();
};

TEST_F(PackedCacheEngineTest, TheSecondStartMapsWhatTheFirstWrote) {
  const TokenIds first = Tokens();
  const std::vector<fs::path> files = PackedFiles(folder_ / "llama");
  ASSERT_THAT(files, SizeIs(1));
  EXPECT_THAT(files[0].filename().string(), StartsWith("model.f32-"));
  const ino_t written = InodeOf(files[0]);
  EXPECT_EQ(Tokens(), first);
  EXPECT_EQ(InodeOf(files[0]), written);
  EXPECT_EQ(first, Golden("llama/plain").Ids(17, "greedy_ids"));
  // Other types of weights have files of their own.
  Tokens(DataType::kInt8);
  EXPECT_THAT(PackedFiles(folder_ / "llama"), SizeIs(2));
  EXPECT_EQ(InodeOf(files[0]), written);
}

TEST_F(PackedCacheEngineTest, AFileForAnotherCheckpointIsWrittenAnew) {
  const TokenIds expected = Tokens();
  const fs::path file = PackedFiles(folder_ / "llama").at(0);
  const auto stale = [&] {
    const ino_t written = InodeOf(file);
    EXPECT_EQ(Tokens(), expected);
    EXPECT_NE(InodeOf(file), written);
  };
  // Touched; with another config; damaged; cut short; no file of ours at all.
  const fs::path weights = folder_ / "llama/model.safetensors";
  fs::last_write_time(weights, fs::last_write_time(weights) + std::chrono::nanoseconds(1));
  stale();
  std::ofstream(folder_ / "llama/config.json", std::ios::app) << "\n";
  stale();
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(-3, std::ios::end)
      << "?";
  stale();
  fs::resize_file(file, fs::file_size(file) / 2);
  stale();
  std::ofstream(file) << "not ours";
  fs::permissions(file, fs::perms::others_write, fs::perm_options::add);
  stale();
  EXPECT_THAT(PackedFiles(folder_ / "llama"), SizeIs(1));
}

TEST_F(PackedCacheEngineTest, AnotherFolderMayHoldTheFiles) {
  fs::create_directory(folder_ / "cache");
  options_.packed_cache = (folder_ / "cache").string();
  const TokenIds first = Tokens();
  ASSERT_THAT(PackedFiles(folder_ / "cache"), SizeIs(1));
  EXPECT_THAT(PackedFiles(folder_ / "cache")[0].filename().string(), StartsWith("llama-"));
  EXPECT_EQ(Tokens(), first);
  // A model of the same name elsewhere has a file of its own.
  fs::create_directory(folder_ / "other");
  fs::rename(folder_ / "llama", folder_ / "other/llama");
  fs::create_directory_symlink(folder_ / "other/llama", folder_ / "llama");
  Tokens();
  EXPECT_THAT(PackedFiles(folder_ / "cache"), SizeIs(2));
  EXPECT_THAT(PackedFiles(folder_ / "llama"), IsEmpty());
}

TEST_F(PackedCacheEngineTest, WhatCannotBeWrittenDoesNotStopTheServer) {
  const TokenIds expected = Golden("llama/plain").Ids(17, "greedy_ids");
  options_.packed_cache = (folder_ / "absent").string();
  EXPECT_EQ(Tokens(), expected);
  EXPECT_FALSE(fs::exists(folder_ / "absent"));
  options_.packed_cache = (folder_ / "llama/config.json").string();
  EXPECT_EQ(Tokens(), expected);
}

TEST_F(PackedCacheEngineTest, TwoMayStartAtOnce) {
  const TokenIds expected = Golden("llama/plain").Ids(17, "greedy_ids");
  for (int round = 0; round < 2; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { EXPECT_EQ(Tokens(), expected); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(PackedFiles(folder_ / "llama"), SizeIs(1));
  }
}

TEST(EngineTest, AModelThatCannotBeLoadedLeavesNothingBehind) {
  const auto engine = EngineWith({});
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(engine->LoadModel({.name = "none", .path = TestDataPath("goldens/none")}),
                StatusIs(absl::StatusCode::kNotFound));
  }
  ModelSource source = Source("llama", "llama/plain");
  source.max_tokens = 141;
  EXPECT_THAT(engine->LoadModel(source),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 140")));
  source.max_tokens = 50;
  ASSERT_OK(engine->LoadModel(source));
  EXPECT_THAT(Start(*engine, Greedy("llama", TokenIds(50, 1)))->Wait(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("50 tokens"), HasSubstr("takes 49"))));
}

TEST(EngineTest, ACacheWithoutABlockIsRefused) {
  EngineOptions options = TestOptions();
  options.kv_cache_bytes = 100;
  const auto engine = EngineWith({}, options);
  EXPECT_THAT(engine->LoadModel(Source("llama", "llama/plain")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--kv_cache_bytes")));
}

TEST(EngineTest, TokenizesAndDetokenizes) {
  const auto engine = EngineWith({Source("bert", "bert/plain")});
  absl::Notification tokenized, detokenized;
  absl::StatusOr<TokenizedText> tokens;
  engine->Tokenize("bert", "the caf\xC3\xA9 the", std::nullopt, true,
                   [&](absl::StatusOr<TokenizedText> t) {
                     tokens = std::move(t);
                     tokenized.Notify();
                   });
  tokenized.WaitForNotification();
  ASSERT_OK(tokens);
  ASSERT_THAT(tokens->ids, SizeIs(Gt(4)));
  EXPECT_TRUE(tokens->special.front());
  EXPECT_EQ(tokens->tokens.size(), tokens->ids.size());
  const size_t last = tokens->ids.size() - 2;
  EXPECT_EQ(tokens->byte_offsets[last].second, 13);
  EXPECT_EQ(tokens->code_point_offsets[last].second, 12) << "an accent is two bytes";

  absl::StatusOr<std::string> text;
  engine->Detokenize("bert", {0, -5}, false, [&](absl::StatusOr<std::string> t) {
    text = std::move(t);
    detokenized.Notify();
  });
  detokenized.WaitForNotification();
  EXPECT_THAT(text, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-5")));
}

// A hundred sheets of a megapixel each: a second or more of decoding, with one thread for it.
TEST(EngineTest, TextsDoNotWaitForImages) {
  const auto engine =
      EngineWith({Source("vit", "vit/classifier"), Source("bert", "bert/masked_lm")});
  ClassifyRequest images;
  images.model = "vit";
  images.inputs.assign(100, ImageFile{attendant::testing::ReadFileOrDie(
                                TestDataPath("../deploy/models/shapes/held_out.jpg"))});
  absl::Notification classified, filled;
  engine->Classify(std::move(images), [&](absl::StatusOr<ClassifyResult> result) {
    EXPECT_OK(result.status());
    EXPECT_TRUE(filled.HasBeenNotified());
    classified.Notify();
  });
  FillMaskRequest text;
  text.model = "bert";
  text.inputs.emplace_back(std::string("the [MASK] eats"));
  engine->FillMask(std::move(text), [&](absl::StatusOr<FillMaskResult> result) {
    EXPECT_OK(result.status());
    filled.Notify();
  });
  classified.WaitForNotification();
}

TEST(EngineTest, BeatsWhileIdle) {
  const auto engine = EngineWith({});
  const absl::Time start = absl::Now();
  while (engine->Stats().last_heartbeat <= start) {
    ASSERT_LT(absl::Now() - start, absl::Seconds(20));
    absl::SleepFor(absl::Milliseconds(10));
  }
}

TEST(EngineTest, BadOptionsAreRefused) {
  EngineOptions options = TestOptions();
  options.max_batch_tokens = 0;
  EXPECT_THAT(Engine::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_batch_tokens is 0")));
}

// A reader that has room for one block at a time.
class SlowSink : public AttendSink {
 public:
  bool Ready() override { return ready; }
  void OnStarted(AttendStarted s) override { started = std::move(s); }
  void OnBlock(AttendBlock block) override {
    EXPECT_TRUE(ready.exchange(false)) << "a block came that there was no room for";
    num_rows += block.query_end - block.query_begin;
    ++num_blocks;
  }
  void OnDone(absl::Status s, RequestTimings) override {
    status = std::move(s);
    done.Notify();
  }

  std::atomic<bool> ready = true;
  AttendStarted started;
  std::atomic<int> num_blocks = 0;
  std::atomic<int64_t> num_rows = 0;
  absl::Status status;
  absl::Notification done;
};

AttendRequest Attention(int64_t length) {
  constexpr int64_t kHeads = 4, kSize = 64;
  Tensor tensor{.dtype = DataType::kFloat32, .shape = {kHeads, length, kSize}};
  tensor.data.assign(kHeads * length * kSize * sizeof(float), 0);
  AttendRequest request;
  request.source = AttendTensors{.query = tensor, .key = tensor, .value = tensor};
  request.control = std::make_shared<RequestControl>();
  return request;
}

TEST(EngineTest, AttendComputesABlockWhenItsReaderHasRoom) {
  const auto engine = EngineWith({});
  auto sink = std::make_shared<SlowSink>();
  engine->Attend(Attention(3000), sink);
  int num_seen = 0;
  while (!sink->done.HasBeenNotified()) {
    if (sink->num_blocks == num_seen) {
      absl::SleepFor(absl::Milliseconds(1));
      continue;
    }
    num_seen = sink->num_blocks;
    sink->ready = true;
    engine->Wake();
  }
  EXPECT_OK(sink->status);
  EXPECT_THAT(sink->started.output_shape, ElementsAre(4, 3000, 64));
  EXPECT_GE(sink->num_blocks, 3) << "each is at most 1 MiB";
}

TEST(EngineTest, ACancelledAttendEndsThoughItsReaderHasNoRoom) {
  const auto engine = EngineWith({});
  auto sink = std::make_shared<SlowSink>();
  sink->ready = false;
  AttendRequest request = Attention(10);
  const auto control = request.control;
  engine->Attend(std::move(request), sink);
  control->cancelled = true;
  engine->Wake();
  sink->done.WaitForNotification();
  EXPECT_THAT(sink->status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(sink->num_blocks, 0);
}

// The 200 tokens that llama2.c's own test expects of this model.
TEST(EngineTest, TellsTheStoryThatStories260KIsKnownFor) {
  const auto model = SharedDataPath("models/stories260K");
  const auto vectors = SharedDataPath("vectors/models/stories260K.json");
  if (!model.has_value() || !vectors.has_value()) GTEST_SKIP() << "../shared is absent";
  const auto engine =
      EngineWith({{.name = "stories", .path = *model, .dtype = DataType::kFloat32}});
  GenerateRequest request = Greedy("stories", {1}, 200);
  const auto sink = Start(*engine, request);
  ASSERT_OK(sink->Wait());
  const std::string json = ::attendant::testing::ReadFileOrDie(*vectors);
  // As JSON spells it, without the line breaks that it escapes.
  std::string story = sink->text();
  EXPECT_THAT(story, ::testing::StartsWith("Once upon a time, there was a little girl named Lily. "
                                           "She loved to play outside in the park."));
  std::string escaped;
  for (const char c : story.substr(0, 500)) {
    if (c == '\n') {
      escaped += "\\n";
    } else if (c == '"') {
      escaped += "\\\"";
    } else {
      escaped += c;
    }
  }
  EXPECT_THAT(json, HasSubstr(escaped));
}

}  // namespace
}  // namespace attendant::engine
