#include "engine/kernels/activation.h"

#include <algorithm>

#include "absl/log/check.h"
#include "engine/kernels/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/activation.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "engine/kernels/activation-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace attendant::engine {
namespace HWY_NAMESPACE {
namespace {

template <Activation kActivation>
HWY_INLINE void Gate(const float* gate, const float* up, int64_t size, float* out) {
  ForEachVector(size, [&](size_t i, size_t count) ATTENDANT_INLINE_ATTR {
    const FloatVec activated = Activate<kActivation>(LoadFloats(gate + i, count));
    StoreFloats(hn::Mul(activated, LoadFloats(up + i, count)), out + i, count);
  });
}

void GateRowOf(Activation activation, const float* gate_up, int64_t size, float* out) {
  const float* gate = gate_up;
  const float* up = gate_up + size;
  switch (activation) {
    case Activation::kNone:
      return Gate<Activation::kNone>(gate, up, size, out);
    case Activation::kRelu:
      return Gate<Activation::kRelu>(gate, up, size, out);
    case Activation::kGeluErf:
      return Gate<Activation::kGeluErf>(gate, up, size, out);
    case Activation::kGeluTanh:
      return Gate<Activation::kGeluTanh>(gate, up, size, out);
    case Activation::kSilu:
      return Gate<Activation::kSilu>(gate, up, size, out);
  }
}

void TanhRow(float* x, int64_t size) {
  ForEachVector(size, [&](size_t i, size_t count) HWY_ATTR {
    const FloatVec v = LoadFloats(x + i, count);
    StoreFloats(hn::IfThenElse(hn::IsNaN(v), v, hn::Tanh(Floats(), v)), x + i, count);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attendant::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attendant::engine {

HWY_EXPORT(GateRowOf);
HWY_EXPORT(TanhRow);

void GateRow(Activation activation, const float* gate_up, int64_t size, float* out) {
  HWY_DYNAMIC_DISPATCH(GateRowOf)(activation, gate_up, size, out);
}

void GatedActivation(KernelContext& context, ConstMatrix gate_up, Activation activation,
                     Matrix out) {
  DCHECK_EQ(gate_up.rows, out.rows);
  DCHECK_EQ(gate_up.cols, 2 * out.cols);
  ParallelRanges(context, out.rows, std::max<int64_t>(1, 4096 / (out.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) {
                     GateRow(activation, gate_up.row(row), out.cols, out.row(row));
                   }
                 });
}

void Tanh(KernelContext& context, Matrix x) {
  const auto tanh_row = HWY_DYNAMIC_POINTER(TanhRow);
  ParallelRanges(context, x.rows, std::max<int64_t>(1, 4096 / (x.cols + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row) tanh_row(x.row(row), x.cols);
                 });
}

}  // namespace attendant::engine
#endif  // HWY_ONCE
