// Beam searches through the runner, the scheduler and the cache, over a fake decoder that notices a
// block which is not the beam's own.

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/generate_runner.h"
#include "engine/kernels/softmax.h"
#include "engine/sampler/beam_search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;

constexpr int32_t kBlockSize = 4;
constexpr int32_t kVocabSize = FakeTokenizer::kFirstPiece;
constexpr int32_t kEos = FakeTokenizer::kEos;

// A runner over a decoder without a favourite: what follows is random, but the same after the same.
class World {
 public:
  explicit World(int32_t num_blocks = 200, int32_t max_running_sequences = 16,
                 int32_t max_logit_rows = 16)
      : model_(FakeDecoderModel(std::make_unique<FakeTokenizer>(), kVocabSize)),
        decoder_(kVocabSize, kBlockSize, [](absl::Span<const int32_t>) { return 0; }),
        runner_(
            decoder_, context_,
            {.scheduler = {.max_batch_tokens = 32, .max_running_sequences = max_running_sequences},
             .num_blocks = num_blocks,
             .block_size = kBlockSize,
             .max_logit_rows = max_logit_rows}) {
    model_->generation_limits.block_size = kBlockSize;
    model_->generation_limits.cache_tokens = int64_t{num_blocks} * kBlockSize;
    decoder_.change_logits = ChangeLogits;
  }

  // Some thirty letters are likely, and now and then the end.
  static void ChangeLogits(absl::Span<const int32_t> prefix, absl::Span<float> logits) {
    uint32_t seed = 17;
    for (const int32_t token : prefix) seed = (seed ^ static_cast<uint32_t>(token)) * 2654435761u;
    std::mt19937 random(seed);
    std::fill(logits.begin(), logits.end(), -20.0f);
    for (int32_t id = 'a'; id <= 'z'; ++id) logits[id] = static_cast<float>(random() % 4096) / 1024;
    logits[kEos] = static_cast<float>(random() % 4096) / 1024;
  }

  std::shared_ptr<RecordingSink> Add(GenerateRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    if (request.control == nullptr) request.control = std::make_shared<RequestControl>();
    auto job = PrepareGenerate(std::move(request), sink, InFlight(model_), absl::Now(), 1);
    if (job.ok()) {
      runner_.Add(*std::move(job));
    } else {
      sink->OnDone(job.status());
    }
    return sink;
  }

  bool Step() {
    runner_.EndOverdue(absl::UnixEpoch());
    return runner_.Step([](const StepReport&) {});
  }

  void Finish() {
    while (Step()) {
    }
    EXPECT_FALSE(runner_.has_jobs());
    EXPECT_EQ(runner_.cache_usage_ratio(), 0);
    EXPECT_EQ(model_->num_in_flight.load(), 0);
  }

  std::shared_ptr<RecordingSink> Run(GenerateRequest request) {
    auto sink = Add(std::move(request));
    Finish();
    return sink;
  }

  LoadedModel& model() { return *model_; }
  FakeDecoder& decoder() { return decoder_; }
  GenerateRunner& runner() { return runner_; }

 private:
  std::shared_ptr<LoadedModel> model_;
  FakeDecoder decoder_;
  KernelContext context_{/*num_threads=*/2, /*pin_threads=*/false};
  GenerateRunner runner_;
};

GenerateRequest Search(std::string prompt, int32_t num_beams, int32_t num_sequences = 1) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.num_beams = num_beams;
  request.num_sequences = num_sequences;
  request.max_new_tokens = 12;
  return request;
}

// The search alone, without a runner.
std::vector<BeamSearch::Hypothesis> Expected(const GenerateRequest& request) {
  BeamSearch search(
      {.params = {.num_beams = *request.num_beams,
                  .length_penalty = request.length_penalty.value_or(1),
                  .early_stopping = request.early_stopping.value_or(EarlyStopping::kFalse)},
       .end_tokens = {kEos},
       .max_new_tokens = *request.max_new_tokens});
  while (!search.is_done()) {
    for (size_t beam = 0; beam < search.live().size(); ++beam) {
      std::vector<int32_t> tokens;
      for (const char c : std::get<std::string>(request.prompt)) tokens.push_back(c);
      for (const ScoredToken& token : search.live()[beam].tokens) tokens.push_back(token.id);
      std::vector<float> row(kVocabSize);
      World::ChangeLogits(tokens, absl::MakeSpan(row));
      const float normalizer = LogSumExp(row);
      for (float& logit : row) logit -= normalizer;
      search.Score(static_cast<int32_t>(beam), row, row);
    }
    EXPECT_OK(search.Advance());
  }
  return {search.hypotheses().begin(), search.hypotheses().end()};
}

