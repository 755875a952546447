#include "engine/kv_cache/block_pool.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::SizeIs;

std::vector<int32_t> Tokens(int32_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(count);
  for (int32_t i = 0; i < count; ++i) tokens[i] = first + i;
  return tokens;
}

// What a sequence does whose tokens were all computed: acquires what is cached, allocates the rest,
// publishes full blocks.
std::vector<int32_t> Compute(BlockPool& pool, absl::Span<const int32_t> tokens,
                             uint64_t domain = BlockPool::kSharedDomain) {
  std::vector<int32_t> blocks = pool.AcquirePrefix(tokens, domain);
  const int32_t size = pool.block_size();
  while (static_cast<int64_t>(blocks.size()) * size < static_cast<int64_t>(tokens.size())) {
    blocks.push_back(*pool.Allocate());
    const size_t begin = (blocks.size() - 1) * size;
    if (begin + size > tokens.size()) continue;
    const std::optional<int32_t> previous =
        blocks.size() > 1 ? std::optional<int32_t>(blocks[blocks.size() - 2]) : std::nullopt;
    pool.Publish(blocks.back(), previous, tokens.subspan(begin, size), domain);
  }
  return blocks;
}

void ReleaseAll(BlockPool& pool, std::vector<int32_t> blocks) {
  std::reverse(blocks.begin(), blocks.end());
  for (const int32_t block : blocks) pool.Release(block);
}

TEST(BlockPoolTest, GivesEachBlockOnceAndThenNone) {
  BlockPool pool(5, 4);
  std::set<int32_t> blocks;
  for (int i = 0; i < 5; ++i) blocks.insert(*pool.Allocate());
  EXPECT_THAT(blocks, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(pool.Allocate(), std::nullopt);
  EXPECT_EQ(pool.num_used(), 5);
  pool.Release(3);
  EXPECT_EQ(pool.num_available(), 1);
  EXPECT_THAT(pool.Allocate(), Optional(3));
}

TEST(BlockPoolTest, AnUnpublishedBlockIsFreeAgainWithoutContents) {
  BlockPool pool(2, 4);
  pool.Release(*pool.Allocate());
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_available(), 2);
}

TEST(BlockPoolTest, SharesWholeBlocksOfAnEqualPrefix) {
  BlockPool pool(8, 4);
  const auto blocks = Compute(pool, Tokens(10));
  ASSERT_THAT(blocks, SizeIs(3));

  std::vector<int32_t> other = Tokens(10);
  other[9] = 99;
  EXPECT_THAT(pool.AcquirePrefix(other), ElementsAre(blocks[0], blocks[1]));
  EXPECT_EQ(pool.num_used(), 3) << "shared blocks are used once";

  other[5] = 99;
  EXPECT_THAT(pool.AcquirePrefix(other), ElementsAre(blocks[0]));
  other[0] = 99;
  EXPECT_THAT(pool.AcquirePrefix(other), IsEmpty());
}

TEST(BlockPoolTest, NeverGivesAllOfTheTokens) {
  BlockPool pool(8, 4);
  const auto blocks = Compute(pool, Tokens(8));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(9)), ElementsAre(blocks[0], blocks[1]));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(8)), ElementsAre(blocks[0]));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5)), ElementsAre(blocks[0]));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(4)), IsEmpty());
  EXPECT_THAT(pool.AcquirePrefix({}), IsEmpty());
}

TEST(BlockPoolTest, EqualTokensAfterDifferentPrefixesAreDifferentContents) {
  BlockPool pool(8, 2);
  const std::vector<int32_t> a = {1, 2, 7, 8, 0};
  const std::vector<int32_t> b = {3, 4, 7, 8, 0};
  const auto blocks_a = Compute(pool, a);
  const auto blocks_b = Compute(pool, b);
  EXPECT_NE(blocks_a[1], blocks_b[1]);
  EXPECT_THAT(pool.AcquirePrefix(b), ElementsAre(blocks_b[0], blocks_b[1]));
}

