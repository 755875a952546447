#include "engine/model/heads/head.h"

#include <algorithm>
#include <utility>

#include "engine/kernels/activation.h"
#include "engine/kernels/input_rows.h"
#include "engine/kernels/norm.h"

namespace attendant::engine {
namespace {

// Logits of one call of the visitor: 16 MiB, 16 rows of the largest vocabularies there are.
constexpr int64_t kMaxLogits = int64_t{1} << 22;
constexpr int64_t kMaxRows = 256;

}  // namespace

Head::Head(HeadWeights weights, const ModelConfig& config)
    : weights_(std::move(weights)),
      norm_eps_(config.norm_eps),
      max_rows_(std::clamp<int64_t>(kMaxLogits / num_outputs(), 1, kMaxRows)) {
  // An output may read the values of its token and of the next.
  in_features_ =
      weights_.transform ? weights_.transform->in_features() : weights_.output.in_features();
  const int64_t transformed = weights_.transform ? weights_.transform->out_features() : 0;
  const int64_t values = max_rows_ * (in_features_ + transformed + num_outputs());
  buffer_ = AlignedBuffer(values * sizeof(float));
}

void Head::Apply(KernelContext& context, ConstMatrix hidden, absl::Span<const int32_t> rows,
                 LogitsVisitor visit) const {
  auto* memory = reinterpret_cast<float*>(buffer_.data());
  for (int64_t first = 0; first < static_cast<int64_t>(rows.size()); first += max_rows_) {
    const int64_t num_rows = std::min<int64_t>(max_rows_, rows.size() - first);
    float* end = memory;
    const auto take = [&](int64_t cols) {
      const Matrix matrix(end, num_rows, cols);
      end += max_rows_ * cols;
      return matrix;
    };
    Matrix x = take(in_features_);
    for (int64_t i = 0; i < num_rows; ++i) {
      std::copy_n(hidden.row(rows[first + i]), in_features_, x.row(i));
    }
    if (weights_.transform) {
      const Matrix transformed = take(weights_.transform->out_features());
      weights_.transform->Apply(context, x, transformed);
      x = transformed;
    }
    if (weights_.has_tanh) Tanh(context, x);
    InputRows input = x;
    if (weights_.norm) {
      const Norm norm{NormKind::kLayerNorm, weights_.norm->weight, weights_.norm->bias, norm_eps_};
      input = InputRows::NormedInPlace(norm, x);
    }
    const Matrix logits = take(num_outputs());
    weights_.output.Apply(context, input, logits);
    visit(first, logits);
  }
}

}  // namespace attendant::engine
