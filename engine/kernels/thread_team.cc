#include "engine/kernels/thread_team.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/processor_claim.h"
#include "hwy/cache_control.h"

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

// How many threads a region really gets: OMP_THREAD_LIMIT may allow fewer.
int TeamSize(int wanted) {
  omp_set_dynamic(0);  // the same number every time
  int size = 1;
#pragma omp parallel num_threads(wanted)
  if (omp_get_thread_num() == 0) size = omp_get_num_threads();
  if (size < wanted) {
    LOG(WARNING) << "OpenMP gives " << size << " of " << wanted
                 << " compute threads; see OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS";
  }
  return size;
}

// Of threads that have processors of their own some ten milliseconds, where a pause takes 140
// cycles: longer than another program holds a processor up as a rule. Little where others may need
// it; and, as libgomp, none where that is wished.
int MaxSpins(bool is_pinned) {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  if (policy != nullptr && absl::EqualsIgnoreCase(policy, "passive")) return 0;
  return is_pinned ? 150000 : 1000;
}

// Until `value` is no longer `old`: spins, then sleeps.
int WaitWhile(const std::atomic<int>& value, int old, int max_spins) {
  for (int spin = 0; spin < max_spins; ++spin) {
    if (const int now = value.load(std::memory_order_acquire); now != old) return now;
    hwy::Pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

// Which processor each thread of the team runs on. Pinned from inside, so that it does not depend
// on environment variables set before libgomp loads; and not once but on entering a region, because
// libgomp ends the threads that a smaller team (oneDNN makes them for small products) leaves out,
// and makes new ones later.
class ThreadTeam::Affinity {
 public:
  // Null if the machine does not let us, or has too few processors that no other team pins to.
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

ThreadTeam::ThreadTeam(int num_threads, bool pin_threads)
    : num_threads_(kSingleThread ? 1 : TeamSize(std::max(num_threads, 1))),
      affinity_(pin_threads ? Affinity::Create(num_threads_) : nullptr),
      max_spins_(MaxSpins(affinity_ != nullptr)) {
  CHECK_GE(num_threads, 1);
  omp_set_num_threads(num_threads_);  // oneDNN asks for as many
  if (!pin_threads) return;
  if (affinity_ == nullptr) {
    LOG(WARNING) << "compute threads are not pinned: fewer than " << num_threads
                 << " processors to run on that no other server has pinned its own to; give each "
                    "server its own, as with taskset, or fewer threads";
    return;
  }
  Run([](int) {});
}

ThreadTeam::~ThreadTeam() {
  if (affinity_ != nullptr) Run([this](int) { affinity_->Unpin(); });
}

void ThreadTeam::Enter(int thread) {
  if (affinity_ != nullptr) affinity_->Pin(thread);
}

void ThreadTeam::Run(Work work) {
  if (num_threads_ == 1) {
    Enter(0);
    return work(0);
  }
  if (!in_region_) {
#pragma omp parallel num_threads(num_threads_)
    {
      const int thread = omp_get_thread_num();
      Enter(thread);
      work(thread);
    }
    return;
  }
  work_ = &work;
  num_working_.store(num_threads_ - 1, std::memory_order_relaxed);
  round_.fetch_add(1);
  round_.notify_all();
  work(0);
  for (int working = num_working_.load(std::memory_order_acquire); working > 0;) {
    working = WaitWhile(num_working_, working, max_spins_);
  }
}

void ThreadTeam::Serve(int thread, int round) {
  while (true) {
    round = WaitWhile(round_, round, max_spins_);
    if (work_ == nullptr) return;
    (*work_)(thread);
    if (num_working_.fetch_sub(1) == 1) num_working_.notify_one();
  }
}

void ThreadTeam::RunInOneRegion(absl::FunctionRef<void()> body) {
  if (num_threads_ == 1 || in_region_) return body();
  std::exception_ptr thrown;
  const int round = round_;
  in_region_ = true;
#pragma omp parallel num_threads(num_threads_)
  {
    const int thread = omp_get_thread_num();
    Enter(thread);
    if (thread > 0) {
      Serve(thread, round);
    } else {
      try {
        body();
      } catch (...) {
        thrown = std::current_exception();
      }
      work_ = nullptr;
      round_.fetch_add(1);
      round_.notify_all();
    }
  }
  in_region_ = false;
  if (thrown != nullptr) std::rethrow_exception(thrown);
}

}  // namespace attendant::engine