void ExpectIsTheSearch(const RecordingSink& sink, const GenerateRequest& request) {
  ASSERT_OK(sink.status());
  const auto expected = Expected(request);
  const int num_sequences = *request.num_sequences;
  ASSERT_EQ(sink.num_finished(), num_sequences);
  for (int i = 0; i < num_sequences; ++i) {
    std::vector<int32_t> ids;
    std::string text;
    for (const ScoredToken& token : expected[i].tokens) {
      ids.push_back(token.id);
      if (token.id != kEos) text += static_cast<char>(token.id);
    }
    EXPECT_EQ(sink.ids(i), ids);
    EXPECT_EQ(sink.text(i), text);
    const GenerateFinished& finished = sink.finished(i);
    EXPECT_EQ(*finished.score, expected[i].score);
    EXPECT_EQ(finished.usage.output_tokens, ids.size());
    EXPECT_EQ(finished.reason, ids.back() == kEos ? FinishReason::kEos : FinishReason::kLength);
  }
}

TEST(BeamGenerationTest, GivesTheHypothesesOfTheSearchTheBestFirst) {
  for (const int32_t num_beams : {2, 3, 5, 16}) {
    for (const EarlyStopping early_stopping :
         {EarlyStopping::kFalse, EarlyStopping::kTrue, EarlyStopping::kNever}) {
      World world;
      GenerateRequest request = Search("hello", num_beams, std::min(num_beams, 4));
      request.early_stopping = early_stopping;
      request.length_penalty = 0.8f;
      const auto sink = world.Run(request);
      ExpectIsTheSearch(*sink, request);
      EXPECT_EQ(sink->started().beam_search.num_beams, num_beams);
      EXPECT_EQ(sink->started().sampling.temperature, 0);
      for (int i = 1; i < std::min(num_beams, 4); ++i)
        EXPECT_LE(*sink->finished(i).score, *sink->finished(i - 1).score);
    }
  }
}

TEST(BeamGenerationTest, ThePromptIsComputedOnceForAllBeams) {
  World world;
  GenerateRequest request = Search(std::string(30, 'p'), 4);
  request.ignore_eos = true;
  world.Run(request);
  EXPECT_LE(world.decoder().num_computed_tokens(), 30 + 4 * 12);
}

TEST(BeamGenerationTest, ALogitRowAtATimeIsEnough) {
  World world(200, 16, /*max_logit_rows=*/1);
  const GenerateRequest request = Search("rows", 4, 2);
  ExpectIsTheSearch(*world.Run(request), request);
}

// The claim that matters most, for beams: whatever else runs, and however often they are preempted.
TEST(BeamGenerationTest, ASearchIsTheSameAloneAndAmongOthersAndWhenPreempted) {
  World world(/*num_blocks=*/48, /*max_running_sequences=*/14);
  std::vector<std::pair<GenerateRequest, std::shared_ptr<RecordingSink>>> searches;
  for (int i = 0; i < 10; ++i) {
    GenerateRequest request = Search(
        absl::StrCat(std::string(3 + 2 * i, static_cast<char>('a' + i % 3)), i), 2 + i % 4, 2);
    request.max_new_tokens = 30;
    searches.emplace_back(request, world.Add(request));
    GenerateRequest greedy;
    greedy.prompt = absl::StrCat("greedy", i);
    greedy.max_new_tokens = 30;
    greedy.ignore_eos = true;
    world.Add(greedy);
  }
  world.Finish();
  EXPECT_THAT(world.runner().num_preemptions(), Gt(0));
  for (const auto& [request, sink] : searches) ExpectIsTheSearch(*sink, request);
}

TEST(BeamGenerationTest, StreamsWhatIsCertainAsSoonAsItIs) {
  int num_early = 0;
  for (int i = 0; i < 20; ++i) {
    World world;
    GenerateRequest request = Search(absl::StrCat("prompt ", i), 3, 3);
    request.max_new_tokens = 40;
    const auto sink = world.Add(request);
    while (!sink->is_done()) {
      ASSERT_TRUE(world.Step());
      if (sink->is_done()) break;
      num_early += !sink->ids(0).empty();
      EXPECT_TRUE(sink->ids(1).empty()) << "the others come in the end";
    }
    ExpectIsTheSearch(*sink, request);  // so that what was sent was right
  }
  EXPECT_GT(num_early, 20);
}

