#include "engine/attend/tensor_attend_job.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/float_conversion.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {
namespace {

constexpr int64_t kMaxBlockValues = kMaxAttendBlockBytes / sizeof(float);

// What one step may keep of weights, and compute, before other work has its turn.
constexpr int64_t kMaxStepWeights = int64_t{4} << 20;
constexpr double kMaxStepFlops = 4e9;

// `tensor` as floats, after checking that it is what it says.
absl::StatusOr<std::vector<float>> Widen(const Tensor& tensor, absl::string_view path) {
  const int64_t count = NumElements(tensor.shape);
  if (count < 0) {
    return FieldError(path, absl::StrCat("shape ", ShapeString(tensor.shape), " is not one"));
  }
  if (tensor.dtype != DataType::kFloat32 && tensor.dtype != DataType::kFloat16 &&
      tensor.dtype != DataType::kBFloat16) {
    return FieldError(path, absl::StrCat("element type is ", DataTypeName(tensor.dtype),
                                         "; attention takes f32, f16 and bf16"));
  }
  const int64_t size = SizeOf(tensor.dtype);
  if (static_cast<int64_t>(tensor.data.size()) / size != count ||
      static_cast<int64_t>(tensor.data.size()) % size != 0) {
    return FieldError(
        path,
        absl::StrCat("data holds ", tensor.data.size(), " bytes; shape ", ShapeString(tensor.shape),
                     " of ", DataTypeName(tensor.dtype), " takes ", count, " x ", size));
  }
  std::vector<float> values(count);
  if (tensor.dtype == DataType::kFloat32) {
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    return values;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, tensor.data.data() + 2 * i, sizeof(bits));
    values[i] = tensor.dtype == DataType::kFloat16 ? Float16ToFloat(bits) : BFloat16ToFloat(bits);
  }
  return values;
}

absl::Status ExpectShape(const Tensor& tensor, absl::Span<const int64_t> expected,
                         absl::string_view path, absl::string_view why) {
  if (tensor.shape == expected) return absl::OkStatus();
  return FieldError(path, absl::StrCat("shape is ", ShapeString(tensor.shape), "; ", why,
                                       " makes it ", ShapeString(expected)));
}

absl::Status ExpectRank(const Tensor& tensor, size_t rank, absl::string_view path,
                        absl::string_view axes) {
  if (tensor.shape.size() != rank && tensor.shape.size() != rank + 1) {
    return FieldError(path, absl::StrCat("shape is ", ShapeString(tensor.shape), "; it is ", axes,
                                         ", with or without a batch axis before"));
  }
  for (const int64_t extent : tensor.shape) {
    if (extent < 1 || extent > std::numeric_limits<int32_t>::max()) {
      return FieldError(path, absl::StrCat("shape is ", ShapeString(tensor.shape),
                                           "; each extent is from 1 to 2147483647"));
    }
  }
  return absl::OkStatus();
}

// `count` groups of `from` values, each followed by zeros up to `to`.
std::vector<float> WidenGroups(const std::vector<float>& values, int64_t count, int64_t from,
                               int64_t to) {
  if (from == to) return values;
  std::vector<float> wide(count * to, 0.0f);
  for (int64_t group = 0; group < count; ++group) {
    std::copy_n(values.data() + group * from, from, wide.data() + group * to);
  }
  return wide;
}

