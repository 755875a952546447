#ifndef ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
#define ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/kernels/thread_team.h"

namespace attendant::engine {

class BlockProducts;
class Onednn;

// Whether this machine has instructions that multiply bfloat16, so that models run faster in it
// than in float.
bool CpuMultipliesBFloat16();

// What every kernel needs besides its operands: the team of threads, oneDNN's engine and stream,
// and scratch memory. For one thread, see ThreadTeam.
class KernelContext {
 public:
  // `num_threads` >= 1 (one is taken in a build with ThreadSanitizer). The team is pinned, from
  // inside its parallel regions, to `num_threads` of the processors that the process may run on and
  // no other context, of this process or another, is pinned to (see ProcessorClaim), if there are
  // so many; pass pin_threads = false where they are to be shared.
  // Threads made later by the calling thread inherit its processor: make them before, or elsewhere.
  explicit KernelContext(int num_threads, bool pin_threads = true);
  ~KernelContext();
  KernelContext(const KernelContext&) = delete;
  KernelContext& operator=(const KernelContext&) = delete;

  int num_threads() const { return team_.num_threads(); }
  ThreadTeam& team() { return team_; }
  Onednn& onednn() { return *onednn_; }
  BlockProducts& block_products() { return *block_products_; }

  // `size_bytes` of 64-byte aligned memory, not initialised, valid until the next call of Scratch:
  // for use within one kernel. Grows to the largest size asked for and stays there.
  std::byte* Scratch(size_t size_bytes) {
    if (scratch_.size_bytes() < size_bytes) GrowScratch(size_bytes);
    return scratch_.data();
  }

  // Where ParallelShares counts the tasks that were begun of each thread's share.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
  };
  absl::Span<Share> shares() { return absl::MakeSpan(shares_); }

 private:
  void GrowScratch(size_t size_bytes);

  ThreadTeam team_;
  std::unique_ptr<Onednn> onednn_;
  std::unique_ptr<BlockProducts> block_products_;
  AlignedBuffer scratch_;
  std::vector<Share> shares_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
