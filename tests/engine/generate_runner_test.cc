#include "engine/generate_runner.h"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int32_t kBlockSize = 4;
constexpr int32_t kEos = FakeTokenizer::kEos;

// A runner over a fake decoder. `pieces` are the vocabulary's behind the bytes.
class World {
 public:
  struct Options {
    int32_t num_blocks = 200;
    int32_t max_batch_tokens = 64;
    int32_t max_running_sequences = 16;
    int32_t max_logit_rows = 16;
    std::shared_ptr<LoadedModel> model;  // unset: a decoder with the pieces
  };

  World(std::vector<std::string> pieces, FakeDecoder::Next next)
      : World(std::move(pieces), std::move(next), Options()) {}
  World(std::vector<std::string> pieces, FakeDecoder::Next next, const Options& options)
      : vocab_size_(options.model != nullptr
                        ? options.model->generation_limits.vocab_size
                        : FakeTokenizer::kFirstPiece + static_cast<int32_t>(pieces.size())),
        model_(options.model != nullptr
                   ? options.model
                   : FakeDecoderModel(std::make_unique<FakeTokenizer>(std::move(pieces)),
                                      vocab_size_)),
        decoder_(vocab_size_, kBlockSize, std::move(next)),
        runner_(decoder_, context_,
                {.scheduler = {.max_batch_tokens = options.max_batch_tokens,
                               .max_running_sequences = options.max_running_sequences},
                 .num_blocks = options.num_blocks,
                 .block_size = kBlockSize,
                 .max_logit_rows = options.max_logit_rows}) {}

  // Prepares and adds; an error goes to the sink, as in the engine.
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
    runner_.EndOverdue(now);
    return runner_.Step([this](StepReport report) { reports_.push_back(std::move(report)); });
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
  int32_t vocab_size() const { return vocab_size_; }
  const std::vector<StepReport>& reports() const { return reports_; }
  const StepReport& last_report() const { return reports_.back(); }

  absl::Time now = absl::UnixEpoch();

 private:
  const int32_t vocab_size_;
  std::shared_ptr<LoadedModel> model_;
  FakeDecoder decoder_;
  KernelContext context_{/*num_threads=*/2, /*pin_threads=*/false};
  GenerateRunner runner_;
  std::vector<StepReport> reports_;
};

// A model that says `script` after any prompt of `prompt_tokens` tokens, and then ends.
FakeDecoder::Next Say(std::vector<int32_t> script, size_t prompt_tokens) {
  return [script = std::move(script), prompt_tokens](absl::Span<const int32_t> prefix) {
    const size_t index = prefix.size() - prompt_tokens;
    return prefix.size() >= prompt_tokens && index < script.size() ? script[index] : kEos;
  };
}

std::vector<int32_t> Bytes(absl::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

GenerateRequest Prompt(std::string text) {
  GenerateRequest request;
  request.prompt = std::move(text);
  return request;
}

FakeDecoder::Next Hash(int32_t vocab_size) {
  return [vocab_size](absl::Span<const int32_t> prefix) { return HashNext(prefix, vocab_size); };
}

TEST(GenerateRunnerTest, StreamsTheTextUntilTheModelEndsIt) {
  World world({}, Say(Bytes("world"), 6));
  const auto sink = world.Run(Prompt("hello "));
  ASSERT_OK(sink->status());
  EXPECT_EQ(sink->text(), "world");
  EXPECT_THAT(sink->ids(), ElementsAre('w', 'o', 'r', 'l', 'd', kEos));
  const GenerateFinished& finished = sink->finished();
  EXPECT_EQ(finished.reason, FinishReason::kEos);
  EXPECT_EQ(std::get<int32_t>(finished.stop_match), kEos);
  EXPECT_EQ(finished.usage.input_tokens, 6);
  EXPECT_EQ(finished.usage.output_tokens, 6);
  EXPECT_GE(finished.timings.total, finished.timings.time_to_first_token);
  EXPECT_EQ(sink->started().sampling.temperature, 0) << "greedy, as the file says nothing";
  EXPECT_EQ(sink->started().original_tokens, 6);
}

TEST(GenerateRunnerTest, EndsWithLengthAtMaxNewTokens) {
  World world({}, Say(Bytes("world"), 6));
  GenerateRequest request = Prompt("hello ");
  request.max_new_tokens = 3;
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->text(), "wor");
  EXPECT_EQ(sink->finished().reason, FinishReason::kLength);
  EXPECT_EQ(sink->started().stopping.max_new_tokens, 3);
}

