// A steady step allocates nothing, and where it is short opens one parallel region: one in which no
// request begins or ends, for models and data types of every kind, through the engine's own loop. A
// step is all that the engine's thread and its team do between two reports of steps - bookkeeping,
// the model, sampling, statistics - but for handing over what was computed: the text of tokens, and
// the message that becomes the caller's. What oneDNN takes for itself is counted apart: it copies
// the arguments of each call.

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/row_product.h"
#include "engine/model/transformer.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/parallel_region_counter.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::Allocations;
using ::attendant::testing::AllocationsAreCounted;
using ::attendant::testing::CountAllocations;
using ::attendant::testing::CountParallelRegions;
using ::attendant::testing::TestDataPath;

// Steps until memory is as large as it gets.
constexpr int kWarmUp = 8;

// The steps of an engine. Written on its thread, and read when that has ended.
class Steps {
 public:
  struct Step {
    bool is_steady = false;
    Allocations allocations;
    int64_t regions = 0;
  };

  // Which steps are to be alike: all of so many tokens of so many sequences.
  Steps(int32_t num_tokens, int32_t num_sequences)
      : num_tokens_(num_tokens), num_sequences_(num_sequences) {}

  // Holds the engine in its first step until the requests that are to run together are there.
  void Open() { open_.Notify(); }

  void End(const StepReport& report) {
    open_.WaitForNotification();
    if (num_steps_ < steps_.size()) {
      steps_[num_steps_++] = {
          report.num_tokens == num_tokens_ && report.num_sequences == num_sequences_,
          CountAllocations() - begin_, CountParallelRegions() - regions_begin_};
    }
    Begin();
  }
  void Begin() {
    begin_ = CountAllocations();
    regions_begin_ = CountParallelRegions();
  }

  // Every steady step but the first few and the last, with which a request ends; at least `least`
  // of them: no allocations, and one parallel region where it is to be one.
  void Expect(int least, bool one_region) const {
    int num_steady = 0, num_checked = 0;
    int64_t of_onednn = 0;
    for (size_t i = 0; i + 1 < num_steps_; ++i) {
      if (!steps_[i].is_steady || num_steady++ < kWarmUp) continue;
      ++num_checked;
      EXPECT_EQ(steps_[i].allocations.own, 0) << "in step " << i << " of " << num_steps_;
      of_onednn += steps_[i].allocations.onednn;
      if (one_region) {
        EXPECT_EQ(steps_[i].regions, 1) << "in step " << i << " of " << num_steps_;
      }
    }
    ASSERT_GE(num_checked, least);
    ::testing::Test::RecordProperty("of_onednn_a_step", absl::StrCat(of_onednn / num_checked));
  }

 private:
  const int32_t num_tokens_;
  const int32_t num_sequences_;
  std::array<Step, 512> steps_;
  size_t num_steps_ = 0;
  Allocations begin_;
  int64_t regions_begin_ = 0;
  absl::Notification open_;
};

class Sink : public TokenSink {
 public:
  explicit Sink(Steps& steps) : steps_(steps) {}

  void OnStarted(GenerateStarted) override {}
  // The next step begins when the last of these has got what was computed for it.
  void OnChunk(GenerateChunk) override { steps_.Begin(); }
  void OnFinished(GenerateFinished) override {}
  void OnDone(absl::Status status) override {
    status_ = std::move(status);
    done_.Notify();
  }

  absl::Status Wait() {
    done_.WaitForNotification();
    return status_;
  }

 private:
  Steps& steps_;
  absl::Status status_;
  absl::Notification done_;
};

std::unique_ptr<Engine> EngineWith(const std::string& golden, DataType dtype, Steps& steps,
                                   int32_t max_batch_tokens) {
  EngineOptions options;
  options.num_threads = 2;
  options.pin_threads = false;
  options.kv_cache_bytes = 4 << 20;
  options.max_batch_tokens = max_batch_tokens;
  auto engine = Engine::Create(options, [&](const StepReport& report) { steps.End(report); });
  EXPECT_OK(engine.status());
  EXPECT_OK((*engine)->LoadModel(
      // Too long for a std::string to hold without memory of its own.
      {.name = absl::StrCat("a model with a long name: ", golden),
       .path = TestDataPath(absl::StrCat("goldens/", golden)),
       .dtype = dtype}));
  return *std::move(engine);
}

