#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int32_t kBlockSize = 4;
constexpr int32_t kWholePrompt = 1000;

// A scheduler, and a model that gives every sequence the token that its number says. It keeps, for
// every slot of the cache, a fingerprint of the tokens up to it, and so notices a block that is
// used while it belongs to another.
class World {
 public:
  explicit World(int32_t num_blocks, SchedulerOptions options = {})
      : pool_(num_blocks, kBlockSize),
        scheduler_(options, pool_),
        slots_(num_blocks * kBlockSize) {}

  Sequence& Make(int64_t prompt_tokens, int64_t new_tokens, int32_t first_token = 0,
                 int32_t priority = 0) {
    auto& sequence = *sequences_.emplace_back(std::make_unique<Sequence>());
    sequence.arrival = static_cast<int64_t>(sequences_.size());
    sequence.priority = priority;
    for (int64_t i = 0; i < prompt_tokens; ++i)
      sequence.tokens.push_back(first_token + static_cast<int32_t>(i));
    sequence.max_tokens = prompt_tokens + new_tokens;
    sequence.first_logit_token = prompt_tokens - 1;
    return sequence;
  }

  Sequence& Add(int64_t prompt_tokens, int64_t new_tokens, int32_t first_token = 0,
                int32_t priority = 0) {
    Sequence& sequence = Make(prompt_tokens, new_tokens, first_token, priority);
    EXPECT_OK(scheduler_.Add(sequence));
    return sequence;
  }

  // What sequences of an encoder-decoder read: `num_tokens` tokens from `first_token` on.
  Source& MakeSource(int64_t num_tokens, int32_t first_token = 0) {
    Source& source = *sources_.emplace_back(std::make_unique<Source>());
    for (int64_t i = 0; i < num_tokens; ++i)
      source.tokens.push_back(first_token + static_cast<int32_t>(i));
    return source;
  }

  Sequence& Add(Source& source, int64_t prompt_tokens, int64_t new_tokens, int32_t priority = 0) {
    Sequence& sequence = Make(prompt_tokens, new_tokens, 0, priority);
    sequence.source = &source;
    sequence.prefix_domain = static_cast<uint64_t>(sequence.arrival);
    EXPECT_OK(scheduler_.Add(sequence));
    return sequence;
  }

  // One step, with the invariants of every step. Returns what was scheduled.
  std::vector<ScheduledSequence> Step(int32_t max_prefill_tokens = kWholePrompt) {
    const auto view = scheduler_.Schedule(max_prefill_tokens, batch_, source_batch_);
    const std::vector<ScheduledSequence> scheduled(view.begin(), view.end());
    EXPECT_EQ(scheduled.size(), batch_.sequences.size());
    EXPECT_EQ(batch_.positions.size(), batch_.token_ids.size());
    EncodeSources();
    int32_t row = 0;
    for (size_t i = 0; i < scheduled.size(); ++i) {
      const Sequence& sequence = *scheduled[i].sequence;
      const BatchSequence& part = batch_.sequences[i];
      EXPECT_EQ(part.query_start, row);
      EXPECT_EQ(part.num_queries, scheduled[i].num_tokens);
      EXPECT_GT(part.num_queries, 0);
      EXPECT_EQ(part.num_past_tokens, scheduled[i].first_token);
      const int64_t end = part.num_past_tokens + part.num_queries;
      EXPECT_LE(end, sequence.tokens.size());
      EXPECT_GE(static_cast<int64_t>(part.blocks.size()) * kBlockSize, end);
      uint64_t fingerprint = CheckSource(sequence, part);
      for (int64_t token = 0; token < end; ++token) {
        fingerprint = Extend(fingerprint, sequence.tokens[token]);
        uint64_t& slot = Slot(part.blocks, token);
        if (token < part.num_past_tokens) {
          EXPECT_EQ(slot, fingerprint) << "the cache holds something else";
          continue;
        }
        slot = fingerprint;
        EXPECT_EQ(batch_.token_ids[row], sequence.tokens[token]);
        EXPECT_EQ(batch_.positions[row], token);
        const bool has_logits =
            std::binary_search(batch_.logit_rows.begin(), batch_.logit_rows.end(), row);
        EXPECT_EQ(has_logits, token >= sequence.first_logit_token);
        ++row;
      }
    }
    EXPECT_EQ(row, batch_.num_tokens());
    scheduler_.FinishStep();
    for (const ScheduledSequence& part : scheduled) {
      Sequence& sequence = *part.sequence;
      if (part.first_token + part.num_tokens < static_cast<int64_t>(sequence.tokens.size()))
        continue;
      sequence.tokens.push_back(static_cast<int32_t>(sequence.arrival));
      sequence.first_logit_token = static_cast<int64_t>(sequence.tokens.size()) - 1;
      if (static_cast<int64_t>(sequence.tokens.size()) == sequence.max_tokens) {
        scheduler_.Remove(sequence);
        finished_.push_back(&sequence);
      }
    }
    return scheduled;
  }

