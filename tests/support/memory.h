#ifndef ATTENDANT_TESTS_SUPPORT_MEMORY_H_
#define ATTENDANT_TESTS_SUPPORT_MEMORY_H_

namespace attendant::testing {

// Whether a process' memory is what it allocated: sanitizers keep freed memory back, and more.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kMemoryIsMeasured = false;
#else
inline constexpr bool kMemoryIsMeasured = true;
#endif

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_SUPPORT_MEMORY_H_
