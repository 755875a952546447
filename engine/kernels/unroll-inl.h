// Loops over registers, inside one Highway target. Included by each kernel once for each target, so
// the guard toggles.
#if defined(ATTENDANT_ENGINE_KERNELS_UNROLL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTENDANT_ENGINE_KERNELS_UNROLL_INL_H_
#undef ATTENDANT_ENGINE_KERNELS_UNROLL_INL_H_
#else
#define ATTENDANT_ENGINE_KERNELS_UNROLL_INL_H_
#endif

#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {

// body(i) for i of [0, kCount), constants all: an array of vectors indexed by them is so many
// registers, where one indexed by a variable is memory.
template <int kCount, int kFirst = 0, typename Body>
HWY_INLINE void Unroll(const Body& body) {
  if constexpr (kFirst < kCount) {
    body(std::integral_constant<int, kFirst>());
    Unroll<kCount, kFirst + 1>(body);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#endif  // ATTENDANT_ENGINE_KERNELS_UNROLL_INL_H_