  const Batch& batch() const { return batch_; }
  const Batch& source_batch() const { return source_batch_; }
  BlockPool& pool() { return pool_; }
  Scheduler& scheduler() { return scheduler_; }
  const std::vector<Sequence*>& finished() const { return finished_; }

 private:
  static uint64_t Extend(uint64_t fingerprint, int32_t token) {
    return fingerprint * 1000003 + token + 1;
  }

  uint64_t& Slot(absl::Span<const int32_t> blocks, int64_t token) {
    return slots_[blocks[token / kBlockSize] * kBlockSize + token % kBlockSize];
  }

  void EncodeSources() {
    EXPECT_EQ(source_batch_.positions.size(), source_batch_.token_ids.size());
    int32_t row = 0;
    for (const BatchSequence& part : source_batch_.sequences) {
      EXPECT_EQ(part.query_start, row);
      EXPECT_GT(part.num_queries, 0);
      EXPECT_EQ(part.num_source_tokens, part.num_queries);
      EXPECT_GE(static_cast<int64_t>(part.source_blocks.size()) * kBlockSize, part.num_queries);
      uint64_t fingerprint = 0;
      for (int32_t token = 0; token < part.num_queries; ++token, ++row) {
        EXPECT_EQ(source_batch_.positions[row], token);
        fingerprint = Extend(fingerprint, source_batch_.token_ids[row]);
        Slot(part.source_blocks, token) = fingerprint;
      }
    }
    EXPECT_EQ(row, source_batch_.num_tokens());
  }

  // The cache must hold the sequence's source. Returns its fingerprint.
  uint64_t CheckSource(const Sequence& sequence, const BatchSequence& part) {
    if (sequence.source == nullptr) return 0;
    EXPECT_EQ(part.num_source_tokens, sequence.source->tokens.size());
    uint64_t fingerprint = 0;
    for (int32_t token = 0; token < part.num_source_tokens; ++token) {
      fingerprint = Extend(fingerprint, sequence.source->tokens[token]);
      EXPECT_EQ(Slot(part.source_blocks, token), fingerprint) << "the cache holds another source";
    }
    return fingerprint;
  }

  BlockPool pool_;
  Scheduler scheduler_;
  Batch batch_;
  Batch source_batch_;
  std::vector<uint64_t> slots_;
  std::deque<std::unique_ptr<Source>> sources_;
  std::deque<std::unique_ptr<Sequence>> sequences_;
  std::vector<Sequence*> finished_;
};

TEST(SchedulerTest, WithoutSequencesTheBatchIsEmpty) {
  World world(4);
  EXPECT_THAT(world.Step(), IsEmpty());
  EXPECT_EQ(world.batch().num_tokens(), 0);
  EXPECT_FALSE(world.scheduler().has_sequences());
}

TEST(SchedulerTest, APromptIsComputedAndThenOneTokenAStep) {
  World world(8);
  Sequence& sequence = world.Add(6, 3);
  EXPECT_EQ(world.Step()[0].num_tokens, 6);
  EXPECT_THAT(world.batch().logit_rows, ElementsAre(5));
  EXPECT_EQ(world.Step()[0].num_tokens, 1);
  EXPECT_TRUE(world.finished().empty());
  EXPECT_EQ(world.Step()[0].num_tokens, 1);
  EXPECT_THAT(world.finished(), ElementsAre(&sequence));
  EXPECT_FALSE(world.scheduler().has_sequences());
  EXPECT_EQ(world.pool().num_used(), 0);
}

