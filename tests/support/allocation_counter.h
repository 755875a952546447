#ifndef ATTENDANT_TESTS_SUPPORT_ALLOCATION_COUNTER_H_
#define ATTENDANT_TESTS_SUPPORT_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace attendant::testing {

// How often memory was taken from the heap by this process, on any thread: by malloc and all that
// comes down to it, operator new included. A program that links tests_allocation_counter counts.
struct Allocations {
  int64_t own = 0;
  int64_t onednn = 0;  // by oneDNN, which copies the arguments of its primitives and ukernels

  friend Allocations operator-(Allocations a, Allocations b) {
    return {a.own - b.own, a.onednn - b.onednn};
  }
};

Allocations CountAllocations();

// The bytes of the heap that are in use, and the most since ResetPeakHeapBytes, of which those that
// are in use then are the least. Memory that is mapped by other means is not counted.
int64_t HeapBytes();
int64_t PeakHeapBytes();
void ResetPeakHeapBytes();

// False in a build with a sanitizer, which has a heap of its own: everything is 0 then.
bool AllocationsAreCounted();

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_SUPPORT_ALLOCATION_COUNTER_H_