Tensor MakeTensor(std::vector<int64_t> shape) {
  Tensor tensor{.dtype = DataType::kFloat32, .shape = std::move(shape)};
  tensor.data.resize(NumElements(tensor.shape) * sizeof(float));
  return tensor;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorAttendJob>> TensorAttendJob::Create(AttendRequest request,
                                                                         int64_t max_bytes) {
  std::unique_ptr<TensorAttendJob> job(new TensorAttendJob(std::move(request.control)));
  if (auto* tensors = std::get_if<AttendTensors>(&request.source)) {
    RETURN_IF_ERROR(job->InitTensors(std::move(*tensors)));
  } else {
    RETURN_IF_ERROR(job->InitLayer(std::move(std::get<AttendLayer>(request.source))));
  }
  RETURN_IF_ERROR(job->PlanResults(max_bytes));
  return job;
}

absl::Status TensorAttendJob::InitTensors(AttendTensors source) {
  RETURN_IF_ERROR(ExpectRank(source.query, 3, "tensors.query", "[heads, q_len, d]"));
  RETURN_IF_ERROR(ExpectRank(source.key, 3, "tensors.key", "[kv_heads, kv_len, d]"));
  has_batch_axis_ = source.query.shape.size() == 4;
  const int64_t* q = source.query.shape.data() + (has_batch_axis_ ? 1 : 0);
  if (source.key.shape.size() != source.query.shape.size()) {
    return FieldError("tensors.key", absl::StrCat("shape is ", ShapeString(source.key.shape),
                                                  "; query's is ", ShapeString(source.query.shape),
                                                  ", and both have a batch axis or neither"));
  }
  const int64_t* k = source.key.shape.data() + (has_batch_axis_ ? 1 : 0);
  if (has_batch_axis_) num_batches_ = source.query.shape[0];

  const int64_t kv_heads = k[0];
  if (q[0] % kv_heads != 0) {
    return FieldError("tensors.key",
                      absl::StrCat("has ", kv_heads, " heads, which do not divide query's ", q[0]));
  }
  std::vector<int64_t> expected = source.query.shape;
  expected[expected.size() - 3] = kv_heads;
  expected[expected.size() - 2] = k[1];
  RETURN_IF_ERROR(ExpectShape(source.key, expected, "tensors.key", "query"));
  RETURN_IF_ERROR(ExpectRank(source.value, 3, "tensors.value", "[kv_heads, kv_len, value_d]"));
  expected.back() = source.value.shape.back();
  RETURN_IF_ERROR(ExpectShape(source.value, expected, "tensors.value", "key"));

  num_queries_ = q[1];
  num_keys_ = k[1];
  SetHeads(q[0], kv_heads, q[2], source.value.shape.back());
  return_weights_ = source.return_weights;
  return_lse_ = source.return_lse;
  ASSIGN_OR_RETURN(query_, Widen(source.query, "tensors.query"));
  ASSIGN_OR_RETURN(key_, Widen(source.key, "tensors.key"));
  ASSIGN_OR_RETURN(value_, Widen(source.value, "tensors.value"));
  return InitMask(std::move(source.mask), "tensors");
}

void TensorAttendJob::SetHeads(int64_t heads, int64_t kv_heads, int64_t query_dim,
                               int64_t value_dim) {
  query_dim_ = query_dim;
  value_dim_ = value_dim;
  options_.num_heads = static_cast<int32_t>(heads);
  options_.num_key_value_heads = static_cast<int32_t>(kv_heads);
  options_.head_dim = static_cast<int32_t>(std::max(query_dim, value_dim));
}

absl::Status TensorAttendJob::InitLayer(AttendLayer source) {
  if (source.key.shape.empty()) source.key = source.query;
  if (source.value.shape.empty()) source.value = source.key;
  RETURN_IF_ERROR(ExpectRank(source.query, 2, "layer.query", "[len, d_model]"));
  RETURN_IF_ERROR(ExpectRank(source.key, 2, "layer.key", "[len, d_model]"));
  RETURN_IF_ERROR(ExpectRank(source.value, 2, "layer.value", "[len, d_model]"));
  has_batch_axis_ = source.query.shape.size() == 3;
  if (has_batch_axis_) num_batches_ = source.query.shape[0];
  num_queries_ = source.query.shape[has_batch_axis_];
  query_width_ = source.query.shape.back();
  key_width_ = source.key.shape.back();
  value_width_ = source.value.shape.back();

  std::vector<int64_t> expected = source.query.shape;
  expected.back() = key_width_;
  if (source.key.shape.size() == expected.size())
    expected[expected.size() - 2] = source.key.shape[has_batch_axis_];
  RETURN_IF_ERROR(ExpectShape(source.key, expected, "layer.key", "query's batch"));
  num_keys_ = expected[has_batch_axis_];
  expected.back() = value_width_;
  RETURN_IF_ERROR(ExpectShape(source.value, expected, "layer.value", "key's length"));

  const int64_t heads = source.num_heads;
  const int64_t kv_heads = source.num_key_value_heads.value_or(source.num_heads);
  if (heads < 1)
    return FieldError("layer.num_heads", absl::StrCat("is ", heads, "; it is at least 1"));
  if (kv_heads < 1 || heads % kv_heads != 0) {
    return FieldError("layer.num_key_value_heads",
                      absl::StrCat("is ", kv_heads, "; it divides num_heads, which is ", heads));
  }
  RETURN_IF_ERROR(ExpectRank(source.w_q, 1, "layer.w_q", "[heads * head_dim, d_model]"));
  const int64_t width = source.w_q.shape[0];
  if (width % heads != 0) {
    return FieldError("layer.num_heads", absl::StrCat("is ", heads, ", which does not divide the ",
                                                      width, " rows of w_q"));
  }
  RETURN_IF_ERROR(ExpectRank(source.w_v, 1, "layer.w_v", "[kv_heads * value_dim, d_model]"));
  if (source.w_v.shape[0] % kv_heads != 0) {
    return FieldError("layer.w_v", absl::StrCat("has ", source.w_v.shape[0], " rows, which the ",
                                                kv_heads, " key and value heads do not divide"));
  }
  SetHeads(heads, kv_heads, width / heads, source.w_v.shape[0] / kv_heads);
  return_weights_ = source.return_weights;

  // A projection into `heads` heads of `dim` values, each widened with zeros to options_.head_dim.
  const auto take = [&](const Tensor& weight, const std::optional<Tensor>& bias, int64_t count,
                        int64_t dim, int64_t in, absl::string_view path,
                        absl::string_view bias_path, Projection& projection) -> absl::Status {
    RETURN_IF_ERROR(
        ExpectShape(weight, {count * dim, in}, path, "num_heads and the inputs' width"));
    ASSIGN_OR_RETURN(const std::vector<float> values, Widen(weight, path));
    projection = {.out_features = count * options_.head_dim, .in_features = in};
    projection.weight = WidenGroups(values, count, dim * in, options_.head_dim * in);
    if (!bias.has_value()) return absl::OkStatus();
    RETURN_IF_ERROR(ExpectShape(*bias, {count * dim}, bias_path, path));
    ASSIGN_OR_RETURN(const std::vector<float> bias_values, Widen(*bias, bias_path));
    projection.bias = WidenGroups(bias_values, count, dim, options_.head_dim);
    return absl::OkStatus();
  };
  layer_.emplace();
  Layer& layer = *layer_;
  RETURN_IF_ERROR(take(source.w_q, source.b_q, heads, query_dim_, query_width_, "layer.w_q",
                       "layer.b_q", layer.q));
  RETURN_IF_ERROR(take(source.w_k, source.b_k, kv_heads, query_dim_, key_width_, "layer.w_k",
                       "layer.b_k", layer.k));
  RETURN_IF_ERROR(take(source.w_v, source.b_v, kv_heads, value_dim_, value_width_, "layer.w_v",
                       "layer.b_v", layer.v));

  RETURN_IF_ERROR(ExpectRank(source.w_o, 1, "layer.w_o", "[output_dim, num_heads * value_dim]"));
  const int64_t d_out = source.w_o.shape[0];
  RETURN_IF_ERROR(
      ExpectShape(source.w_o, {d_out, heads * value_dim_}, "layer.w_o", "num_heads and w_v"));
  ASSIGN_OR_RETURN(const std::vector<float> w_o, Widen(source.w_o, "layer.w_o"));
  layer.o = {.out_features = d_out, .in_features = heads * options_.head_dim};
  layer.o.weight = WidenGroups(w_o, d_out * heads, value_dim_, options_.head_dim);
  if (source.b_o.has_value()) {
    RETURN_IF_ERROR(ExpectShape(*source.b_o, {d_out}, "layer.b_o", "w_o"));
    ASSIGN_OR_RETURN(layer.o.bias, Widen(*source.b_o, "layer.b_o"));
  }

  ASSIGN_OR_RETURN(query_, Widen(source.query, "layer.query"));
  ASSIGN_OR_RETURN(key_, Widen(source.key, "layer.key"));
  ASSIGN_OR_RETURN(value_, Widen(source.value, "layer.value"));
  return InitMask(std::move(source.mask), "layer");
}

absl::Status TensorAttendJob::InitMask(AttentionMask mask, const char* path) {
  options_.causal = mask.causal;
  options_.scale = mask.scale.value_or(1.0f / std::sqrt(static_cast<float>(query_dim_)));
  if (!std::isfinite(options_.scale)) {
    return FieldError(absl::StrCat(path, ".scale"),
                      absl::StrCat("is ", options_.scale, "; it is finite"));
  }
  if (mask.sliding_window.has_value()) {
    if (*mask.sliding_window < 1) {
      return FieldError(absl::StrCat(path, ".sliding_window"),
                        absl::StrCat("is ", *mask.sliding_window, "; it is at least 1"));
    }
    options_.sliding_window = *mask.sliding_window;
  }
  if (!mask.mask.has_value()) return absl::OkStatus();

  Tensor& tensor = *mask.mask;
  const std::string mask_path = absl::StrCat(path, ".mask");
  const int64_t full[4] = {num_batches_, options_.num_heads, num_queries_, num_keys_};
  const size_t rank = tensor.shape.size();
  const size_t max_rank = has_batch_axis_ ? 4 : 3;
  bool broadcasts = rank <= max_rank;
  int64_t strides[4] = {0, 0, 0, 0};
  int64_t stride = 1;
  for (size_t axis = 0; broadcasts && axis < rank; ++axis) {
    const int64_t extent = tensor.shape[rank - 1 - axis];
    broadcasts = extent == 1 || extent == full[3 - axis];
    if (extent > 1) strides[3 - axis] = stride;
    stride *= extent;
  }
  if (!broadcasts) {
    return FieldError(mask_path,
                      absl::StrCat("shape ", ShapeString(tensor.shape), " does not broadcast to ",
                                   ShapeString(absl::MakeSpan(full + 4 - max_rank, max_rank))));
  }
  if (tensor.dtype == DataType::kBool) {
    if (static_cast<int64_t>(tensor.data.size()) != stride) {
      return FieldError(mask_path,
                        absl::StrCat("data holds ", tensor.data.size(), " bytes; shape ",
                                     ShapeString(tensor.shape), " of bool takes ", stride));
    }
    mask_.resize(stride);
    for (int64_t i = 0; i < stride; ++i) {
      mask_[i] = tensor.data[i] != 0 ? 0.0f : -std::numeric_limits<float>::infinity();
    }
  } else if (tensor.dtype == DataType::kFloat32) {
    ASSIGN_OR_RETURN(mask_, Widen(tensor, mask_path));
    for (const float value : mask_) {
      if (std::isnan(value) || value == std::numeric_limits<float>::infinity()) {
        return FieldError(mask_path,
                          absl::StrCat("holds ", value, "; values are finite or -infinity"));
      }
    }
  } else {
    return FieldError(mask_path, absl::StrCat("element type is ", DataTypeName(tensor.dtype),
                                              "; a mask is bool (true keeps) or f32 (added)"));
  }
  mask_batch_stride_ = strides[0];
  bias_ = {.data = mask_.data(),
           .head_stride = strides[1],
           .query_stride = strides[2],
           .key_stride = strides[3]};
  return absl::OkStatus();
}

absl::Status TensorAttendJob::PlanResults(int64_t max_bytes) {
  const int64_t heads = options_.num_heads;
  const int64_t width = layer_.has_value() ? layer_->o.out_features : value_dim_;
  const auto with_batch_axis = [this](std::vector<int64_t> shape) {
    if (has_batch_axis_) shape.insert(shape.begin(), num_batches_);
    return shape;
  };
  if (layer_.has_value()) {
    started_.output_shape = with_batch_axis({num_queries_, width});
  } else {
    started_.output_shape = with_batch_axis({heads, num_queries_, width});
  }
  if (return_weights_) started_.weights_shape = with_batch_axis({heads, num_queries_, num_keys_});
  if (return_lse_) started_.lse_shape = with_batch_axis({heads, num_queries_});

  double bytes = 0;
  for (const auto* result :
       {&started_.output_shape, &started_.weights_shape, &started_.lse_shape}) {
    double count = result->empty() ? 0 : sizeof(float);
    for (const int64_t extent : *result) count *= static_cast<double>(extent);
    bytes += count;
  }
  const absl::string_view source = layer_.has_value() ? "layer" : "tensors";
  if (bytes > static_cast<double>(max_bytes)) {
    return FieldError(
        source, absl::StrCat("the results take ", bytes, " bytes; this server allows ", max_bytes,
                             " (--max_attend_bytes); ask for fewer queries, or without weights"));
  }
  if (width > kMaxBlockValues || (return_weights_ && num_keys_ > kMaxBlockValues)) {
    return FieldError(source, absl::StrCat("one row of a result has ", std::max(width, num_keys_),
                                           " values; a message holds ", kMaxBlockValues));
  }

  // So many rows that one head's part of any result fits a block, and the step stays short.
  int64_t rows = std::min(num_queries_, kMaxBlockValues / width);
  if (return_weights_) {
    rows = std::min(rows, kMaxBlockValues / num_keys_);
    rows = std::min(rows, kMaxStepWeights / (heads * num_keys_));
  }
  const double row_flops = 4.0 * heads * num_keys_ * options_.head_dim;
  rows = std::min(rows, static_cast<int64_t>(kMaxStepFlops / row_flops));
  rows_per_step_ = std::max<int64_t>(rows, 1);
  return absl::OkStatus();
}

absl::Status TensorAttendJob::PrepareBatch(KernelContext& context) {
  const int64_t head_dim = options_.head_dim;
  if (!layer_.has_value()) {
    // [heads, len, dim] -> [len, heads * head_dim]
    const auto gather = [&](const std::vector<float>& from, int64_t heads, int64_t length,
                            int64_t dim, std::vector<float>& to) {
      to.assign(heads * length * head_dim, 0.0f);
      const float* source = from.data() + next_batch_ * heads * length * dim;
      for (int64_t head = 0; head < heads; ++head) {
        for (int64_t token = 0; token < length; ++token) {
          std::copy_n(source + (head * length + token) * dim, dim,
                      to.data() + (token * heads + head) * head_dim);
        }
      }
    };
    gather(query_, options_.num_heads, num_queries_, query_dim_, q_);
    gather(key_, options_.num_key_value_heads, num_keys_, query_dim_, k_);
    gather(value_, options_.num_key_value_heads, num_keys_, value_dim_, v_);
    return absl::OkStatus();
  }

  const auto project = [&](const std::vector<float>& from, int64_t length,
                           const Projection& projection, std::optional<Linear>& packed,
                           std::vector<float>& to) -> absl::Status {
    if (!packed.has_value()) {
      const ConstMatrix weight(projection.weight.data(), projection.out_features,
                               projection.in_features);
      ASSIGN_OR_RETURN(packed, Linear::Create(context, weight, projection.bias, LinearOptions{}));
    }
    to.resize(length * projection.out_features);
    const ConstMatrix x(from.data() + next_batch_ * length * projection.in_features, length,
                        projection.in_features);
    packed->Apply(context, x, Matrix(to.data(), length, projection.out_features));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(project(query_, num_queries_, layer_->q, layer_->packed_q, q_));
  RETURN_IF_ERROR(project(key_, num_keys_, layer_->k, layer_->packed_k, k_));
  RETURN_IF_ERROR(project(value_, num_keys_, layer_->v, layer_->packed_v, v_));
  if (!layer_->packed_o.has_value()) {
    const Projection& o = layer_->o;
    ASSIGN_OR_RETURN(
        layer_->packed_o,
        Linear::Create(context, ConstMatrix(o.weight.data(), o.out_features, o.in_features), o.bias,
                       LinearOptions{}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<AttendBlock>> TensorAttendJob::Next(KernelContext& context) {
  CHECK(!done());
  if (blocks_.empty()) {
    if (!batch_ready_) RETURN_IF_ERROR(PrepareBatch(context));
    batch_ready_ = true;
    ComputeRows(context);
  }
  AttendBlock block = std::move(blocks_.front());
  blocks_.pop_front();
  return block;
}

void TensorAttendJob::ComputeRows(KernelContext& context) {
  const int64_t heads = options_.num_heads;
  const int64_t head_dim = options_.head_dim;
  const int64_t key_columns = options_.num_key_value_heads * head_dim;
  const int64_t rows = std::min(rows_per_step_, num_queries_ - next_query_);

  std::vector<float> context_rows(rows * heads * head_dim);
  std::vector<float> weights(return_weights_ ? heads * rows * num_keys_ : 0);
  std::vector<float> lse(return_lse_ ? heads * rows : 0);
  // The mask's rows are those of the whole sequence; the kernel counts its queries from
  // first_query.
  AttentionBias bias = bias_;
  if (bias.data != nullptr) bias.data += next_batch_ * mask_batch_stride_;
  const Matrix attended(context_rows.data(), rows, heads * head_dim);
  MaskedAttention(context, options_,
                  ConstMatrix(q_.data(), num_queries_, heads * head_dim).Rows(next_query_, rows),
                  static_cast<int32_t>(next_query_), static_cast<int32_t>(num_queries_),
                  ConstMatrix(k_.data(), num_keys_, key_columns),
                  ConstMatrix(v_.data(), num_keys_, key_columns), bias, attended,
                  return_lse_ ? lse.data() : nullptr, return_weights_ ? weights.data() : nullptr);

  if (layer_.has_value()) {
    std::vector<float> output(rows * layer_->o.out_features);
    layer_->packed_o->Apply(context, attended, Matrix(output.data(), rows, layer_->o.out_features));
    AttendBlock block{.kind = AttendOutput::kOutput,
                      .batch = next_batch_,
                      .query_begin = static_cast<int32_t>(next_query_),
                      .query_end = static_cast<int32_t>(next_query_ + rows)};
    block.tensor = MakeTensor({rows, layer_->o.out_features});
    std::memcpy(block.tensor.data.data(), output.data(), block.tensor.data.size());
    blocks_.push_back(std::move(block));
  } else {
    std::vector<float> by_head(heads * rows * value_dim_);
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(attended.row(row) + head * head_dim, value_dim_,
                    by_head.data() + (head * rows + row) * value_dim_);
      }
    }
    CutIntoBlocks(AttendOutput::kOutput, by_head, rows, value_dim_);
  }
  if (return_weights_) CutIntoBlocks(AttendOutput::kWeights, weights, rows, num_keys_);
  if (return_lse_) CutIntoBlocks(AttendOutput::kLogSumExp, lse, rows, 1);

  next_query_ += rows;
  if (next_query_ == num_queries_) {
    next_query_ = 0;
    ++next_batch_;
    batch_ready_ = false;
  }
}

// values [heads, rows, columns] -> blocks of as many heads as fit.
void TensorAttendJob::CutIntoBlocks(AttendOutput kind, const std::vector<float>& values,
                                    int64_t rows, int64_t columns) {
  const int64_t heads = options_.num_heads;
  const int64_t heads_per_block = std::clamp<int64_t>(kMaxBlockValues / (rows * columns), 1, heads);
  for (int64_t head = 0; head < heads; head += heads_per_block) {
    const int64_t count = std::min(heads_per_block, heads - head);
    AttendBlock block{.kind = kind,
                      .batch = next_batch_,
                      .head_begin = static_cast<int32_t>(head),
                      .head_end = static_cast<int32_t>(head + count),
                      .query_begin = static_cast<int32_t>(next_query_),
                      .query_end = static_cast<int32_t>(next_query_ + rows)};
    block.tensor = kind == AttendOutput::kLogSumExp ? MakeTensor({count, rows})
                                                    : MakeTensor({count, rows, columns});
    std::memcpy(block.tensor.data.data(), values.data() + head * rows * columns,
                block.tensor.data.size());
    blocks_.push_back(std::move(block));
  }
}

}  // namespace attendant::engine
