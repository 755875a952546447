#ifndef ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
#define ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_

#include <cstddef>
#include <memory>

namespace attendant::engine {

class Onednn;

// What every kernel needs besides its operands: the team of OpenMP threads, oneDNN's engine and stream, and scratch
// memory. Made once, by the thread that computes, and used by that thread alone (a second caller would make a second
// OpenMP team, and the two would fight over the cores).
class KernelContext {
 public:
  // `num_threads` >= 1. The team is pinned, from inside its first parallel region, to `num_threads` of the processors
  // that the process may run on; pass pin_threads = false where several processes share the processors.
  explicit KernelContext(int num_threads, bool pin_threads = true);
  ~KernelContext();
  KernelContext(const KernelContext&) = delete;
  KernelContext& operator=(const KernelContext&) = delete;

  int num_threads() const { return num_threads_; }
  Onednn& onednn() { return *onednn_; }

  // `size_bytes` of 64-byte aligned memory, not initialised, valid until the next call of Scratch: for use within one
  // kernel. Grows to the largest size asked for and stays there.
  std::byte* Scratch(size_t size_bytes);

 private:
  const int num_threads_;
  std::unique_ptr<Onednn> onednn_;
  struct Buffer;
  std::unique_ptr<Buffer> scratch_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_KERNEL_CONTEXT_H_