TEST(GenerateRunnerTest, TheContextBoundsTheOutput) {
  World world({}, [](absl::Span<const int32_t>) { return 'x'; });
  world.model().generation_limits.context_tokens = 10;
  GenerateRequest request = Prompt("hello ");
  request.max_new_tokens = 100;
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->text(), "xxxx");
  EXPECT_EQ(sink->finished().reason, FinishReason::kLength);

  EXPECT_THAT(world.Run(Prompt("hello world"))->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("11 tokens"), HasSubstr("takes 9"))));
  request = Prompt("hello world");
  request.truncation.side = TruncationSide::kLeft;
  request.max_new_tokens = 4;
  request.echo = true;
  const auto cut = world.Run(std::move(request));
  EXPECT_EQ(cut->text(), " worldxxxx") << "a prompt that is cut leaves room for the output";
  EXPECT_EQ(cut->started().original_tokens, 11);
}

TEST(GenerateRunnerTest, IgnoreEosAndStopTokens) {
  World world({}, Say({'a', kEos, 'b', 'c', 'd'}, 1));
  GenerateRequest request = Prompt("x");
  request.ignore_eos = true;
  request.stop_token_ids = {'c'};
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->text(), "ab") << "special tokens have no text, and a stop token gives none";
  EXPECT_EQ(sink->finished().reason, FinishReason::kStopSequence);
  EXPECT_EQ(std::get<int32_t>(sink->finished().stop_match), 'c');
  EXPECT_EQ(sink->finished().usage.output_tokens, 4);
}

TEST(GenerateRunnerTest, MinNewTokensPutsOffTheEnd) {
  World world({}, [](absl::Span<const int32_t>) { return kEos; });
  GenerateRequest request = Prompt("x");
  request.min_new_tokens = 3;
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->finished().usage.output_tokens, 4);
  EXPECT_EQ(sink->finished().reason, FinishReason::kEos);
}

TEST(GenerateRunnerTest, AStopStringAcrossTokensEndsTheTextAndIsNotPartOfIt) {
  World world({"on", "e S", "TO", "P it"}, Say({258, 259, 260, 261}, 1));
  GenerateRequest request = Prompt("x");
  request.stop = {"never", "STOP"};
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->text(), "one ");
  EXPECT_EQ(sink->finished().reason, FinishReason::kStopSequence);
  EXPECT_EQ(std::get<std::string>(sink->finished().stop_match), "STOP");
}

TEST(GenerateRunnerTest, WhatOnlyBeganAsAStopStringIsGivenInTheEnd) {
  World world({"one ST"}, Say({258}, 1));
  GenerateRequest request = Prompt("x");
  request.stop = {"STOP"};
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->text(), "one ST");
  EXPECT_EQ(sink->finished().reason, FinishReason::kEos);
}

TEST(GenerateRunnerTest, ChunksHoldWholeCharacters) {
  World world({}, Say(Bytes("a\xF0\x9F\x98\x80z"), 1));
  const auto sink = world.Run(Prompt("x"));
  EXPECT_EQ(sink->text(), "a\xF0\x9F\x98\x80z");
  World cut({}, Say(Bytes("a\xF0\x9F"), 1));
  EXPECT_EQ(cut.Run(Prompt("x"))->text(), "a\xEF\xBF\xBD");
}

TEST(GenerateRunnerTest, EchoGivesThePromptFirst) {
  World world({}, Say(Bytes("world"), 6));
  GenerateRequest request = Prompt("hello ");
  request.echo = true;
  EXPECT_EQ(world.Run(std::move(request))->text(), "hello world");
}

TEST(GenerateRunnerTest, LogprobsAndAlternativesComeWithTheTokens) {
  World world({}, Say(Bytes("ab"), 2));
  GenerateRequest request = Prompt("xy");
  request.top_logprobs = 3;
  const auto sink = world.Run(std::move(request));
  const auto tokens = sink->tokens();
  ASSERT_THAT(tokens, SizeIs(3));
  EXPECT_EQ(tokens[0].text, "a");
  ASSERT_THAT(tokens[0].top, SizeIs(3));
  EXPECT_EQ(tokens[0].top[0].id, 'a');
  EXPECT_EQ(tokens[0].top[0].logprob, tokens[0].logprob);
  EXPECT_LT(tokens[0].top[1].logprob, tokens[0].logprob);
  EXPECT_NEAR(*sink->finished().score, tokens[0].logprob + tokens[1].logprob + tokens[2].logprob,
              1e-5);
}

