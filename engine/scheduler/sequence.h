#ifndef ATTENDANT_ENGINE_SCHEDULER_SEQUENCE_H_
#define ATTENDANT_ENGINE_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "engine/kv_cache/block_pool.h"

namespace attendant::engine {

// What the encoder of an encoder-decoder reads. Shared by the sequences that are generated from it.
struct Source {
  std::vector<int32_t> tokens;  // at least one

  // The scheduler's. The keys and values of the tokens for the decoder's cross-attention, whole
  // from the step that encodes them on; held while a sequence that reads them runs.
  std::vector<int32_t> blocks;
  int32_t num_running = 0;  // of those sequences
};

// One text that grows: what the scheduler must know of it. Whoever runs it derives from this and
// adds the rest.
struct Sequence {
  // Set before Scheduler::Add.
  int64_t arrival = 0;     // earlier runs first, among equals of priority
  int32_t priority = 0;    // higher runs first
  int64_t max_tokens = 0;  // the most that `tokens` may become
  uint64_t prefix_domain = BlockPool::kSharedDomain;  // equal in it are tokens and their source
  Source* source = nullptr;  // of an encoder-decoder; outlives the sequence
  int32_t max_beams = 1;     // that it may fork into, itself included
  int64_t num_common = 0;    // tokens that all beams begin with, whatever becomes of them

  // The prompt and, behind it, the output. Grown by whoever runs the sequence, between steps.
  std::vector<int32_t> tokens;

  // Logits are wanted of this token and all later ones: at first the prompt's last token or, to
  // score the prompt, its first; moved on by whoever has read them. Never beyond the last token.
  int64_t first_logit_token = 0;

  // The scheduler's.
  int64_t num_computed = 0;     // tokens whose keys and values are in the cache
  int64_t num_cached = 0;       // of those, found there when the sequence was first admitted
  std::vector<int32_t> blocks;  // with room for num_computed tokens and those of the step that runs
  int64_t num_published = 0;    // blocks, from the first, whose contents are known to the pool
  bool was_admitted = false;    // at least once
  bool is_running = false;
  std::vector<Sequence*> forks;  // the other beams: what of them is computed runs with this one
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SCHEDULER_SEQUENCE_H_
