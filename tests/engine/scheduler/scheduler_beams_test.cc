// Sequences that fork into beams: what is copied on write, preempted together and given back.

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "engine/scheduler/scheduler.h"
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

// A search: the sequence, room for its beams, and the parents of each of its steps to come.
struct Search {
  std::vector<std::unique_ptr<Sequence>> beams;
  Source source;
  std::vector<std::vector<int32_t>> parents;
  size_t num_advanced = 0;
  bool is_done = false;

  Sequence& first() { return *beams.front(); }
};

// A scheduler, and a cache that keeps for every slot a fingerprint of the tokens up to it. After
// the parents of its steps are used up, a search ends.
class World {
 public:
  explicit World(int32_t num_blocks, SchedulerOptions options = {})
      : pool_(num_blocks, kBlockSize),
        scheduler_(options, pool_),
        slots_(num_blocks * kBlockSize) {}

  Search& Make(int32_t num_beams, int64_t prompt_tokens, std::vector<std::vector<int32_t>> parents,
               int32_t first_token = 0, int64_t num_source = 0) {
    Search& search = *searches_.emplace_back(std::make_unique<Search>());
    for (int32_t i = 0; i < num_beams; ++i) search.beams.push_back(std::make_unique<Sequence>());
    Sequence& first = search.first();
    first.arrival = static_cast<int64_t>(searches_.size());
    for (int64_t i = 0; i < prompt_tokens; ++i)
      first.tokens.push_back(first_token + static_cast<int32_t>(i));
    first.first_logit_token = prompt_tokens - 1;
    first.max_tokens = prompt_tokens + static_cast<int64_t>(parents.size());
    first.max_beams = num_beams;
    first.num_common = prompt_tokens;
    if (num_source > 0) {
      search.source.tokens.assign(num_source, 1);
      first.source = &search.source;
      first.prefix_domain = static_cast<uint64_t>(first.arrival);
    }
    search.parents = std::move(parents);
    return search;
  }

  Search& Add(int32_t num_beams, int64_t prompt_tokens, std::vector<std::vector<int32_t>> parents,
              int32_t first_token = 0, int64_t num_source = 0) {
    Search& search = Make(num_beams, prompt_tokens, std::move(parents), first_token, num_source);
    EXPECT_OK(scheduler_.Add(search.first()));
    return search;
  }

  void Remove(Search& search) {
    scheduler_.Remove(search.first());
    search.is_done = true;
  }

  // One step, with the invariants of every step; false if nothing ran.
  bool Step(int32_t max_prefill_tokens = 1000) {
    const auto view = scheduler_.Schedule(max_prefill_tokens, batch_, sources_);
    const std::vector<ScheduledSequence> scheduled(view.begin(), view.end());
    std::set<int32_t> copied_to;
    for (const auto& [from, to] : batch_.block_copies) {
      EXPECT_TRUE(copied_to.insert(to).second) << "two copies into one block";
      EXPECT_EQ(pool_.num_users(to), 1);
      std::copy_n(slots_.begin() + from * kBlockSize, kBlockSize, slots_.begin() + to * kBlockSize);
    }
    std::set<int32_t> written;
    for (size_t i = 0; i < scheduled.size(); ++i) {
      const Sequence& sequence = *scheduled[i].sequence;
      const BatchSequence& part = batch_.sequences[i];
      uint64_t fingerprint = 0;
      for (int64_t token = 0; token < part.num_past_tokens + part.num_queries; ++token) {
        fingerprint = fingerprint * 1000003 + sequence.tokens[token] + 1;
        const int32_t block = part.blocks[token / kBlockSize];
        uint64_t& slot = slots_[block * kBlockSize + token % kBlockSize];
        if (token < part.num_past_tokens) {
          EXPECT_EQ(slot, fingerprint) << "the cache holds something else";
        } else {
          EXPECT_EQ(pool_.num_users(block), 1) << "written while another uses it";
          slot = fingerprint;
        }
      }
    }
    num_copies_ += batch_.block_copies.size();
    num_computed_ += batch_.num_tokens();
    scheduler_.FinishStep();
    for (const auto& search : searches_) Advance(*search);
    return !scheduled.empty();
  }

  void Finish() {
    while (Step()) {
    }
    for (const auto& search : searches_) EXPECT_TRUE(search->is_done);
    EXPECT_EQ(pool_.num_used(), 0);
    EXPECT_EQ(pool_.num_available(), pool_.num_blocks());
    EXPECT_FALSE(scheduler_.has_sequences());
  }

  BlockPool& pool() { return pool_; }
  Scheduler& scheduler() { return scheduler_; }
  const Batch& batch() const { return batch_; }
  int64_t num_copies() const { return num_copies_; }
  int64_t num_computed() const { return num_computed_; }

 private:
  static bool IsComputed(const Sequence& beam) {
    return beam.num_computed == static_cast<int64_t>(beam.tokens.size());
  }