TEST(GenerateRunnerTest, PromptLogprobsComeWithTheStartHoweverThePromptIsCut) {
  const std::string prompt(50, 'p');
  std::vector<float> whole;
  for (const int32_t max_batch_tokens : {64, 16}) {
    World world(
        {}, Say(Bytes("ab"), prompt.size()),
        {.max_batch_tokens = max_batch_tokens, .max_running_sequences = 8, .max_logit_rows = 8});
    world.Run(
        Prompt(prompt));  // so that a shorter way through the cache exists, and must not be taken
    GenerateRequest request = Prompt(prompt);
    request.prompt_logprobs = true;
    request.top_logprobs = 2;
    const auto sink = world.Run(std::move(request));
    ASSERT_OK(sink->status());
    const auto& tokens = sink->started().prompt_tokens;
    ASSERT_THAT(tokens, SizeIs(50));
    EXPECT_EQ(tokens[0].id, 'p');
    EXPECT_THAT(tokens[0].top, IsEmpty());
    std::vector<float> logprobs;
    for (size_t i = 1; i < tokens.size(); ++i) {
      EXPECT_EQ(tokens[i].id, 'p');
      EXPECT_THAT(tokens[i].top, SizeIs(2));
      logprobs.push_back(tokens[i].logprob);
    }
    if (whole.empty()) whole = logprobs;
    EXPECT_EQ(logprobs, whole);
    EXPECT_LE(world.decoder().max_rows_asked(), 8);
    EXPECT_EQ(sink->text(), "ab");
  }
}

TEST(GenerateRunnerTest, APromptOfOneTokenIsScoredToo) {
  World world({}, Say(Bytes("ab"), 1));
  GenerateRequest request = Prompt("x");
  request.prompt_logprobs = true;
  EXPECT_THAT(world.Run(std::move(request))->started().prompt_tokens, SizeIs(1));
}

TEST(GenerateRunnerTest, SamplesOfOnePromptHaveConsecutiveSeedsAndShareThePrompt) {
  for (const bool cache_prefix : {true, false}) {
    World world({}, Hash(258));
    const std::string prompt(41, 'p');
    GenerateRequest request = Prompt(prompt);
    request.temperature = 3;
    request.seed = 100;
    request.max_new_tokens = 12;
    request.num_sequences = 4;
    request.cache_prefix = cache_prefix;
    const auto sink = world.Run(request);
    ASSERT_OK(sink->status());
    EXPECT_LT(world.decoder().num_computed_tokens(), 41 + 4 * 12 + 3 * 10)
        << "the prompt was computed again";
    for (int i = 0; i < 4; ++i) {
      World alone({}, Hash(258));
      GenerateRequest single = request;
      single.num_sequences = 1;
      single.seed = 100 + i;
      EXPECT_EQ(sink->ids(i), alone.Run(single)->ids()) << i;
    }
    EXPECT_NE(sink->ids(0), sink->ids(1));
  }
}

TEST(GenerateRunnerTest, AnUnsetSeedIsReported) {
  World world({}, Hash(258));
  GenerateRequest request = Prompt("x");
  request.temperature = 1;
  request.max_new_tokens = 2;
  EXPECT_EQ(world.Run(std::move(request))->started().sampling.seed, 1)
      << "the one that the engine drew";
}

// The claim that matters most: whatever else runs, however prompts are cut, and however often a
// sequence is preempted, its text is that which it has alone.
TEST(GenerateRunnerTest, ASequenceSaysTheSameAloneAndAmongOthersAndWhenPreempted) {
  World world({}, Hash(256),
              {.num_blocks = 40,
               .max_batch_tokens = 24,
               .max_running_sequences = 12,
               .max_logit_rows = 12});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<std::string> prompts;
  for (int i = 0; i < 16; ++i) {
    prompts.push_back(absl::StrCat(std::string(5 + 3 * i, static_cast<char>('a' + i % 3)), i));
    GenerateRequest request = Prompt(prompts.back());
    request.max_new_tokens = 40;
    request.ignore_eos = true;
    sinks.push_back(world.Add(std::move(request)));
  }
  world.Finish();
  EXPECT_THAT(world.runner().num_preemptions(), Gt(0));
  for (int i = 0; i < 16; ++i) {
    ASSERT_OK(sinks[i]->status());
    EXPECT_EQ(sinks[i]->ids(), world.decoder().Continue(Bytes(prompts[i]), 40)) << i;
    EXPECT_EQ(sinks[i]->finished().usage.output_tokens, 40);
  }
}

TEST(GenerateRunnerTest, AnEqualPrefixIsTakenFromTheCacheUnlessTheRequestOptsOut) {
  World world({}, Hash(256));
  const std::string prompt(42, 'p');
  GenerateRequest request = Prompt(prompt);
  request.max_new_tokens = 5;
  const auto first = world.Run(request);
  const auto second = world.Run(request);
  EXPECT_EQ(first->finished().usage.cached_tokens, 0);
  EXPECT_EQ(second->finished().usage.cached_tokens, 40);
  EXPECT_EQ(second->started().usage.cached_tokens, 40);
  EXPECT_EQ(second->ids(), first->ids());
  request.cache_prefix = false;
  const auto third = world.Run(request);
  EXPECT_EQ(third->finished().usage.cached_tokens, 0);
  EXPECT_EQ(third->ids(), first->ids());
}

