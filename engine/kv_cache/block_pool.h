#ifndef ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_
#define ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace attendant::engine {

// Which blocks of a KV cache are free, which are in use and by how many sequences, and which hold a prefix that may be
// used again. Bookkeeping only: no tensors, no locks. Called from the engine thread alone.
//
// Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023. A full block is
// known by the hash of its tokens and of all tokens before it, and verified by those tokens, so that two different
// prefixes never share. A block that nobody uses keeps its contents until it is the least recently used of those.
class BlockPool {
 public:
  // `block_size` tokens a block.
  BlockPool(int32_t num_blocks, int32_t block_size);

  // A block for one user, taken from the free ones, else from the cached ones nobody uses; nothing if none is left.
  std::optional<int32_t> Allocate();

  // The blocks, each now used once more, of the longest cached prefix of `tokens`: whole blocks only, and never all of
  // `tokens` (the last one must be computed for its logits).
  std::vector<int32_t> AcquirePrefix(absl::Span<const int32_t> tokens);

  // Makes block number `index` of a sequence, now full, known by its contents: `tokens` are the sequence's first
  // (index + 1) * block_size tokens. If those contents are already known under another block, nothing changes.
  void Publish(int32_t block, absl::Span<const int32_t> tokens);

  // One user fewer. A block that nobody uses is free again, or cached if it was published.
  void Release(int32_t block);

  int32_t num_blocks() const;
  int32_t block_size() const;
  int32_t num_available() const;  // free, or cached and unused
  int32_t num_used() const;       // by at least one sequence

 private:
  // The implementer's.
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KV_CACHE_BLOCK_POOL_H_