TEST(BlockPoolTest, ABlockOutlivesTheSequenceThatComputedIt) {
  BlockPool pool(4, 4);
  const auto blocks = Compute(pool, Tokens(9));
  ReleaseAll(pool, blocks);
  EXPECT_EQ(pool.num_used(), 0);
  EXPECT_EQ(pool.num_cached(), 2);
  EXPECT_EQ(pool.num_available(), 4);
  EXPECT_THAT(pool.AcquirePrefix(Tokens(9)), ElementsAre(blocks[0], blocks[1]));
  EXPECT_EQ(pool.num_used(), 2);
  EXPECT_EQ(pool.num_cached(), 0);
}

TEST(BlockPoolTest, ASharedBlockIsFreedByItsLastUser) {
  BlockPool pool(2, 4);
  const auto first = Compute(pool, Tokens(5));
  const auto second = pool.AcquirePrefix(Tokens(5));
  ReleaseAll(pool, first);
  EXPECT_EQ(pool.num_used(), 1);
  EXPECT_TRUE(pool.Allocate().has_value());
  EXPECT_EQ(pool.Allocate(), std::nullopt) << "the shared block is still in use";
  ReleaseAll(pool, second);
  EXPECT_TRUE(pool.Allocate().has_value());
}

TEST(BlockPoolTest, AddUserKeepsABlockUntilItsLastUser) {
  BlockPool pool(1, 4);
  const int32_t block = *pool.Allocate();
  pool.AddUser(block);
  EXPECT_EQ(pool.num_users(block), 2);
  pool.Release(block);
  EXPECT_EQ(pool.num_used(), 1);
  EXPECT_EQ(pool.Allocate(), std::nullopt);
  pool.Release(block);
  EXPECT_EQ(pool.num_used(), 0);
  EXPECT_DEATH(pool.AddUser(block), "in use by nobody");
}

TEST(BlockPoolTest, EvictsTheLeastRecentlyUsedAndAPrefixAfterWhatFollowsIt) {
  BlockPool pool(5, 2);
  ReleaseAll(pool, Compute(pool, Tokens(4, 100)));
  ReleaseAll(pool, Compute(pool, Tokens(4, 200)));
  ReleaseAll(pool, pool.AcquirePrefix(Tokens(5, 100)));  // 100... is now the more recent
  ASSERT_EQ(pool.num_cached(), 4);

  ASSERT_TRUE(pool.Allocate().has_value());  // the one that was never used
  EXPECT_EQ(pool.num_cached(), 4);
  ASSERT_TRUE(pool.Allocate().has_value());
  const auto prefix = pool.AcquirePrefix(Tokens(5, 200));
  EXPECT_THAT(prefix, SizeIs(1)) << "the second block of 200 went first";
  ReleaseAll(pool, prefix);
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5, 100)), SizeIs(2));
}

TEST(BlockPoolTest, ARecomputedPrefixDoesNotFindBlocksOfItsEvictedPredecessor) {
  BlockPool pool(3, 2);
  const auto blocks = Compute(pool, Tokens(4));
  // Released in the wrong order, so that the first block is evicted before the second.
  pool.Release(blocks[0]);
  pool.Release(blocks[1]);
  ASSERT_TRUE(pool.Allocate().has_value());
  const auto evicted = pool.Allocate();
  ASSERT_THAT(evicted, Optional(blocks[0]));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5)), IsEmpty());
  pool.Publish(*evicted, std::nullopt, Tokens(2));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5)), ElementsAre(*evicted));
}

