#include "engine/kv_cache/block_pool.h"

#include <utility>

#include "absl/log/check.h"

namespace attendant::engine {

BlockPool::BlockPool(int32_t num_blocks, int32_t block_size)
    : block_size_(block_size), blocks_(num_blocks) {
  CHECK_GT(block_size, 0);
  free_.reserve(num_blocks);
  for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<int32_t> BlockPool::Allocate() {
  int32_t block;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else if (oldest_cached_ >= 0) {
    block = oldest_cached_;
    RemoveFromCached(block);
    Forget(blocks_[block]);
  } else {
    return std::nullopt;
  }
  blocks_[block].num_users = 1;
  ++num_used_;
  return block;
}

std::vector<int32_t> BlockPool::AcquirePrefix(absl::Span<const int32_t> tokens, uint64_t domain) {
  std::vector<int32_t> prefix;
  Contents contents{.domain = domain};
  for (size_t begin = 0; begin + block_size_ < tokens.size(); begin += block_size_) {
    contents.tokens.assign(tokens.begin() + begin, tokens.begin() + begin + block_size_);
    const auto it = found_.find(contents);
    if (it == found_.end()) break;
    Block& block = blocks_[it->second];
    if (block.num_users++ == 0) {
      RemoveFromCached(it->second);
      ++num_used_;
    }
    prefix.push_back(it->second);
    contents.previous = block.id;
  }
  return prefix;
}

void BlockPool::AddUser(int32_t block) {
  CHECK_GT(blocks_[block].num_users, 0) << "block " << block << " is in use by nobody";
  ++blocks_[block].num_users;
}

void BlockPool::Publish(int32_t block, std::optional<int32_t> previous,
                        absl::Span<const int32_t> tokens, uint64_t domain) {
  CHECK_EQ(tokens.size(), block_size_) << "only a full block is published";
  Block& published = blocks_[block];
  CHECK_GT(published.num_users, 0) << "block " << block << " is published by nobody";
  if (published.id != kNoContents) return;

  Contents contents{.domain = domain, .tokens = {tokens.begin(), tokens.end()}};
  if (previous.has_value()) {
    contents.previous = blocks_[*previous].id;
    CHECK_NE(contents.previous, kNoContents)
        << "block " << *previous << " was not published before " << block;
  }
  const auto [it, inserted] = found_.try_emplace(contents, block);
  if (inserted) {
    published.id = ++last_id_;
    published.is_found = true;
    published.contents = std::move(contents);
  } else {
    published.id = blocks_[it->second].id;
  }
}

void BlockPool::Release(int32_t block) {
  Block& released = blocks_[block];
  CHECK_GT(released.num_users, 0) << "block " << block << " is released by nobody";
  if (--released.num_users > 0) return;
  --num_used_;
  if (released.is_found) {
    AddToCached(block, /*as_newest=*/released.contents.domain == kSharedDomain);
  } else {
    Forget(released);
    free_.push_back(block);
  }
}

void BlockPool::AddToCached(int32_t block, bool as_newest) {
  const int32_t older = as_newest ? newest_cached_ : -1;
  const int32_t newer = as_newest ? -1 : oldest_cached_;
  blocks_[block].older = older;
  blocks_[block].newer = newer;
  (older >= 0 ? blocks_[older].newer : oldest_cached_) = block;
  (newer >= 0 ? blocks_[newer].older : newest_cached_) = block;
  ++num_cached_;
}

void BlockPool::RemoveFromCached(int32_t block) {
  const Block& removed = blocks_[block];
  (removed.older >= 0 ? blocks_[removed.older].newer : oldest_cached_) = removed.newer;
  (removed.newer >= 0 ? blocks_[removed.newer].older : newest_cached_) = removed.older;
  --num_cached_;
}

void BlockPool::Forget(Block& block) {
  if (block.is_found) found_.erase(block.contents);
  block.id = kNoContents;
  block.is_found = false;
  block.contents = {};
}

}  // namespace attendant::engine