TEST(BeamGenerationTest, ACancelledSearchFreesEverythingBeforeTheNextStep) {
  World world;
  GenerateRequest request = Search("hello", 4);
  request.max_new_tokens = 100;
  request.ignore_eos = true;
  request.control = std::make_shared<RequestControl>();
  const auto sink = world.Add(request);
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(world.Step());
  EXPECT_GT(world.runner().cache_usage_ratio(), 0);
  request.control->cancelled = true;
  EXPECT_FALSE(world.Step());
  EXPECT_THAT(sink->status(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(world.runner().cache_usage_ratio(), 0);
  EXPECT_FALSE(world.runner().has_jobs());
}

TEST(BeamGenerationTest, TokensHaveTheirOwnLogProbability) {
  World world;
  GenerateRequest request = Search("hello", 3);
  request.logprobs = true;
  request.prompt_logprobs = true;
  request.length_penalty = 0;
  const auto sink = world.Run(request);
  float sum = 0;
  for (const GeneratedToken& token : sink->tokens()) sum += token.logprob;
  EXPECT_NEAR(sum, *sink->finished().score, 1e-4);
  EXPECT_EQ(sink->started().prompt_tokens.size(), 5);
}

TEST(BeamGenerationTest, TheCheckpointsSearchIsTheDefaultUnlessTheRequestSamples) {
  World world;
  world.model().generation.beam_search = {.num_beams = 3, .early_stopping = EarlyStopping::kTrue};
  world.model().generation.num_sequences = 2;
  GenerateRequest request;
  request.prompt = std::string("hello");
  request.max_new_tokens = 12;
  const auto searched = world.Run(request);
  EXPECT_EQ(searched->started().beam_search.num_beams, 3);
  EXPECT_EQ(searched->num_finished(), 2);
  request.temperature = 0.5f;
  const auto sampled = world.Run(request);
  EXPECT_EQ(sampled->started().beam_search.num_beams, 1);
  world.model().generation_limits.max_beams = 2;
  request.temperature.reset();
  EXPECT_EQ(world.Run(request)->started().beam_search.num_beams, 2) << "the server's limit";
}

TEST(BeamGenerationTest, AForcedBeginningAndEndAreSearchedAsOne) {
  World world;
  world.model().generation.constraints.forced_bos_token_id = 'x';
  world.model().generation.constraints.forced_eos_token_ids = {kEos};
  GenerateRequest request = Search("h", 3, 3);
  request.max_new_tokens = 5;
  request.min_new_tokens = 4;
  const auto sink = world.Run(request);
  ASSERT_EQ(sink->num_finished(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(sink->text(i).front(), 'x');
    EXPECT_EQ(sink->ids(i).size(), 5);
    EXPECT_EQ(sink->finished(i).reason, FinishReason::kEos);
  }
  request.max_new_tokens = 1;
  EXPECT_EQ(world.Run(request)->num_finished(), 1) << "nothing else is possible";
}

TEST(BeamGenerationTest, WhatIsImpossibleEndsTheRequestAlone) {
  World world;
  for (int32_t id = 0; id < kVocabSize; ++id)
    world.model().generation.constraints.suppress_tokens.push_back(id);
  EXPECT_THAT(world.Run(Search("x", 2))->status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("leaves no token")));
}

TEST(BeamGenerationTest, BadSearchesAreRefusedByField) {
  World world(/*num_blocks=*/20);
  const auto refused = [&](auto change, absl::string_view message) {
    GenerateRequest request = Search("hello", 4);
    change(request);
    EXPECT_THAT(world.Run(std::move(request))->status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(message))));
  };
  refused([](auto& r) { r.num_beams = 17; },
          "beam_search.num_beams: is 17; this server allows 1 to 16 (--max_beams)");
  refused([](auto& r) { r.num_beams = 0; }, "is 0");
  refused([](auto& r) { r.temperature = 0.7f; }, "sampling.temperature: is 0.7");
  refused([](auto& r) { r.num_sequences = 5; }, "num_sequences: is 5");
  refused([](auto& r) { r.stop = {"x"}; }, "stopping.stop");
  refused([](auto& r) { r.top_logprobs = 1; }, "output.top_logprobs");
  refused([](auto& r) { r.length_penalty = 11; }, "beam_search.length_penalty: is 11");
  refused([](auto& r) { r.length_penalty = std::nanf(""); }, "length_penalty: is nan");
  refused([](auto& r) { r.max_new_tokens = 100; }, "105 tokens for each of 4 beams");
  refused([](auto& r) { r.num_beams = 1, r.num_sequences = 2, r.temperature = 0; },
          "more than 1 needs");
  // What is not asked for is cut to what fits.
  GenerateRequest request = Search("hello", 4);
  request.max_new_tokens.reset();
  request.ignore_eos = true;
  const auto sink = world.Run(request);
  ASSERT_OK(sink->status());
  EXPECT_EQ(sink->ids().size(), (1 + 19 / 4) * kBlockSize - 5);
}

}  // namespace
}  // namespace attendant::engine
