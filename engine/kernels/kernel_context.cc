#include "engine/kernels/kernel_context.h"

#include <algorithm>

#include "engine/kernels/block_product.h"
#include "engine/kernels/onednn.h"
#include "hwy/targets.h"

namespace attendant::engine {

bool CpuMultipliesBFloat16() { return Onednn::MultipliesBFloat16(); }

KernelContext::KernelContext(int num_threads, bool pin_threads)
    : team_(num_threads, pin_threads),
      onednn_(std::make_unique<Onednn>()),
      block_products_(std::make_unique<BlockProducts>()),
      shares_(team_.num_threads()) {
  // Chooses Highway's target now. A kernel's pointer that is taken before looks for the target at
  // every call: a second for a table of embeddings, where a hypervisor traps CPUID.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

KernelContext::~KernelContext() = default;

void KernelContext::GrowScratch(size_t size_bytes) {
  // A little more than wanted: what grows with every token of a sequence grows rarely here.
  const size_t with_room = std::max(size_bytes, scratch_.size_bytes() / 4 * 5);
  scratch_ = AlignedBuffer();  // first: the old contents are not wanted
  scratch_ = AlignedBuffer(with_room);
}

}  // namespace attendant::engine
