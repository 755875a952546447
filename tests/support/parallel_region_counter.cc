// The function of libgomp that opens a region, put before its own: see allocation_counter.cc.

#include "tests/support/parallel_region_counter.h"

#include <dlfcn.h>

#include <atomic>

namespace attendant::testing {
namespace {

std::atomic<int64_t> num_regions{0};

}  // namespace

int64_t CountParallelRegions() { return num_regions.load(); }

}  // namespace attendant::testing

// NOLINTNEXTLINE(readability-identifier-naming): libgomp's name.
extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned num_threads,
                              unsigned flags) {
  static const auto parallel =
      reinterpret_cast<decltype(&GOMP_parallel)>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  attendant::testing::num_regions.fetch_add(1);
  parallel(body, data, num_threads, flags);
}
