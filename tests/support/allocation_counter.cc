// Functions of the C library and of oneDNN, put before theirs: a program's own definition is the
// one that all of its libraries call.

#include "tests/support/allocation_counter.h"

#include <dlfcn.h>
#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#include "oneapi/dnnl/dnnl.h"
#include "oneapi/dnnl/dnnl_ukernel.h"

namespace attendant::testing {
namespace {

std::atomic<int64_t> num_own{0};
std::atomic<int64_t> num_onednn{0};
std::atomic<int64_t> heap_bytes{0};
std::atomic<int64_t> peak_heap_bytes{0};

}  // namespace

Allocations CountAllocations() { return {num_own.load(), num_onednn.load()}; }

int64_t HeapBytes() { return heap_bytes.load(); }
int64_t PeakHeapBytes() { return peak_heap_bytes.load(); }
void ResetPeakHeapBytes() { peak_heap_bytes = heap_bytes.load(); }

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

bool AllocationsAreCounted() { return false; }

#else

bool AllocationsAreCounted() { return true; }

namespace {

// Primitives that are executed, on all threads of the team; and whether this thread, one of a team
// of ours, is in a ukernel.
std::atomic<int> num_executing{0};
thread_local bool is_in_ukernel = false;

void CountOne() { (num_executing.load() > 0 || is_in_ukernel ? num_onednn : num_own).fetch_add(1); }

void* Taken(void* memory) {
  if (memory == nullptr) return memory;
  const auto size = static_cast<int64_t>(malloc_usable_size(memory));
  const int64_t now = heap_bytes.fetch_add(size) + size;
  int64_t peak = peak_heap_bytes.load();
  while (peak < now && !peak_heap_bytes.compare_exchange_weak(peak, now)) {
  }
  return memory;
}

void GivenBack(void* memory) {
  if (memory != nullptr) heap_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)));
}

template <typename Function>
Function* Original(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace attendant::testing

extern "C" {

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming): the C library's names.

// glibc's own, under the names that nobody replaces.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);

void* malloc(size_t size) noexcept {
  attendant::testing::CountOne();
  return attendant::testing::Taken(__libc_malloc(size));
}
void* calloc(size_t count, size_t size) noexcept {
  attendant::testing::CountOne();
  return attendant::testing::Taken(__libc_calloc(count, size));
}
void* realloc(void* old, size_t size) noexcept {
  attendant::testing::CountOne();
  attendant::testing::GivenBack(old);
  return attendant::testing::Taken(__libc_realloc(old, size));
}
void* memalign(size_t alignment, size_t size) noexcept {
  attendant::testing::CountOne();
  return attendant::testing::Taken(__libc_memalign(alignment, size));
}
void free(void* memory) noexcept {
  attendant::testing::GivenBack(memory);
  __libc_free(memory);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) noexcept {
  *memory = memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

dnnl_status_t dnnl_primitive_execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream,
                                     int num_arguments, const dnnl_exec_arg_t* arguments) {
  static const auto execute =
      attendant::testing::Original(&dnnl_primitive_execute, "dnnl_primitive_execute");
  attendant::testing::num_executing.fetch_add(1);
  const dnnl_status_t status = execute(primitive, stream, num_arguments, arguments);
  attendant::testing::num_executing.fetch_sub(1);
  return status;
}

#ifdef DNNL_EXPERIMENTAL_UKERNEL
dnnl_status_t dnnl_brgemm_execute(const_dnnl_brgemm_t brgemm, const void* a, const void* b,
                                  const dnnl_dim_t* offsets, void* c, void* scratchpad) {
  static const auto execute =
      attendant::testing::Original(&dnnl_brgemm_execute, "dnnl_brgemm_execute");
  attendant::testing::is_in_ukernel = true;
  const dnnl_status_t status = execute(brgemm, a, b, offsets, c, scratchpad);
  attendant::testing::is_in_ukernel = false;
  return status;
}
#endif

}  // extern "C"

namespace attendant::testing {

#endif

}  // namespace attendant::testing