TEST(SchedulerTest, DecodesEveryRunningSequenceBesideAChunkOfTheNewPrompt) {
  World world(32);
  Sequence& first = world.Add(5, 10);
  world.Step();
  Sequence& second = world.Add(20, 10, 100);
  auto scheduled = world.Step(/*max_prefill_tokens=*/8);
  ASSERT_THAT(scheduled, SizeIs(2));
  EXPECT_EQ(scheduled[0].sequence, &first);
  EXPECT_EQ(scheduled[0].num_tokens, 1);
  EXPECT_EQ(scheduled[1].sequence, &second);
  EXPECT_EQ(scheduled[1].num_tokens, 8);
  EXPECT_THAT(world.batch().logit_rows, ElementsAre(0)) << "an unfinished prompt wants no logits";
  EXPECT_EQ(world.scheduler().num_tokens_waiting(), 11);
  world.Step(8);
  scheduled = world.Step(8);
  EXPECT_EQ(scheduled[1].num_tokens, 4);
  EXPECT_THAT(world.batch().logit_rows, ElementsAre(0, 4));
}

TEST(SchedulerTest, TheBatchLimitHoldsForDecodesAndChunksTogether) {
  World world(64, {.max_batch_tokens = 10, .max_running_sequences = 8});
  for (int i = 0; i < 4; ++i) world.Add(1, 20, 10 * i);
  world.Step();
  world.Add(30, 5, 200);
  const auto scheduled = world.Step();
  ASSERT_THAT(scheduled, SizeIs(5));
  EXPECT_EQ(scheduled[4].num_tokens, 6);
  EXPECT_EQ(world.batch().num_tokens(), 10);
}

TEST(SchedulerTest, AdmitsInOrderOfArrivalUpToTheLimitOfSequences) {
  World world(64, {.max_batch_tokens = 100, .max_running_sequences = 2});
  Sequence& a = world.Add(4, 2, 0);
  Sequence& b = world.Add(4, 3, 10);
  Sequence& c = world.Add(4, 2, 20);
  EXPECT_THAT(world.Step(), SizeIs(2));
  EXPECT_TRUE(a.is_running);
  EXPECT_TRUE(b.is_running);
  EXPECT_FALSE(c.is_running);
  world.Step();  // a ends
  EXPECT_THAT(world.Step(), SizeIs(2));
  EXPECT_TRUE(c.was_admitted);
}

TEST(SchedulerTest, AHigherPriorityGoesFirstAmongTheWaiting) {
  World world(64, {.max_batch_tokens = 100, .max_running_sequences = 1});
  Sequence& running = world.Add(4, 3, 0);
  world.Step();
  Sequence& low = world.Add(4, 1, 10, 0);
  Sequence& high = world.Add(4, 1, 20, 5);
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), ElementsAre(&running, &high, &low));
}

TEST(SchedulerTest, PreemptsTheYoungestWhenBlocksRunOut) {
  World world(6);
  Sequence& old = world.Add(8, 10, 0);     // 2 blocks, at the end 5
  Sequence& young = world.Add(8, 10, 50);  // as many
  world.Step();
  ASSERT_TRUE(young.is_running);
  while (world.scheduler().num_preemptions() == 0) world.Step();
  EXPECT_TRUE(old.is_running);
  EXPECT_FALSE(young.is_running);
  EXPECT_THAT(young.blocks, IsEmpty());
  EXPECT_GT(young.tokens.size(), 8) << "its output stays";
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), ElementsAre(&old, &young));
  EXPECT_THAT(young.tokens, SizeIs(18));
  EXPECT_EQ(world.pool().num_used(), 0);
}

