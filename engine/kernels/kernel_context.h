#ifndef ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
#define ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

class BlockProducts;
class Onednn;

// Whether this machine has instructions that multiply bfloat16, so that models run faster in it
// than in float.
bool CpuMultipliesBFloat16();

// What every kernel needs besides its operands: the team of OpenMP threads, oneDNN's engine and
// stream, and scratch memory. Made once, by the thread that computes, and used and destroyed by
// that thread alone (a second caller would make a second OpenMP team, and the two would fight over
// the cores).
//
// Between parallel regions the team's threads spin for some milliseconds, then sleep (libgomp's
// default, which OMP_WAIT_POLICY and GOMP_SPINCOUNT change): they spin through a step, and sleep
// when there is none.
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

  int num_threads() const { return num_threads_; }
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

  // Called by every thread of a parallel region, with its number, before it works: pins a thread
  // that is not yet.
  void EnterRegion(int thread);

 private:
  class Affinity;

  void GrowScratch(size_t size_bytes);

  const int num_threads_;
  std::unique_ptr<Affinity> affinity_;  // null: not pinned
  std::unique_ptr<Onednn> onednn_;
  std::unique_ptr<BlockProducts> block_products_;
  AlignedBuffer scratch_;
  std::vector<Share> shares_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
