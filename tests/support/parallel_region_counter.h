#ifndef ATTENDANT_TESTS_SUPPORT_PARALLEL_REGION_COUNTER_H_
#define ATTENDANT_TESTS_SUPPORT_PARALLEL_REGION_COUNTER_H_

#include <cstdint>

namespace attendant::testing {

// How many parallel regions of OpenMP this process has opened, on any thread, oneDNN's included. A
// program that links tests_parallel_region_counter counts.
int64_t CountParallelRegions();

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_SUPPORT_PARALLEL_REGION_COUNTER_H_
