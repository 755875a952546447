#ifndef ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_
#define ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/types/span.h"

namespace attendant::engine {

// Which blocks of a KV cache are free, which are in use and by how many sequences, and which hold a
// prefix that may be used again. Bookkeeping only: no tensors, no locks. Called from the engine
// thread alone.
//
// Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
// 2023. A full block is known by its tokens and by the contents of the block before it, and so by
// every token from the start. It is found by hash and verified by those tokens: two different
// prefixes never share. A block that nobody uses keeps its contents until it is the least recently
// used of those.
//
// All memory is taken at the start: publishing, allocating and releasing blocks take none.
class BlockPool {
 public:
  // The prefixes that all sequences share. Any other domain is private: its blocks are found only
  // within it.
  static constexpr uint64_t kSharedDomain = 0;

  // `block_size` tokens a block.
  BlockPool(int32_t num_blocks, int32_t block_size);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // A block for one user, taken from the free ones, else from the cached ones nobody uses; nothing
  // if none is left.
  std::optional<int32_t> Allocate();

  // The blocks, each now used once more, of the longest cached prefix of `tokens`: whole blocks
  // only, and never all of `tokens` (the last one must be computed for its logits).
  std::vector<int32_t> AcquirePrefix(absl::Span<const int32_t> tokens,
                                     uint64_t domain = kSharedDomain);

  // One user more of a block that is in use.
  void AddUser(int32_t block);

  int32_t num_users(int32_t block) const { return blocks_[block].num_users; }

  // Makes a block of a sequence, now full, known by its contents. `previous` is the sequence's
  // block before it, which was published or acquired, or nothing for its first. `tokens` are the
  // block's own, block_size of them. If those contents are already known under another block, that
  // one stays the one that is found.
  void Publish(int32_t block, std::optional<int32_t> previous, absl::Span<const int32_t> tokens,
               uint64_t domain = kSharedDomain);

  // One user fewer. A block that nobody uses is free again, or cached if it was published; in a
  // private domain as the first to go. Release a sequence's last block first: a prefix then
  // outlives what follows it.
  void Release(int32_t block);

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t block_size() const { return block_size_; }
  int32_t num_available() const { return num_blocks() - num_used_; }  // free, or cached and unused
  int32_t num_used() const { return num_used_; }                      // by at least one sequence
  int32_t num_cached() const { return num_cached_; }  // holding contents, and unused

 private:
  // What a block holds: a number that is never given twice, so that a block whose predecessor was
  // evicted, and perhaps computed again elsewhere, is not found by mistake.
  using ContentsId = uint64_t;
  static constexpr ContentsId kNoContents = 0;

  struct Contents {
    uint64_t domain = kSharedDomain;
    ContentsId previous = kNoContents;
    absl::Span<const int32_t> tokens;  // of a block that is found, in tokens_

    friend bool operator==(const Contents&, const Contents&) = default;
  };

  struct Block {
    int32_t num_users = 0;
    ContentsId id = kNoContents;
    bool is_found = false;  // it is in found_
    Contents contents;      // of a block that is found
    // Neighbours in the list of cached blocks, while in it.
    int32_t older = -1;
    int32_t newer = -1;
  };

  // Blocks in found_ are known, and looked for, by their contents.
  struct HashContents {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard's
    const BlockPool* pool;
    size_t operator()(const Contents& c) const {
      return absl::HashOf(c.domain, c.previous, c.tokens);
    }
    size_t operator()(int32_t block) const { return (*this)(pool->blocks_[block].contents); }
  };
  struct EqualContents {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard's
    const BlockPool* pool;
    const Contents& Of(const Contents& contents) const { return contents; }
    const Contents& Of(int32_t block) const { return pool->blocks_[block].contents; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };

  void AddToCached(int32_t block, bool as_newest);
  void RemoveFromCached(int32_t block);
  void Forget(int32_t block);

  const int32_t block_size_;
  std::vector<Block> blocks_;
  std::vector<int32_t> tokens_;  // [num_blocks, block_size]
  std::vector<int32_t> free_;
  absl::flat_hash_set<int32_t, HashContents, EqualContents> found_;
  ContentsId last_id_ = kNoContents;
  int32_t oldest_cached_ = -1;
  int32_t newest_cached_ = -1;
  int32_t num_cached_ = 0;
  int32_t num_used_ = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_