  // Once all beams of a search are computed, it forks.
  void Advance(Search& search) {
    Sequence& first = search.first();
    if (search.is_done || !first.is_running || !IsComputed(first)) return;
    if (!std::all_of(first.forks.begin(), first.forks.end(),
                     [](const Sequence* beam) { return IsComputed(*beam); }))
      return;
    if (search.num_advanced == search.parents.size()) {
      Remove(search);
      return;
    }
    const std::vector<int32_t>& parents = search.parents[search.num_advanced++];
    std::vector<Sequence*> beams;
    for (const auto& beam : search.beams) beams.push_back(beam.get());
    scheduler_.Fork(beams, parents);
    for (size_t i = 0; i < parents.size(); ++i) {
      beams[i]->tokens.push_back(static_cast<int32_t>(1000 + i));
      beams[i]->first_logit_token = static_cast<int64_t>(beams[i]->tokens.size()) - 1;
    }
  }

  BlockPool pool_;
  Scheduler scheduler_;
  Batch batch_;
  Batch sources_;
  std::vector<uint64_t> slots_;
  std::deque<std::unique_ptr<Search>> searches_;
  int64_t num_copies_ = 0;
  int64_t num_computed_ = 0;
};

TEST(SchedulerBeamsTest, BeamsShareTheirPastAndCopyTheBlockThatTheyWrite) {
  World world(16);
  Search& search = world.Add(3, 6, {{0, 0, 0}, {0, 1, 2}, {1, 1, 0}});
  world.Step();  // the prompt: a full block and half of one
  EXPECT_EQ(world.pool().num_used(), 2) << "forked, and nothing written";
  world.Step();
  EXPECT_EQ(world.num_copies(), 2) << "the last user of a block writes into it";
  EXPECT_EQ(world.pool().num_used(), 4);
  EXPECT_THAT(world.batch().sequences, SizeIs(3));
  world.Step();
  EXPECT_EQ(world.num_copies(), 2) << "each has a block of its own now";
  EXPECT_THAT(search.first().forks, SizeIs(2));
  EXPECT_EQ(world.pool().num_used(), 3) << "nobody continues the third";
  world.Finish();
  EXPECT_EQ(world.num_computed(), 6 + 3 * 3);
}

TEST(SchedulerBeamsTest, AFullBlockIsSharedWithoutACopy) {
  World world(16);
  world.Add(4, 4, {{0, 0, 0, 0}, {3, 2, 1, 0}});
  world.Finish();
  EXPECT_EQ(world.num_copies(), 0);
}

TEST(SchedulerBeamsTest, ThereMayBeFewerBeamsAndMoreAgain) {
  World world(16);
  Search& search = world.Add(3, 5, {{0}, {0, 0, 0}, {2, 1}, {1, 0, 0}});
  world.Step();
  EXPECT_THAT(search.first().forks, IsEmpty());
  world.Step();
  EXPECT_THAT(search.first().forks, SizeIs(2));
  world.Step();
  EXPECT_THAT(search.first().forks, SizeIs(1));
  world.Finish();
}

TEST(SchedulerBeamsTest, RemoveFreesAllBeams) {
  World world(16);
  Search& search = world.Add(3, 6, {{0, 0, 0}, {0, 1, 2}, {0, 1, 2}}, 0, /*num_source=*/5);
  world.Step();
  world.Step();
  EXPECT_EQ(world.pool().num_used(), 4 + 2);
  world.Remove(search);
  EXPECT_EQ(world.pool().num_used(), 0);
  EXPECT_FALSE(world.Step());
}

TEST(SchedulerBeamsTest, TheSourceIsEncodedOnceForAllBeams) {
  World world(16);
  world.Add(3, 1, {{0, 0, 0}, {0, 1, 2}}, 0, /*num_source=*/8);
  world.Step();
  EXPECT_EQ(world.pool().num_used(), 2 + 1);
  world.Step();
  ASSERT_THAT(world.batch().sequences, SizeIs(3));
  for (const BatchSequence& part : world.batch().sequences) {
    EXPECT_EQ(part.num_source_tokens, 8);
    EXPECT_EQ(part.source_blocks.data(), world.batch().sequences[0].source_blocks.data());
  }
  world.Finish();
}

TEST(SchedulerBeamsTest, BeamsCountAsSequencesBeforeTheyExist) {
  World world(64, {.max_batch_tokens = 16, .max_running_sequences = 5});
  Search& first = world.Add(3, 4, {{0, 0, 0}, {0, 1, 2}});
  Search& second = world.Add(3, 4, {{0, 0, 0}, {0, 1, 2}});
  world.Step();
  EXPECT_TRUE(first.first().is_running);
  EXPECT_FALSE(second.first().is_running);
  world.Finish();
}