TEST(SchedulerTest, APreemptedSequenceGoesBeforeThoseThatCameAfterIt) {
  World world(6);
  world.Add(8, 10, 0);
  Sequence& young = world.Add(8, 10, 50);
  world.Step();
  Sequence& later = world.Add(4, 2, 90);
  while (!later.was_admitted) world.Step();
  EXPECT_GT(world.scheduler().num_preemptions(), 0);
  EXPECT_TRUE(young.is_running);
}

TEST(SchedulerTest, ARequestThatCouldNeverFitIsRefusedAtOnce) {
  World world(4);
  Sequence& fits = world.Make(8, 8);
  EXPECT_OK(world.scheduler().Add(fits));
  Sequence& too_long = world.Make(8, 9);
  EXPECT_THAT(world.scheduler().Add(too_long),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("17 tokens"), HasSubstr("holds 16"),
                             HasSubstr("--kv_cache_bytes"))));
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), ElementsAre(&fits)) << "the whole cache is usable by one sequence";
}

TEST(SchedulerTest, NobodyWhoWaitsIsPassedByOneBehind) {
  World world(8);
  world.Add(16, 4, 0);
  world.Step();
  Sequence& large = world.Add(24, 4, 100);
  Sequence& small = world.Add(2, 2, 200);
  world.Step();
  EXPECT_FALSE(large.is_running);
  EXPECT_FALSE(small.is_running) << "though there is room for it";
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), SizeIs(3));
}

TEST(SchedulerTest, AnEqualPrefixIsNotComputedAgain) {
  World world(32);
  world.Add(11, 2, 0);
  world.Step();
  Sequence& second = world.Add(11, 2, 0);
  const auto scheduled = world.Step();
  ASSERT_THAT(scheduled, SizeIs(2));
  EXPECT_EQ(scheduled[1].first_token, 8);
  EXPECT_EQ(scheduled[1].num_tokens, 3);
  EXPECT_EQ(second.num_cached, 8);
}

TEST(SchedulerTest, APrivateDomainIsNotShared) {
  World world(32);
  world.Add(11, 2, 0);
  world.Step();
  Sequence& second = world.Make(11, 2, 0);
  second.prefix_domain = 1;
  ASSERT_OK(world.scheduler().Add(second));
  EXPECT_EQ(world.Step()[1].num_tokens, 11);
  EXPECT_EQ(second.num_cached, 0);
}

TEST(SchedulerTest, ScoringThePromptComputesAllOfIt) {
  World world(32);
  world.Add(11, 2, 0);
  world.Step();
  Sequence& second = world.Make(11, 2, 0);
  second.first_logit_token = 0;
  ASSERT_OK(world.scheduler().Add(second));
  EXPECT_EQ(world.Step()[1].num_tokens, 11);
  EXPECT_THAT(world.batch().logit_rows, SizeIs(12));
}

TEST(SchedulerTest, RemoveFreesTheBlocksOfARunningOrWaitingSequence) {
  World world(8);
  Sequence& running = world.Add(16, 10, 0);
  Sequence& waiting = world.Add(20, 10, 50);
  world.Step();
  ASSERT_EQ(world.pool().num_used(), 4);
  world.scheduler().Remove(waiting);
  EXPECT_EQ(world.scheduler().num_waiting(), 0);
  world.scheduler().Remove(running);
  EXPECT_EQ(world.pool().num_used(), 0);
  EXPECT_FALSE(world.scheduler().has_sequences());
}

TEST(SchedulerTest, ASourceIsEncodedOnceBeforeTheFirstTokenOfItsSequence) {
  World world(16);
  Source& source = world.MakeSource(6, 50);
  Sequence& sequence = world.Add(source, 1, 3);
  EXPECT_EQ(world.scheduler().num_tokens_waiting(), 7);
  EXPECT_THAT(world.Step(), SizeIs(1));
  EXPECT_THAT(world.source_batch().token_ids, ElementsAre(50, 51, 52, 53, 54, 55));
  EXPECT_THAT(world.batch().token_ids, ElementsAre(0));
  EXPECT_EQ(world.pool().num_used(), 3) << "two blocks of the source, and one of the output";
  world.Step();
  EXPECT_THAT(world.source_batch().sequences, IsEmpty());
  world.Step();
  EXPECT_THAT(world.finished(), ElementsAre(&sequence));
  EXPECT_EQ(world.pool().num_used(), 0);
}

