#include "engine/kernels/round_to_bfloat16.h"

#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/round_to_bfloat16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

void RoundRow(const float* x, int64_t size, uint16_t* out) {
  ForEachVector(size, [&](size_t i, size_t count)
                          HWY_ATTR { StoreFloats(LoadFloats(x + i, count), out + i, count); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(RoundRow);

void RoundToBFloat16(KernelContext& context, const InputRows& x, std::byte* buffers,
                     uint16_t* out) {
  const auto round_row = HWY_DYNAMIC_POINTER(RoundRow);
  ParallelRanges(context, x.rows(), x.grain(), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row)
      round_row(x.Row(row, thread, buffers), x.cols(), out + row * x.cols());
  });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