TEST(SchedulerBeamsTest, WhatCouldNeverFitIsRefusedAtOnce) {
  World world(9, {.max_batch_tokens = 16, .max_running_sequences = 4});
  // Two blocks in common, and 2 for each of 3 beams: 8. One token more makes it 11.
  const std::vector<std::vector<int32_t>> eight(8, {0, 0, 0});
  const std::vector<std::vector<int32_t>> nine(9, {0, 0, 0});
  Search& fits = world.Make(3, 8, eight);
  EXPECT_OK(world.scheduler().Add(fits.first()));
  Search& too_long = world.Make(3, 8, nine);
  EXPECT_THAT(world.scheduler().Add(too_long.first()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("17 tokens for each of 3 beams"), HasSubstr("holds 36"))));
  too_long.is_done = true;
  Search& too_many = world.Make(5, 8, eight);
  EXPECT_THAT(world.scheduler().Add(too_many.first()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("num_beams is 5"), HasSubstr("at most 4"))));
  too_many.is_done = true;
  world.Finish();
}

TEST(SchedulerBeamsTest, BeamsArePreemptedTogetherAndComputedAgain) {
  // Each search takes up to 2 + 3 * 3 blocks.
  World world(16);
  const std::vector<std::vector<int32_t>> parents(12, {0, 1, 2});
  std::vector<std::vector<int32_t>> forks = parents;
  forks[0] = {0, 0, 0};
  Search& older = world.Add(3, 8, forks, 0);
  Search& younger = world.Add(3, 8, forks, 100);
  while (world.scheduler().num_preemptions() == 0) ASSERT_TRUE(world.Step());
  EXPECT_TRUE(older.first().is_running);
  EXPECT_FALSE(younger.first().is_running);
  for (const auto& beam : younger.beams) EXPECT_THAT(beam->blocks, IsEmpty());
  EXPECT_THAT(younger.first().forks, SizeIs(2)) << "it keeps its beams and their tokens";
  world.Finish();
  EXPECT_EQ(younger.first().tokens.size(), 20);
}

// Random searches, beside plain sequences, over tiny caches with random forks, preemptions and
// cancels: every step keeps the invariants of World::Step, every search ends with the tokens that
// it has when it runs alone, and no block is lost.
TEST(SchedulerBeamsTest, RandomSearchesLoseNoBlockAndAreAsAlone) {
  int64_t num_preemptions = 0, num_copies = 0;
  for (uint32_t seed = 0; seed < 120; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&random](uint32_t limit) { return static_cast<int32_t>(random() % limit); };
    const SchedulerOptions options{.max_batch_tokens = 16 + below(20), .max_running_sequences = 16};
    const int32_t num_blocks = 32 + below(6);
    World world(num_blocks, options);
    std::vector<Search*> live;
    for (int i = 0; i < 8; ++i) {
      const int32_t num_beams = 1 + below(4);
      std::vector<std::vector<int32_t>> parents;
      size_t num_live = 1;
      const int num_steps = 8 + below(15);
      for (int step = 0; step < num_steps; ++step) {
        std::vector<int32_t> of_step(below(4) == 0 ? 1 + below(num_beams) : num_beams);
        for (int32_t& parent : of_step) parent = below(static_cast<uint32_t>(num_live));
        num_live = of_step.size();
        parents.push_back(std::move(of_step));
      }
      const int64_t prompt = 1 + below(9), num_source = below(2) * (1 + below(9));
      const int32_t first_token = 100 * below(3);
      Search& search = world.Add(num_beams, prompt, parents, first_token, num_source);
      live.push_back(&search);
    }
    for (int step = 0; step < 2000 && world.scheduler().has_sequences(); ++step) {
      world.Step(1 + below(12));
      if (below(60) == 0) {
        Search& cancelled = *live[below(8)];
        if (!cancelled.is_done) {
          world.Remove(cancelled);
          cancelled.parents.clear();  // not compared
        }
      }
    }
    world.Finish();
    num_preemptions += world.scheduler().num_preemptions();
    num_copies += world.num_copies();
    for (Search* search : live) {
      if (search->parents.empty()) continue;
      World alone(200);
      const auto num_prompt =
          static_cast<int64_t>(search->first().max_tokens - search->parents.size());
      Search& other = alone.Add(static_cast<int32_t>(search->beams.size()), num_prompt,
                                search->parents, search->first().tokens[0]);
      alone.Finish();
      for (size_t i = 0; i < search->parents.back().size(); ++i)
        EXPECT_EQ(search->beams[i]->tokens, other.beams[i]->tokens);
    }
    if (HasFailure()) {
      ADD_FAILURE() << "seed " << seed;
      return;
    }
  }
  EXPECT_GT(num_preemptions, 50) << "the loads do not test preemption";
  EXPECT_GT(num_copies, 1000) << "the loads do not test copies";
}

}  // namespace
}  // namespace attendant::engine