TEST(SchedulerTest, SourcesAreEncodedTogetherUpToTheBudgetAndOneAtLeast) {
  World world(64);
  world.Add(world.MakeSource(5, 100), 1, 9);
  world.Add(world.MakeSource(6, 200), 1, 9);
  Sequence& third = world.Add(world.MakeSource(20, 300), 3, 9);
  EXPECT_THAT(world.Step(/*max_prefill_tokens=*/16), SizeIs(2));
  EXPECT_THAT(world.source_batch().sequences, SizeIs(2));
  EXPECT_EQ(world.source_batch().sequences[1].query_start, 5);
  EXPECT_FALSE(third.is_running) << "a source is encoded whole";
  EXPECT_EQ(world.scheduler().num_tokens_waiting(), 23);
  world.Add(world.MakeSource(1, 400), 1, 9);
  EXPECT_THAT(world.Step(16), SizeIs(3)) << "what exceeds every budget goes alone";
  EXPECT_EQ(world.source_batch().num_tokens(), 20);
  EXPECT_EQ(world.batch().sequences[2].num_queries, 1) << "the prompt begins in the same step";
  EXPECT_THAT(world.Step(16), SizeIs(4));
  EXPECT_EQ(world.batch().sequences[2].num_queries, 2);
}

TEST(SchedulerTest, ASourceBeyondTheBudgetLeavesTheBatchWithinItsLimit) {
  World world(64, {.max_batch_tokens = 4, .max_running_sequences = 4});
  for (int i = 0; i < 4; ++i) world.Add(world.MakeSource(30, 100 * i), 3, 9);
  for (int step = 0; step < 12; ++step) {
    world.Step(4);
    EXPECT_LE(world.batch().num_tokens(), 4);
    EXPECT_LE(world.source_batch().num_tokens(), 30);
  }
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), SizeIs(4));
}

TEST(SchedulerTest, SequencesOfOneSourceShareItsBlocks) {
  World world(16);
  Source& source = world.MakeSource(8, 50);
  world.Add(source, 1, 3);
  world.Step();
  Sequence& second = world.Add(source, 1, 9);
  EXPECT_EQ(world.scheduler().num_tokens_waiting(), 1);
  EXPECT_THAT(world.Step(), SizeIs(2));
  EXPECT_THAT(world.source_batch().sequences, IsEmpty());
  EXPECT_EQ(world.pool().num_used(), 4);
  world.Step();
  ASSERT_THAT(world.finished(), SizeIs(1));
  EXPECT_THAT(source.blocks, SizeIs(2)) << "the second still reads it";
  world.scheduler().Remove(second);
  EXPECT_THAT(source.blocks, IsEmpty());
  EXPECT_EQ(world.pool().num_used(), 0);
}

TEST(SchedulerTest, APreemptedSequenceGivesItsSourceBackAndEncodesItAgain) {
  World world(8);
  Sequence& old = world.Add(world.MakeSource(8, 100), 1, 15);  // 2 blocks, and at the end 4
  Source& source = world.MakeSource(8, 200);
  Sequence& young = world.Add(source, 1, 15);
  world.Step();
  ASSERT_TRUE(young.is_running);
  while (world.scheduler().num_preemptions() == 0) world.Step();
  EXPECT_TRUE(old.is_running);
  EXPECT_THAT(source.blocks, IsEmpty());
  EXPECT_EQ(world.scheduler().num_tokens_waiting(), 8 + young.tokens.size());
  while (!young.is_running) world.Step();
  EXPECT_THAT(world.source_batch().token_ids, SizeIs(8));
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(young.tokens, SizeIs(16));
  EXPECT_EQ(world.pool().num_used(), 0);
}