// Whether products of so many rows are none of oneDNN's primitives, which open their own regions:
// those of integers, and of a few rows where oneDNN packs weights as our kernel reads them.
bool HasOwnKernels(DataType dtype, int num_rows) {
  if (dtype == DataType::kInt8 || dtype == DataType::kInt4) return true;
  return num_rows <= kMaxProductRows && (hwy::SupportedTargets() & HWY_AVX3) != 0;
}

TokenIds Tokens(int count, int first) {
  TokenIds ids;
  for (int i = 0; i < count; ++i) ids.push_back(1 + (first + 7 * i) % 90);
  return ids;
}

enum class Choosing { kGreedy, kSampled, kPenalized };

GenerateRequest Request(int index, Choosing choosing) {
  GenerateRequest request;
  request.prompt = Tokens(5, index);
  request.max_new_tokens = request.min_new_tokens = 100;
  request.ignore_eos = true;
  request.temperature = choosing == Choosing::kGreedy ? 0.0f : 0.8f;
  if (choosing == Choosing::kSampled) {
    request.top_k = 20;
    request.top_p = 0.9f;
    request.min_p = 0.01f;
  }
  if (choosing == Choosing::kPenalized) {
    request.repetition_penalty = 1.2f;
    request.presence_penalty = 0.1f;
    request.frequency_penalty = 0.1f;
    request.no_repeat_ngram_size = 3;
    request.logit_bias = {{3, 1.0f}};
  }
  return request;
}

using Parameters = std::tuple<std::string, DataType>;

std::string NameOf(const ::testing::TestParamInfo<Parameters>& info) {
  std::string name = std::get<0>(info.param);
  name.resize(name.find('/'));
  return absl::StrCat(name, "_", std::string(DataTypeName(std::get<1>(info.param))));
}

const auto kDataTypes =
    ::testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kInt8, DataType::kInt4);

class SteadyStateTest : public ::testing::TestWithParam<Parameters> {
 protected:
  void SetUp() override {
    if (!AllocationsAreCounted()) GTEST_SKIP() << "a sanitizer has the heap";
  }

  void Generate(int num_streams, const std::vector<Choosing>& choosing, int num_beams = 1) {
    const auto& [golden, dtype] = GetParam();
    Steps steps(num_streams * num_beams, num_streams * num_beams);
    std::unique_ptr<Engine> engine = EngineWith(golden, dtype, steps, 256);
    std::vector<std::shared_ptr<Sink>> sinks;
    for (int i = 0; i < num_streams; ++i) {
      sinks.push_back(std::make_shared<Sink>(steps));
      GenerateRequest request = Request(i, choosing[i % choosing.size()]);
      if (num_beams > 1) {
        request.num_beams = num_beams;
        request.temperature.reset();
      }
      engine->Generate(std::move(request), sinks.back());
    }
    // Its one thread for tokenizing takes them in turn.
    absl::Notification tokenized;
    engine->Tokenize("", "a", std::nullopt, false, [&](const auto&) { tokenized.Notify(); });
    tokenized.WaitForNotification();
    steps.Open();
    for (const auto& sink : sinks) ASSERT_OK(sink->Wait());
    engine.reset();  // and so the thread that writes what is read now
    // Over the borders of several blocks of 16 tokens.
    steps.Expect(60, HasOwnKernels(dtype, num_streams * num_beams));
  }
};

class SteadyDecoderTest : public SteadyStateTest {};

INSTANTIATE_TEST_SUITE_P(
    Models, SteadyDecoderTest,
    ::testing::Combine(::testing::Values("llama/plain", "gpt2/plain", "marian/shared"), kDataTypes),
    NameOf);

TEST_P(SteadyDecoderTest, SeveralStreams) {
  Generate(4, {Choosing::kGreedy, Choosing::kSampled, Choosing::kPenalized});
}

// Products of one row, and of more than a few, have kernels of their own.
class SteadyStreamsTest : public SteadyStateTest {};

INSTANTIATE_TEST_SUITE_P(Models, SteadyStreamsTest,
                         ::testing::Combine(::testing::Values("llama/plain"), kDataTypes), NameOf);

TEST_P(SteadyStreamsTest, OneAlone) { Generate(1, {Choosing::kGreedy}); }

TEST_P(SteadyStreamsTest, Many) { Generate(12, {Choosing::kGreedy, Choosing::kSampled}); }

class SteadyBeamsTest : public SteadyStateTest {};

