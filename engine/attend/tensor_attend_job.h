#ifndef ATTENDANT_ENGINE_ATTEND_TENSOR_ATTEND_JOB_H_
#define ATTENDANT_ENGINE_ATTEND_TENSOR_ATTEND_JOB_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/attend/attend_job.h"
#include "engine/base/tensor.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/request.h"

namespace attendant::engine {

// Attention on a caller's tensors: query rows of all heads are computed together, as many as make
// some tens of milliseconds of work, and then cut into blocks. Query rows come in order; of the
// same rows the output first, then weights, then log-sum-exp.
//
// Vaswani et al., "Attention Is All You Need", 2017, sections 3.2.1 (the tensors) and 3.2.2 (the
// layer).
class TensorAttendJob : public AttendJob {
 public:
  // Checks the request and widens its tensors; any thread. INVALID_ARGUMENT, naming the field, for
  // shapes that do not agree, an element type that attention is not computed in, a mask that is NaN
  // or +infinity somewhere, or results of more than `max_bytes` (--max_attend_bytes).
  static absl::StatusOr<std::unique_ptr<TensorAttendJob>> Create(AttendRequest request,
                                                                 int64_t max_bytes);

  bool done() const override { return next_batch_ == num_batches_ && blocks_.empty(); }
  absl::StatusOr<std::optional<AttendBlock>> Next(KernelContext& context) override;

 private:
  // A linear layer's weight [out, in] and its bias, which may be empty.
  struct Projection {
    std::vector<float> weight, bias;
    int64_t out_features = 0, in_features = 0;
  };
  struct Layer {
    Projection q, k, v, o;
    std::optional<Linear> packed_q, packed_k, packed_v, packed_o;
  };

  using AttendJob::AttendJob;
  absl::Status InitTensors(AttendTensors source);
  absl::Status InitLayer(AttendLayer source);
  void SetHeads(int64_t heads, int64_t kv_heads, int64_t query_dim, int64_t value_dim);
  absl::Status InitMask(AttentionMask mask, const char* path);
  absl::Status PlanResults(int64_t max_bytes);

  absl::Status PrepareBatch(KernelContext& context);  // q_, k_, v_ of next_batch_, as packed rows
  void ComputeRows(KernelContext& context);           // the next query rows, into blocks_
  void CutIntoBlocks(AttendOutput kind, const std::vector<float>& values, int64_t rows,
                     int64_t columns);

  bool has_batch_axis_ = false;
  int64_t num_batches_ = 1;
  int64_t num_queries_ = 0;
  int64_t num_keys_ = 0;
  // Queries and keys have query_dim_ values a head, values have value_dim_; zeros widen the
  // narrower to options_.head_dim, which changes neither scores nor sums.
  int64_t query_dim_ = 0, value_dim_ = 0;
  AttentionOptions options_;
  bool return_weights_ = false;
  bool return_lse_ = false;
  int64_t rows_per_step_ = 1;

  // What the caller gave, widened. Tensors: [batch, heads, len, dim]; a layer: [batch, len,
  // d_model].
  std::vector<float> query_, key_, value_;
  int64_t query_width_ = 0, key_width_ = 0, value_width_ = 0;  // a layer's d_model of each
  std::optional<Layer> layer_;

  std::vector<float> mask_;  // additive; empty: none
  int64_t mask_batch_stride_ = 0;
  AttentionBias bias_;

  // Of the batch entry being computed: rows of all heads side by side.
  std::vector<float> q_, k_, v_;
  bool batch_ready_ = false;
  int64_t next_batch_ = 0;
  int64_t next_query_ = 0;
  std::deque<AttendBlock> blocks_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ATTEND_TENSOR_ATTEND_JOB_H_
