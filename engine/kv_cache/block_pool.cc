#include "engine/kv_cache/block_pool.h"

#include <algorithm>

#include "absl/log/check.h"

namespace attendant::engine {

BlockPool::BlockPool(int32_t num_blocks, int32_t block_size)
    : block_size_(block_size),
      blocks_(num_blocks),
      tokens_(int64_t{num_blocks} * block_size),
      found_(0, HashContents{this}, EqualContents{this}) {
  CHECK_GT(block_size, 0);
  // A table that is fuller than 25 / 32 grows when what was erased fills the rest.
  found_.reserve(num_blocks + num_blocks / 8 + 1);
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
    Forget(block);
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
    contents.tokens = tokens.subspan(begin, block_size_);
    const auto it = found_.find(contents);
    if (it == found_.end()) break;
    Block& block = blocks_[*it];
    if (block.num_users++ == 0) {
      RemoveFromCached(*it);
      ++num_used_;
    }
    prefix.push_back(*it);
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

  Contents contents{.domain = domain, .tokens = tokens};
  if (previous.has_value()) {
    contents.previous = blocks_[*previous].id;
    CHECK_NE(contents.previous, kNoContents)
        << "block " << *previous << " was not published before " << block;
  }
  if (const auto it = found_.find(contents); it != found_.end()) {
    published.id = blocks_[*it].id;
    return;
  }
  const absl::Span<int32_t> own =
      absl::MakeSpan(tokens_).subspan(static_cast<size_t>(block) * block_size_, block_size_);
  std::copy(tokens.begin(), tokens.end(), own.begin());
  contents.tokens = own;
  published.id = ++last_id_;
  published.is_found = true;
  published.contents = contents;
  found_.insert(block);
}

void BlockPool::Release(int32_t block) {
  Block& released = blocks_[block];
  CHECK_GT(released.num_users, 0) << "block " << block << " is released by nobody";
  if (--released.num_users > 0) return;
  --num_used_;
  if (released.is_found) {
    AddToCached(block, /*as_newest=*/released.contents.domain == kSharedDomain);
  } else {
    Forget(block);
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

void BlockPool::Forget(int32_t block) {
  Block& forgotten = blocks_[block];
  if (forgotten.is_found) found_.erase(block);
  forgotten.id = kNoContents;
  forgotten.is_found = false;
  forgotten.contents = {};
}

}  // namespace attendant::engine
