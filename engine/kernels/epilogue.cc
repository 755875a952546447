#include "engine/kernels/epilogue.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/epilogue.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/activation-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

template <Activation kActivation>
HWY_INLINE void Finish(const Epilogue& epilogue, const float* sums, int64_t sums_stride,
                       int64_t feature, const Matrix& y) {
  const Floats d;
  const bool add = epilogue.add;
  const float* bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + feature;
  for (int64_t row = 0; row < y.rows; ++row, sums += sums_stride) {
    float* out = y.row(row);
    ForEachVector(y.cols, [&](size_t i, size_t count) ATTENDANT_INLINE_ATTR {
      FloatVec v = LoadFloats(sums + i, count);
      if (bias != nullptr) v = hn::Add(v, hn::LoadU(d, bias + i));
      v = Activate<kActivation>(v);
      if (add) v = hn::Add(v, LoadFloats(out + i, count));
      StoreFloats(v, out + i, count);
    });
  }
}

void FinishBlock(const Epilogue& epilogue, const float* sums, int64_t sums_stride, int64_t feature,
                 const Matrix& y) {
  switch (epilogue.activation) {
    case Activation::kNone:
      return Finish<Activation::kNone>(epilogue, sums, sums_stride, feature, y);
    case Activation::kRelu:
      return Finish<Activation::kRelu>(epilogue, sums, sums_stride, feature, y);
    case Activation::kGeluErf:
      return Finish<Activation::kGeluErf>(epilogue, sums, sums_stride, feature, y);
    case Activation::kGeluTanh:
      return Finish<Activation::kGeluTanh>(epilogue, sums, sums_stride, feature, y);
    case Activation::kSilu:
      return Finish<Activation::kSilu>(epilogue, sums, sums_stride, feature, y);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(FinishBlock);

void ApplyEpilogue(const Epilogue& epilogue, const float* sums, int64_t sums_stride,
                   int64_t feature, const Matrix& y) {
  HWY_DYNAMIC_DISPATCH(FinishBlock)(epilogue, sums, sums_stride, feature, y);
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