TEST(SchedulerTest, ASourceThatCouldNeverFitIsRefusedAtOnce) {
  World world(4);
  Sequence& fits = world.Add(world.MakeSource(8, 100), 1, 7);
  Sequence& too_long = world.Make(1, 7);
  too_long.source = &world.MakeSource(9, 200);
  EXPECT_THAT(world.scheduler().Add(too_long),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("8 tokens, and the source 9 more"), HasSubstr("holds 16"),
                             HasSubstr("--kv_cache_bytes"))));
  while (world.scheduler().has_sequences()) world.Step();
  EXPECT_THAT(world.finished(), ElementsAre(&fits));
}

// Random loads over tiny caches, with cancels: every step keeps the invariants of World::Step,
// everything ends, and no block is lost.
TEST(SchedulerTest, RandomLoadsFinishWithoutLosingABlock) {
  int64_t num_preemptions = 0;
  int64_t num_cached = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    const int32_t num_blocks = 4 + static_cast<int32_t>(random() % 20);
    const int32_t max_running = 1 + static_cast<int32_t>(random() % 6);
    World world(num_blocks, {.max_batch_tokens = max_running + static_cast<int32_t>(random() % 20),
                             .max_running_sequences = max_running});
    std::vector<Sequence*> live;
    Source* source = nullptr;
    size_t num_added = 0, num_removed = 0;
    for (int step = 0; step < 3000; ++step) {
      if (num_added < 40 && random() % 3 == 0) {
        int64_t room = int64_t{num_blocks} * kBlockSize;
        const auto priority = static_cast<int32_t>(random() % 3);
        if (seed % 2 == 0) {
          // Now and then a second sequence of the last source.
          if (source == nullptr || random() % 4 > 0) {
            source = &world.MakeSource(1 + static_cast<int64_t>(random() % (room / 2)),
                                       static_cast<int32_t>(random() % 3 * 100));
          }
          room -= (static_cast<int64_t>(source->tokens.size()) + kBlockSize - 1) / kBlockSize *
                  kBlockSize;
        }
        const int64_t prompt = 1 + static_cast<int64_t>(random() % (room - 1));
        const int64_t output = 1 + static_cast<int64_t>(random() % (room - prompt));
        live.push_back(
            seed % 2 == 0
                ? &world.Add(*source, prompt, output, priority)
                : &world.Add(prompt, output, static_cast<int32_t>(random() % 3 * 100), priority));
        ++num_added;
      }
      world.Step(1 + static_cast<int32_t>(random() % 16));
      std::erase_if(live, [&](Sequence* s) {
        return static_cast<int64_t>(s->tokens.size()) == s->max_tokens;
      });
      if (!live.empty() && random() % 40 == 0) {
        const size_t index = random() % live.size();
        world.scheduler().Remove(*live[index]);
        live.erase(live.begin() + index);
        ++num_removed;
      }
      if (num_added == 40 && live.empty()) break;
    }
    EXPECT_FALSE(world.scheduler().has_sequences()) << "seed " << seed;
    EXPECT_EQ(world.finished().size() + num_removed, num_added) << "seed " << seed;
    EXPECT_EQ(world.pool().num_used(), 0) << "seed " << seed;
    num_preemptions += world.scheduler().num_preemptions();
    for (const Sequence* sequence : world.finished()) num_cached += sequence->num_cached;
    if (HasFailure()) return;
  }
  EXPECT_GT(num_preemptions, 100) << "the loads do not test preemption";
  EXPECT_GT(num_cached, 1000) << "the loads do not test sharing";
}

// Equal requests that arrive one after the other end in that order, however small the cache.
TEST(SchedulerTest, EqualRequestsEndInOrderOfArrival) {
  for (const int32_t num_blocks : {5, 9, 17}) {
    World world(num_blocks, {.max_batch_tokens = 16, .max_running_sequences = 4});
    for (int i = 0; i < 30; ++i) world.Add(7, 9, 100 * i);
    while (world.scheduler().has_sequences()) world.Step();
    ASSERT_THAT(world.finished(), SizeIs(30));
    EXPECT_TRUE(std::is_sorted(
        world.finished().begin(), world.finished().end(),
        [](const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; }));
  }
}

}  // namespace
}  // namespace attendant::engine