TEST(GenerateRunnerTest, ACancelledRequestFreesItsBlocksBeforeTheNextStep) {
  World world({}, Hash(256));
  GenerateRequest request = Prompt("hello");
  request.control = std::make_shared<RequestControl>();
  const auto control = request.control;
  const auto sink = world.Add(std::move(request));
  world.Step();
  world.Step();
  EXPECT_EQ(sink->num_chunks(), 2);
  EXPECT_GT(world.runner().cache_usage_ratio(), 0);
  control->cancelled = true;
  EXPECT_FALSE(world.Step());
  EXPECT_THAT(sink->status(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(world.runner().cache_usage_ratio(), 0);
  EXPECT_EQ(sink->num_chunks(), 2);
}

TEST(GenerateRunnerTest, ADeadlineEndsARequestThatStillWaits) {
  World world({}, Hash(256), {.max_running_sequences = 1});
  GenerateRequest request = Prompt("running");
  request.max_new_tokens = 20;
  const auto running = world.Add(request);
  request.control = std::make_shared<RequestControl>();
  request.control->deadline = world.now + absl::Seconds(1);
  const auto waiting = world.Add(request);
  world.Step();
  EXPECT_FALSE(waiting->is_done());
  EXPECT_EQ(world.runner().next_deadline(), world.now + absl::Seconds(1));
  world.now += absl::Seconds(1);
  world.Step();
  EXPECT_THAT(waiting->status(), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_FALSE(waiting->has_started());
  world.Finish();
  EXPECT_OK(running->status());
}

TEST(GenerateRunnerTest, AStepThatThrowsEndsItsRequestsAndNoOthers) {
  World world({}, Hash(256));
  const auto failed = world.Add(Prompt("hello"));
  world.decoder().before_forward = [] { throw std::runtime_error("no memory"); };
  world.Step();
  EXPECT_THAT(failed->status(), StatusIs(absl::StatusCode::kInternal));
  world.decoder().before_forward = nullptr;
  GenerateRequest request = Prompt("hello");
  request.max_new_tokens = 8;
  request.ignore_eos = true;
  const auto sink = world.Run(std::move(request));
  EXPECT_EQ(sink->ids(), world.decoder().Continue(Bytes("hello"), 8));
}

TEST(GenerateRunnerTest, LogitsThatAreNoNumbersEndTheirRequestAlone) {
  World world({}, Hash(256));
  world.decoder().change_logits = [](absl::Span<const int32_t> prefix, absl::Span<float> logits) {
    if (prefix.size() > 6 && prefix[0] == 'b') logits[3] = std::numeric_limits<float>::quiet_NaN();
  };
  GenerateRequest request = Prompt("good");
  request.max_new_tokens = 8;
  request.ignore_eos = true;
  const auto good = world.Add(request);
  request.prompt = std::string("bad");
  const auto bad = world.Add(request);
  world.Finish();
  EXPECT_OK(good->status());
  EXPECT_THAT(bad->status(), StatusIs(absl::StatusCode::kInternal, HasSubstr("nan")));
  EXPECT_EQ(bad->num_chunks(), 4) << "what was sent stays valid";
}

TEST(GenerateRunnerTest, ARequestThatCouldNeverFitIsRefusedAtOnce) {
  World world({}, Hash(256), {.num_blocks = 4});
  GenerateRequest request = Prompt("hello");
  request.max_new_tokens = 20;
  EXPECT_THAT(world.Run(std::move(request))->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("25 tokens"), HasSubstr("holds 16"),
                             HasSubstr("--kv_cache_bytes"))));
}

TEST(GenerateRunnerTest, BadRequestsAreRefusedByField) {
  World world({}, Hash(256));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](auto change, absl::string_view message) {
    GenerateRequest request = Prompt("hello");
    change(request);
    EXPECT_THAT(world.Run(std::move(request))->status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(message))));
  };
  refused([&](auto& r) { r.temperature = nan; }, "sampling.temperature: is nan");
  refused([&](auto& r) { r.temperature = std::numeric_limits<float>::infinity(); }, "is inf");
  refused([&](auto& r) { r.temperature = -1; }, "sampling.temperature: is -1");
  refused([&](auto& r) { r.top_k = -1; }, "sampling.top_k");
  refused([&](auto& r) { r.top_p = 0; }, "sampling.top_p");
  refused([&](auto& r) { r.min_p = 1.5; }, "sampling.min_p");
  refused([&](auto& r) { r.repetition_penalty = 0; }, "sampling.repetition_penalty");
  refused([&](auto& r) { r.presence_penalty = 3; }, "sampling.presence_penalty");
  refused([&](auto& r) { r.logit_bias = {{258, 1.0f}}; }, "token 258; the vocabulary has 258");
  refused([&](auto& r) { r.logit_bias = {{1, nan}}; }, "sampling.logit_bias");
  refused([&](auto& r) { r.max_new_tokens = 501; }, "is 501; this server allows 1 to 500");
  refused([&](auto& r) { r.max_new_tokens = 0; }, "is 0");
  refused([&](auto& r) { r.stop = {""}; }, "stopping.stop");
  refused([&](auto& r) { r.stop_token_ids = {-1}; }, "stopping.stop_token_ids");
  refused([&](auto& r) { r.num_sequences = 0; }, "num_sequences");
  refused([&](auto& r) { r.prompt = TokenIds{}; }, "no tokens");
  refused([&](auto& r) { r.prompt = TokenIds{1, 258}; },
          "token 1 has id 258; the vocabulary has 258");
  refused([&](auto& r) { r.prompt = std::string(); }, "no tokens");
}

