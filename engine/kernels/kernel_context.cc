#include "engine/kernels/kernel_context.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "engine/base/processor_claim.h"
#include "engine/kernels/block_product.h"
#include "engine/kernels/onednn.h"
#include "hwy/targets.h"

namespace attendant::engine {
namespace {

// The processors of `mask`, one of every core first, then their hyperthreads.
std::vector<int> ProcessorsByCore(const cpu_set_t& mask) {
  std::vector<int> first_of_core, others;
  std::set<std::string> cores;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &mask)) continue;
    std::ifstream file(
        absl::StrCat("/sys/devices/system/cpu/cpu", processor, "/topology/thread_siblings_list"));
    std::string core;
    if (!std::getline(file, core)) core = absl::StrCat("cpu", processor);
    (cores.insert(core).second ? first_of_core : others).push_back(processor);
  }
  first_of_core.insert(first_of_core.end(), others.begin(), others.end());
  return first_of_core;
}

// ThreadSanitizer does not see how libgomp synchronises, and takes every region for a race.
#if defined(__SANITIZE_THREAD__)
constexpr bool kSingleThread = true;
#else
constexpr bool kSingleThread = false;
#endif

}  // namespace

// Which processor each thread of the team runs on. Pinned from inside, so that it does not depend
// on environment variables set before libgomp loads; and not once but on entering a region, because
// libgomp ends the threads that a smaller team (oneDNN makes them for small products) leaves out,
// and makes new ones later.
class KernelContext::Affinity {
 public:
  // Null if the machine does not let us, or has too few processors that no other context pins to.
  static std::unique_ptr<Affinity> Create(int num_threads) {
    auto affinity = std::unique_ptr<Affinity>(new Affinity);
    if (sched_getaffinity(0, sizeof affinity->original_, &affinity->original_) != 0) return nullptr;
    for (const int processor : ProcessorsByCore(affinity->original_)) {
      if (std::ssize(affinity->claims_) == num_threads) break;
      if (std::optional<ProcessorClaim> claim = ProcessorClaim::Take(processor))
        affinity->claims_.push_back(*std::move(claim));
    }
    if (std::ssize(affinity->claims_) < num_threads) return nullptr;
    return affinity;
  }

  void Pin(int thread) {
    static thread_local uint64_t pinned_by = 0;
    if (pinned_by == id_) return;
    pinned_by = id_;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    if (thread == 0 && claims_.size() > 2) {
      // Threads that libgomp makes later inherit this mask, and must not all start on one
      // processor.
      for (const ProcessorClaim& claim : claims_) CPU_SET(claim.processor(), &mask);
    } else {
      CPU_SET(claims_[thread].processor(), &mask);
    }
    sched_setaffinity(0, sizeof mask, &mask);  // a failure costs only speed
  }

  void Unpin() { sched_setaffinity(0, sizeof original_, &original_); }

 private:
  Affinity() {
    static std::atomic<uint64_t> last_id{0};
    id_ = ++last_id;
  }

  uint64_t id_;
  cpu_set_t original_;
  std::vector<ProcessorClaim> claims_;
};

bool CpuMultipliesBFloat16() { return Onednn::MultipliesBFloat16(); }

KernelContext::KernelContext(int num_threads, bool pin_threads)
    : num_threads_(kSingleThread ? 1 : num_threads),
      onednn_(std::make_unique<Onednn>()),
      block_products_(std::make_unique<BlockProducts>()),
      shares_(num_threads_) {
  CHECK_GE(num_threads, 1);
  omp_set_num_threads(num_threads_);  // oneDNN asks for as many
  // Chooses Highway's target now. A kernel's pointer that is taken before looks for the target at
  // every call: a second for a table of embeddings, where a hypervisor traps CPUID.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  if (!pin_threads) return;
  affinity_ = Affinity::Create(num_threads_);
  if (affinity_ == nullptr) {
    LOG(WARNING) << "compute threads are not pinned: fewer than " << num_threads
                 << " processors to run on that no other server has pinned its own to; give each "
                    "server its own, as with taskset, or fewer threads";
    return;
  }
#pragma omp parallel num_threads(num_threads_)
  EnterRegion(omp_get_thread_num());
}

KernelContext::~KernelContext() {
  if (affinity_ == nullptr) return;
#pragma omp parallel num_threads(num_threads_)
  affinity_->Unpin();
}

void KernelContext::EnterRegion(int thread) {
  if (affinity_ != nullptr) affinity_->Pin(thread);
}

void KernelContext::GrowScratch(size_t size_bytes) {
  // A little more than wanted: what grows with every token of a sequence grows rarely here.
  const size_t with_room = std::max(size_bytes, scratch_.size_bytes() / 4 * 5);
  scratch_ = AlignedBuffer();  // first: the old contents are not wanted
  scratch_ = AlignedBuffer(with_room);
}

}  // namespace attendant::engine
