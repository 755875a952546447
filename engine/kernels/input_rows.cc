#include "engine/kernels/input_rows.h"

#include <algorithm>

#include "absl/log/check.h"

namespace attendant::engine {

InputRows InputRows::Normed(const Norm& norm, ConstMatrix x) {
  InputRows rows(Kind::kNormed, x, nullptr, x.cols);
  rows.norm_ = norm;
  return rows;
}

InputRows InputRows::NormedInPlace(const Norm& norm, Matrix x) {
  InputRows rows(Kind::kNormedInPlace, x, x.data, x.cols);
  rows.norm_ = norm;
  return rows;
}

InputRows InputRows::Gated(Activation activation, Matrix gate_up) {
  DCHECK_EQ(gate_up.cols % 2, 0);
  InputRows rows(Kind::kGated, gate_up, gate_up.data, gate_up.cols / 2);
  rows.activation_ = activation;
  return rows;
}

InputRows InputRows::BFloat16(ConstBFloat16Matrix x) {
  DCHECK_EQ(x.stride, x.cols);
  InputRows rows(Kind::kBFloat16, ConstMatrix(nullptr, x.rows, x.cols), nullptr, x.cols);
  rows.bfloat16_ = x.data;
  return rows;
}

InputRows InputRows::Rows(int64_t first, int64_t count) const {
  InputRows rows = *this;
  if (kind_ == Kind::kBFloat16) {
    rows.x_.rows = count;
    rows.bfloat16_ += first * cols_;
    return rows;
  }
  rows.x_ = x_.Rows(first, count);
  if (written_ != nullptr) rows.written_ = written_ + first * x_.stride;
  return rows;
}

int64_t InputRows::row_bytes() const {
  const bool needs_buffer = kind_ == Kind::kNormed || kind_ == Kind::kGated;
  return needs_buffer ? (cols_ * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64 : 0;
}

const float* InputRows::Row(int64_t index, int thread, std::byte* buffers) const {
  DCHECK(kind_ != Kind::kBFloat16);
  const float* x = x_.row(index);
  if (kind_ == Kind::kAsTheyAre) return x;
  auto* out = kind_ == Kind::kNormedInPlace
                  ? written_ + index * x_.stride
                  : reinterpret_cast<float*>(buffers + thread * row_bytes());
  if (kind_ == Kind::kGated) {
    GateRow(activation_, x, cols_, out);
  } else {
    NormRow(norm_, x, out);
  }
  return out;
}

int64_t InputRows::grain() const {
  // Some two microseconds: what is computed takes longer than rounding it.
  const int64_t values = kind_ == Kind::kAsTheyAre ? 16384 : kind_ == Kind::kGated ? 4096 : 8192;
  return std::max<int64_t>(1, values / (cols_ + 1));
}

int64_t InputRows::all_bytes() const {
  return kind_ == Kind::kNormed ? rows() * cols_ * static_cast<int64_t>(sizeof(float)) : 0;
}

ConstMatrix InputRows::All(KernelContext& context, std::byte* buffer) const {
  DCHECK(kind_ != Kind::kBFloat16);
  if (kind_ == Kind::kAsTheyAre) return x_;
  const Matrix out = kind_ == Kind::kNormed
                         ? Matrix(reinterpret_cast<float*>(buffer), rows(), cols_)
                         : Matrix(written_, rows(), cols_, x_.stride);
  if (kind_ == Kind::kGated) {
    GatedActivation(context, x_, activation_, out);
  } else {
    ApplyNorm(context, norm_, x_, out);
  }
  return out;
}

}  // namespace attendant::engine