TEST(GenerateRunnerTest, AModelWithoutATokenizerTakesAndGivesIdsAlone) {
  auto model = FakeDecoderModel(nullptr, 256);
  FakeDecoder decoder(256, kBlockSize, Hash(256));
  KernelContext context(1, /*pin_threads=*/false);
  GenerateRunner runner(decoder, context, {.num_blocks = 50, .block_size = kBlockSize});
  const auto run = [&](GenerateRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    request.control = std::make_shared<RequestControl>();
    auto job = PrepareGenerate(std::move(request), sink, InFlight(model), absl::Now(), 1);
    if (!job.ok()) {
      sink->OnDone(job.status());
      return sink;
    }
    runner.Add(*std::move(job));
    while (runner.Step([](const StepReport&) {})) {
    }
    return sink;
  };
  GenerateRequest request;
  request.prompt = TokenIds{1, 2, 3};
  request.max_new_tokens = 5;
  const auto sink = run(request);
  EXPECT_EQ(sink->ids(), decoder.Continue({1, 2, 3}, 5));
  EXPECT_EQ(sink->text(), "");
  request.prompt = std::string("text");
  EXPECT_THAT(run(request)->status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no tokenizer")));
}

TEST(GenerateRunnerTest, AnEncoderDoesNotGenerate) {
  World world({}, Hash(256));
  world.model().description.can_generate = false;
  world.model().description.can_encode = true;
  world.model().description.kind = "encoder";
  EXPECT_THAT(world.Run(Prompt("x"))->status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is an encoder; it serves Encode")));
}

TEST(GenerateRunnerTest, ReportsWhatAStepComputed) {
  World world({}, Hash(256));
  GenerateRequest request = Prompt("hello");
  request.max_new_tokens = 3;
  request.ignore_eos = true;
  world.Add(request);
  ASSERT_TRUE(world.Step());
  EXPECT_EQ(world.last_report().phase, "prefill");
  EXPECT_EQ(world.last_report().num_tokens, 5);
  world.Add(request);
  ASSERT_TRUE(world.Step());
  EXPECT_EQ(world.last_report().phase, "mixed");
  EXPECT_EQ(world.last_report().num_sequences, 2);
  EXPECT_EQ(world.runner().num_running(), 2);
  ASSERT_TRUE(world.Step());
  EXPECT_EQ(world.last_report().phase, "decode");
  world.Finish();
}

// ---------------------------------------------------------------------------------------------------------------------
// Encoder-decoders.

constexpr int32_t kBos = FakeTokenizer::kBos;
constexpr int32_t kEnglish = FakeTranslatorTokenizer::kEnglish;
constexpr int32_t kFrench = FakeTranslatorTokenizer::kFrench;

std::shared_ptr<LoadedModel> Translator() {
  return FakeEncoderDecoderModel(std::make_unique<FakeTokenizer>(), FakeTokenizer::kFirstPiece);
}

std::shared_ptr<LoadedModel> Multilingual(Languages::Target target) {
  auto tokenizer = std::make_unique<FakeTranslatorTokenizer>(target);
  const int32_t vocab_size = tokenizer->vocab_size();
  return FakeEncoderDecoderModel(std::move(tokenizer), vocab_size);
}

std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(GenerateRunnerTest, ASourceIsEncodedAndAnsweredAfterTheStartToken) {
  World world({}, Say(Bytes("bonjour"), 6), {.model = Translator()});
  const auto sink = world.Run(Prompt("hello"));
  ASSERT_OK(sink->status());
  EXPECT_EQ(sink->text(), "bonjour");
  EXPECT_EQ(sink->finished().reason, FinishReason::kEos);
  EXPECT_EQ(sink->finished().usage.input_tokens, 5) << "the start token is the model's own";
  EXPECT_EQ(sink->started().usage.input_tokens, 5);
  EXPECT_EQ(sink->started().original_tokens, 5);
  EXPECT_EQ(sink->finished().usage.output_tokens, 8);
  EXPECT_EQ(world.decoder().num_encoded_tokens(), 5);
  ASSERT_GE(world.reports().size(), 3);
  EXPECT_EQ(world.reports()[0].phase, "encode");
  EXPECT_EQ(world.reports()[0].num_tokens, 5);
  EXPECT_EQ(world.reports()[0].num_sequences, 1);
  EXPECT_EQ(world.reports()[1].phase, "prefill");
  EXPECT_EQ(world.reports()[1].num_tokens, 1);
  EXPECT_EQ(world.reports()[2].phase, "decode");
}

TEST(GenerateRunnerTest, ATranslationIsTheSameAloneAndAmongOthersAndWhenPreempted) {
  World world({}, Hash(256),
              {.num_blocks = 48,
               .max_batch_tokens = 24,
               .max_running_sequences = 12,
               .max_logit_rows = 12,
               .model = Translator()});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<std::string> sources;
  size_t num_source_tokens = 0;
  for (int i = 0; i < 16; ++i) {
    sources.push_back(absl::StrCat(std::string(5 + 3 * i, static_cast<char>('a' + i % 3)), i));
    num_source_tokens += sources.back().size();
    GenerateRequest request = Prompt(sources.back());
    request.max_new_tokens = 40;
    request.ignore_eos = true;
    sinks.push_back(world.Add(std::move(request)));
  }
  EXPECT_EQ(world.runner().num_tokens_waiting(), num_source_tokens + 16);
  world.Finish();
  EXPECT_THAT(world.runner().num_preemptions(), Gt(0));
  EXPECT_THAT(world.decoder().num_encoded_tokens(), Gt(num_source_tokens)) << "none came back";
  for (int i = 0; i < 16; ++i) {
    ASSERT_OK(sinks[i]->status());
    EXPECT_EQ(sinks[i]->ids(), world.decoder().Continue(Join(Bytes(sources[i]), {kBos}), 40)) << i;
  }
}

TEST(GenerateRunnerTest, EqualBeginningsOfDifferentSourcesShareNothing) {
  World world({}, Hash(256), {.model = Translator()});
  GenerateRequest request = Prompt("one source");
  request.decoder_prefix = std::string(20, 'p');
  request.max_new_tokens = 4;
  request.ignore_eos = true;
  world.Run(request);
  request.prompt = std::string("another");
  const auto sink = world.Run(request);
  EXPECT_EQ(sink->finished().usage.cached_tokens, 0);
  const std::vector<int32_t> prefix = Join({kBos}, Bytes(std::string(20, 'p')));
  EXPECT_EQ(sink->ids(), world.decoder().Continue(Join(Bytes("another"), prefix), 4));
}

TEST(GenerateRunnerTest, SamplesOfOneSourceShareItAndTheBeginning) {
  World world({}, Hash(256), {.model = Translator()});
  GenerateRequest request = Prompt(std::string(30, 's'));
  request.decoder_prefix = std::string(20, 'p');
  request.num_sequences = 4;
  request.temperature = 3;
  request.seed = 5;
  request.max_new_tokens = 6;
  request.ignore_eos = true;
  const auto sink = world.Run(request);
  ASSERT_OK(sink->status());
  EXPECT_EQ(world.decoder().num_encoded_tokens(), 30);
  EXPECT_LT(world.decoder().num_computed_tokens(), 21 + 4 * 6 + 3 * 4);
  request.num_sequences = 1;
  for (int i = 0; i < 4; ++i) {
    request.seed = 5 + i;
    EXPECT_EQ(sink->ids(i), world.Run(request)->ids()) << i;
  }
}

TEST(GenerateRunnerTest, TheOutputGoesOnFromTheDecoderPrefix) {
  for (const bool is_text : {true, false}) {
    World world({}, Say(Bytes(" jour"), 5 + 1 + 3), {.model = Translator()});
    GenerateRequest request = Prompt("hello");
    if (is_text) {
      request.decoder_prefix = std::string("bon");
    } else {
      request.decoder_prefix = Bytes("bon");
    }
    auto sink = world.Run(request);
    ASSERT_OK(sink->status());
    EXPECT_EQ(sink->text(), " jour");
    EXPECT_EQ(sink->finished().usage.input_tokens, 8);
    EXPECT_EQ(sink->started().original_tokens, 8);
    request.echo = true;
    EXPECT_EQ(world.Run(request)->text(), "bon jour");
    request.prompt_logprobs = true;
    sink = world.Run(request);
    ASSERT_THAT(sink->started().prompt_tokens, SizeIs(4)) << "the start token, and the prefix";
    EXPECT_EQ(sink->started().prompt_tokens[0].id, kBos);
    EXPECT_EQ(sink->started().prompt_tokens[3].text, "n");
  }
}

// As BART's <s>, which the decoder has always seen between its start token and the words.
TEST(GenerateRunnerTest, TheForcedFirstTokenPrecedesTheDecoderPrefix) {
  World world({}, Hash(256), {.model = Translator()});
  world.model().generation.constraints.forced_bos_token_id = 7;
  GenerateRequest request = Prompt("hello");
  request.max_new_tokens = 4;
  request.ignore_eos = true;
  const std::vector<int32_t> begin = Join(Bytes("hello"), {kBos, 7});
  EXPECT_EQ(world.Run(request)->ids(), Join({7}, world.decoder().Continue(begin, 3)));
  for (const std::vector<int32_t>& prefix : {std::vector<int32_t>{'x'}, {7, 'x'}}) {
    request.decoder_prefix = TokenIds(prefix);
    EXPECT_EQ(world.Run(request)->ids(), world.decoder().Continue(Join(begin, {'x'}), 4));
  }
}

TEST(GenerateRunnerTest, TheTargetsTokenizerWritesTheOutput) {
  const auto model = Translator();
  model->description.target_vocab_size = 300;
  model->generation_limits.vocab_size = 300;
  World world({}, Say({258, 258}, 6), {.model = model});
  EXPECT_THAT(world.Run(Prompt("hello"))->status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("target_tokenizer.json")));
  GenerateRequest tokens;
  tokens.prompt = TokenIds(Bytes("hello"));
  tokens.max_new_tokens = 2;
  EXPECT_EQ(world.Run(tokens)->text(), "");
  tokens.decoder_prefix = std::string("words");
  EXPECT_THAT(world.Run(tokens)->status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("decoder_prefix.text")));

  model->target_tokenizer = std::make_unique<FakeTokenizer>(std::vector<std::string>{"\xC3\xA9t"});
  GenerateRequest request = Prompt("hello");
  request.max_new_tokens = 2;
  EXPECT_EQ(world.Run(request)->text(), "\xC3\xA9t\xC3\xA9t");
  request.stop = {"t"};
  EXPECT_EQ(world.Run(request)->text(), "\xC3\xA9");
}