TEST(BlockPoolTest, ContentsComputedTwiceAreFoundUnderTheFirst) {
  BlockPool pool(8, 2);
  // Two sequences with one prompt, computed side by side.
  const int32_t a0 = *pool.Allocate(), b0 = *pool.Allocate();
  pool.Publish(a0, std::nullopt, Tokens(2));
  pool.Publish(b0, std::nullopt, Tokens(2));
  const int32_t b1 = *pool.Allocate();
  pool.Publish(b1, b0, Tokens(2, 2));
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5)), ElementsAre(a0, b1));
  pool.Release(b0);
  EXPECT_EQ(pool.num_cached(), 0) << "the duplicate is free, not cached";
}

TEST(BlockPoolTest, APrivateDomainSharesWithNobodyElse) {
  BlockPool pool(8, 2);
  const auto blocks = Compute(pool, Tokens(4), /*domain=*/7);
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5)), IsEmpty());
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5), 8), IsEmpty());
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5), 7), ElementsAre(blocks[0], blocks[1]));
}

TEST(BlockPoolTest, BlocksOfAPrivateDomainAreEvictedFirst) {
  BlockPool pool(4, 2);
  ReleaseAll(pool, Compute(pool, Tokens(4, 100)));
  ReleaseAll(pool, Compute(pool, Tokens(4, 200), /*domain=*/7));
  ASSERT_EQ(pool.num_cached(), 4);
  EXPECT_TRUE(pool.Allocate().has_value());
  EXPECT_TRUE(pool.Allocate().has_value());
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5, 200), 7), IsEmpty());
  EXPECT_THAT(pool.AcquirePrefix(Tokens(5, 100)), SizeIs(2));
}

// A pool under random sequences that share prefixes: no block is given to two users unless its
// contents are equal, none is lost, and what AcquirePrefix returns holds what was asked for.
TEST(BlockPoolTest, RandomUseNeverMixesContentsOrLosesABlock) {
  constexpr int32_t kBlockSize = 3;
  std::mt19937 random(20240605);
  BlockPool pool(40, kBlockSize);
  std::map<int32_t, std::vector<int32_t>> contents;  // of each block: all tokens up to its end
  std::vector<std::vector<int32_t>> live;
  for (int round = 0; round < 20000; ++round) {
    if (!live.empty() && (random() % 2 == 0 || pool.num_available() < 10)) {
      const size_t index = random() % live.size();
      ReleaseAll(pool, live[index]);
      live.erase(live.begin() + index);
      continue;
    }
    std::vector<int32_t> tokens(1 + random() % 20);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 2);
    std::vector<int32_t> blocks = pool.AcquirePrefix(tokens);
    ASSERT_LT(blocks.size() * kBlockSize, tokens.size());
    for (size_t i = 0; i < blocks.size(); ++i) {
      const std::vector<int32_t> expected(tokens.begin(), tokens.begin() + (i + 1) * kBlockSize);
      ASSERT_EQ(contents[blocks[i]], expected);
    }
    std::set<int32_t> in_use;
    for (const auto& other : live) in_use.insert(other.begin(), other.end());
    while (blocks.size() * kBlockSize < tokens.size()) {
      const auto block = pool.Allocate();
      ASSERT_TRUE(block.has_value());
      ASSERT_FALSE(in_use.contains(*block)) << "given to two users";
      blocks.push_back(*block);
      const size_t end = blocks.size() * kBlockSize;
      if (end > tokens.size()) break;
      contents[*block].assign(tokens.begin(), tokens.begin() + end);
      pool.Publish(
          *block,
          blocks.size() > 1 ? std::optional<int32_t>(blocks[blocks.size() - 2]) : std::nullopt,
          absl::MakeConstSpan(tokens).subspan(end - kBlockSize, kBlockSize));
    }
    live.push_back(std::move(blocks));
    std::set<int32_t> used;
    for (const auto& sequence : live) used.insert(sequence.begin(), sequence.end());
    ASSERT_EQ(pool.num_used(), used.size());
  }
  for (const auto& sequence : live) ReleaseAll(pool, sequence);
  EXPECT_EQ(pool.num_used(), 0);
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(pool.Allocate().has_value());
}

}  // namespace
}  // namespace attendant::engine