INSTANTIATE_TEST_SUITE_P(Models, SteadyBeamsTest,
                         ::testing::Combine(::testing::Values("marian/shared"), kDataTypes),
                         NameOf);

TEST_P(SteadyBeamsTest, FourBeams) { Generate(1, {Choosing::kGreedy}, 4); }

class SteadyEncoderTest : public SteadyStateTest {};

INSTANTIATE_TEST_SUITE_P(Models, SteadyEncoderTest,
                         ::testing::Combine(::testing::Values("bert/plain", "marian/shared"),
                                            kDataTypes),
                         NameOf);

// One request of many inputs, a few of them in each step.
TEST_P(SteadyEncoderTest, InputsOfOneLength) {
  constexpr int kLength = 20, kInputsAStep = 3, kSteps = 40;
  const auto& [golden, dtype] = GetParam();
  Steps steps(kLength * kInputsAStep, kInputsAStep);
  std::unique_ptr<Engine> engine = EngineWith(golden, dtype, steps, kLength * kInputsAStep);
  EncodeRequest request;
  for (int i = 0; i < kInputsAStep * kSteps; ++i) request.inputs.push_back(Tokens(kLength, i));
  absl::Status status;
  absl::Notification done;
  steps.Open();
  engine->Encode(std::move(request), [&](absl::StatusOr<EncodeResult> result) {
    status = result.status();
    done.Notify();
  });
  done.WaitForNotification();
  ASSERT_OK(status);
  engine.reset();
  steps.Expect(kSteps - kWarmUp - 2, HasOwnKernels(dtype, kLength * kInputsAStep));
}

// The model alone, step by step.
class SteadyForwardTest : public SteadyStateTest {};

INSTANTIATE_TEST_SUITE_P(Models, SteadyForwardTest,
                         ::testing::Combine(::testing::Values("bert/plain", "llama/plain"),
                                            kDataTypes),
                         NameOf);

TEST_P(SteadyForwardTest, TwoSequences) {
  constexpr int32_t kBlockSize = 16, kBlocks = 8, kTokens = 30;
  const auto& [golden, dtype] = GetParam();
  KernelContext context(2, /*pin_threads=*/false);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Checkpoint> checkpoint,
                       Checkpoint::Open(TestDataPath(absl::StrCat("goldens/", golden))));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Transformer> model,
                       Transformer::Load(*checkpoint, {.dtype = dtype}, context));
  const bool is_decoder = model->spec().stack == Stack::kDecoder;
  std::unique_ptr<KvCache> cache;
  if (is_decoder) {
    KvCacheOptions options = model->cache_options(kBlockSize);
    options.num_blocks = kBlocks;
    cache = std::make_unique<KvCache>(options);
  }
  const std::vector<int32_t> blocks[2] = {{5, 2, 7, 0}, {1, 4, 3, 6}};
  Batch batch;
  int64_t own = 0;
  for (int32_t step = 0; step < kTokens; ++step) {
    const Allocations before = CountAllocations();
    batch.Clear();
    // A decoder's next token; an encoder's same text again.
    const int32_t length = is_decoder ? 1 : kTokens;
    for (const std::vector<int32_t>& of_sequence : blocks) {
      batch.sequences.push_back({.query_start = batch.num_tokens(), .num_queries = length});
      if (is_decoder) {
        batch.sequences.back().num_past_tokens = step;
        batch.sequences.back().blocks = of_sequence;
        batch.logit_rows.push_back(batch.num_tokens());
      }
      for (int32_t i = 0; i < length; ++i) {
        batch.token_ids.push_back(1 + step);
        batch.positions.push_back(is_decoder ? step : i);
      }
    }
    const ConstMatrix hidden = model->Forward(batch, cache.get());
    if (is_decoder) model->Logits(hidden, batch.logit_rows);
    if (step >= kWarmUp) own += (CountAllocations() - before).own;
  }
  EXPECT_EQ(own, 0);
}

TEST(AllocationCounterTest, CountsWhatIsAllocated) {
  if (!AllocationsAreCounted()) GTEST_SKIP() << "a sanitizer has the heap";
  const Allocations before = CountAllocations();
  const auto one = std::make_unique<std::array<int, 100>>();
  const AlignedBuffer two(1000);
  const std::vector<char> three(one->size() + two.size_bytes());
  EXPECT_GE((CountAllocations() - before).own, 3) << three.data();
}

}  // namespace
}  // namespace attendant::engine