TEST(GenerateRunnerTest, TheTargetLanguageIsStartOrFirstTokenOrInTheSource) {
  struct Case {
    Languages::Target target;
    std::vector<int32_t> source;
    std::vector<int32_t> start;
    bool is_generated;
  };
  for (const Case& c : std::vector<Case>{
           {Languages::Target::kDecoderStart, {kEnglish, 'a'}, {kFrench}, false},
           {Languages::Target::kFirstToken, {kEnglish, 'a'}, {kBos}, true},
           {Languages::Target::kInSource, {kFrench, 'a'}, {kBos}, false},
       }) {
    World world({}, Hash(256), {.model = Multilingual(c.target)});
    GenerateRequest request = Prompt("a");
    request.target_language = "fr";
    request.max_new_tokens = 4;
    request.ignore_eos = true;
    auto sink = world.Run(request);
    ASSERT_OK(sink->status());
    const std::vector<int32_t> begin = Join(c.source, c.start);
    const std::vector<int32_t> expected =
        c.is_generated ? Join({kFrench}, world.decoder().Continue(Join(begin, {kFrench}), 3))
                       : world.decoder().Continue(begin, 4);
    EXPECT_EQ(sink->ids(), expected);

    request.decoder_prefix = std::string("x");
    sink = world.Run(request);
    const std::vector<int32_t> prefix =
        c.is_generated ? std::vector<int32_t>{kFrench, 'x'} : std::vector<int32_t>{'x'};
    EXPECT_EQ(sink->ids(), world.decoder().Continue(Join(begin, prefix), 4));
  }
}

TEST(GenerateRunnerTest, ATargetLanguageMustBeNamedWhereThereIsNoDefault) {
  const auto model = Multilingual(Languages::Target::kFirstToken);
  World world({}, Hash(256), {.model = model});
  GenerateRequest request = Prompt("a");
  request.max_new_tokens = 2;
  EXPECT_THAT(world.Run(request)->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("target_language: is not set; the model writes 2 languages")));
  request.decoder_prefix = TokenIds{kFrench};
  EXPECT_OK(world.Run(request)->status()) << "the prefix says it";

  World starts({}, Hash(256), {.model = Multilingual(Languages::Target::kDecoderStart)});
  starts.model().generation.decoder_start_token_id = kFrench;
  request.decoder_prefix = std::monostate();
  EXPECT_OK(starts.Run(request)->status()) << "the start token says it";
}

TEST(GenerateRunnerTest, BadSourcesPrefixesAndLanguagesAreRefusedByField) {
  World world({}, Hash(256), {.num_blocks = 20, .model = Translator()});
  World told({}, Hash(256), {.model = Multilingual(Languages::Target::kFirstToken)});
  World asked({}, Hash(256), {.model = Multilingual(Languages::Target::kInSource)});
  world.model().generation_limits.source_tokens = 90;
  world.model().generation_limits.context_tokens = 10;
  const auto refused = [](World& by, auto change, absl::string_view message) {
    GenerateRequest request = Prompt("hello");
    request.max_new_tokens = 4;
    change(request);
    EXPECT_THAT(by.Run(std::move(request))->status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(message))));
  };
  refused(
      world, [](auto& r) { r.prompt = std::string(91, 'x'); },
      "the input has 91 tokens; the encoder takes 90");
  refused(
      world, [](auto& r) { r.prompt = std::string(80, 'x'); },
      "5 tokens, and the source 80 more; the key-value cache holds 80");
  refused(world, [](auto& r) { r.prompt = std::string(); }, "no tokens");
  refused(world, [](auto& r) { r.prompt = TokenIds{258}; }, "token 0 has id 258");
  refused(
      world, [](auto& r) { r.decoder_prefix = TokenIds{1, 258}; },
      "decoder_prefix.tokens: token 1 has id 258; the vocabulary of the output has 258");
  refused(world, [](auto& r) { r.decoder_prefix = TokenIds{-1}; }, "token 0 has id -1");
  refused(world, [](auto& r) { r.decoder_prefix = TokenIds{}; }, "decoder_prefix.tokens: has no");
  refused(world, [](auto& r) { r.decoder_prefix = std::string(); }, "decoder_prefix.text: has no");
  refused(
      world, [](auto& r) { r.decoder_prefix = std::string(9, 'x'); },
      "decoder_prefix: makes 10 tokens with the start; beside the output the decoder takes 9");
  refused(
      world, [](auto& r) { r.source_language = "en"; },
      "source_language: is set; model \"fake\" is not told of languages");
  refused(world, [](auto& r) { r.target_language = "fr"; }, "target_language: is set");
  refused(
      told, [](auto& r) { r.target_language = "qq"; },
      "target_language is \"qq\"; this model has 2 languages: en, fr");
  refused(
      told, [](auto& r) { r.target_language = "fr", r.source_language = "qq"; },
      "source_language is \"qq\"");
  refused(
      told,
      [](auto& r) { r.prompt = TokenIds{1}, r.target_language = "fr", r.source_language = "en"; },
      "source_language: is set; tokens name their language themselves");
  refused(
      asked, [](auto& r) { r.prompt = TokenIds{1}, r.target_language = "fr"; },
      "target_language: is set; tokens name it themselves");

  World decoder({}, Hash(256));
  refused(decoder, [](auto& r) { r.decoder_prefix = std::string("x"); }, "decoder_prefix: is set");
  refused(decoder, [](auto& r) { r.source_language = "en"; }, "source_language: is set");
  refused(decoder, [](auto& r) { r.target_language = "en"; }, "target_language: is set");
}

TEST(GenerateRunnerTest, ASourceIsCutOnlyIfTheRequestSaysSo) {
  World world({}, Hash(256), {.model = Translator()});
  world.model().generation_limits.source_tokens = 8;
  GenerateRequest request = Prompt("hello world");
  request.max_new_tokens = 3;
  request.ignore_eos = true;
  request.truncation.side = TruncationSide::kLeft;
  const auto sink = world.Run(request);
  EXPECT_EQ(sink->ids(), world.decoder().Continue(Join(Bytes("lo world"), {kBos}), 3));
  EXPECT_EQ(sink->started().original_tokens, 11);
  EXPECT_EQ(sink->started().usage.input_tokens, 8);
}

TEST(GenerateRunnerTest, WithoutALimitTheOutputTakesWhatTheSourceLeavesOfTheCache) {
  World world({}, Hash(256), {.num_blocks = 10, .model = Translator()});
  world.model().generation_limits.cache_tokens = 40;
  world.model().generation_limits.block_size = kBlockSize;
  GenerateRequest request = Prompt("hello");
  request.ignore_eos = true;
  const auto sink = world.Run(request);
  ASSERT_OK(sink->status());
  EXPECT_EQ(sink->finished().usage.output_tokens, 40 - 8 - 1);
}

TEST(GenerateRunnerTest, ACancelledTranslationFreesItsSourceBeforeTheNextStep) {
  World world({}, Hash(256), {.model = Translator()});
  GenerateRequest request = Prompt("hello");
  request.control = std::make_shared<RequestControl>();
  const auto control = request.control;
  const auto sink = world.Add(std::move(request));
  world.Step();
  world.Step();
  EXPECT_GT(world.runner().cache_usage_ratio(), 0);
  control->cancelled = true;
  EXPECT_FALSE(world.Step());
  EXPECT_THAT(sink->status(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(world.runner().cache_usage_ratio(), 0);
}

TEST(GenerateRunnerTest, AStepThatThrowsFreesTheSourcesThatItEncoded) {
  World world({}, Hash(256), {.model = Translator()});
  const auto failed = world.Add(Prompt("hello"));
  world.decoder().before_forward = [] { throw std::runtime_error("no memory"); };
  world.Step();
  EXPECT_THAT(failed->status(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(world.runner().cache_usage_ratio(), 0);
}

}  // namespace
}  // namespace attendant::engine
