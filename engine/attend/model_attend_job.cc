#include "engine/attend/model_attend_job.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/product.h"

namespace attendant::engine {
namespace {

constexpr int64_t kMaxBlockValues = kMaxAttendBlockBytes / sizeof(float);

// What one step may hold of weights, and compute, before other work has its turn.
constexpr int64_t kMaxStepWeights = int64_t{1} << 20;
constexpr double kMaxStepFlops = 4e9;

// Fewer rows of a layer are not worth a step: its weights are read anew for each.
constexpr int64_t kMinStepRows = 32;

// `count` shares of at most `most` each, as equal as can be: the size of the largest.
int64_t EqualShare(int64_t count, int64_t most) {
  const int64_t num_shares = (count + most - 1) / most;
  return (count + num_shares - 1) / num_shares;
}

int64_t AtLeastOne(double count, int64_t most) {
  return static_cast<int64_t>(std::clamp<double>(count, 1, static_cast<double>(most)));
}

Tensor MakeTensor(DataType dtype, std::vector<int64_t> shape) {
  Tensor tensor{.dtype = dtype, .shape = std::move(shape)};
  tensor.data.resize(NumElements(tensor.shape) * SizeOf(dtype));
  return tensor;
}

}  // namespace

// One sequence on its way through a stack, with the memory that the way takes.
class ModelAttendJob::StackWalk {
 public:
  // `encoder` is done; of an encoder-decoder's decoder, else null. All outlive the walk.
  StackWalk(Transformer& model, const Batch& batch, StackWalk* encoder = nullptr)
      : model_(model), batch_(batch), encoder_(encoder) {
    rows_per_step_ = batch.num_tokens();
    if (model.spec().stack == Stack::kDecoder) {
      const ModelConfig& config = model.config();
      const double row_flops =
          2.0 * config.hidden_size *
          (3.0 * query_size() + 2.0 * key_size() + 3.0 * config.intermediate_size);
      rows_per_step_ = std::max(kMinStepRows, static_cast<int64_t>(kMaxStepFlops / row_flops));
      rows_per_step_ = std::min<int64_t>(rows_per_step_, model.max_batch_tokens());
    }
  }

  // Layers that all tokens are through.
  int32_t num_layers() const { return num_layers_; }
  bool done() const { return num_layers_ == model_.config().num_hidden_layers; }

  // Takes some tokens through the next layer.
  void Step() {
    if (hidden_.empty()) {
      const int64_t num_tokens = batch_.num_tokens();
      hidden_.resize(num_tokens * model_.config().hidden_size);
      query_key_value_.resize(num_tokens * (query_size() + 2 * key_size()));
      if (encoder_ != nullptr) {
        cross_query_.resize(num_tokens * query_size());
        cross_key_value_.resize(encoder_->batch_.num_tokens() * 2 * key_size());
      }
      model_.BeginWalk(View());
    }
    const Transformer::Walk walk = View();
    const int64_t count = std::min(rows_per_step_, batch_.num_tokens() - next_row_);
    model_.WalkLayer(walk, num_layers_, static_cast<int32_t>(next_row_),
                     static_cast<int32_t>(count));
    next_row_ += count;
    if (next_row_ < batch_.num_tokens()) return;
    next_row_ = 0;
    ++num_layers_;
    if (done()) model_.EndWalk(walk);
  }

  // Of self-attention; cross-attention's differ in not being causal and having no positions.
  const AttentionOptions& options() const { return model_.attention_options(); }

  // What the last layer multiplied, all heads side by side: of its own tokens, and, of
  // cross-attention, the source's keys.
  ConstMatrix queries() { return Heads(View().query_key_value, 0, options().num_heads); }
  ConstMatrix keys() {
    return Heads(View().query_key_value, options().num_heads, options().num_key_value_heads);
  }
  ConstMatrix cross_queries() { return View().cross_query; }
  ConstMatrix cross_keys() {
    return Heads(View().cross_key_value, 0, options().num_key_value_heads);
  }

 private:
  int64_t query_size() const { return int64_t{options().num_heads} * options().head_dim; }
  int64_t key_size() const { return int64_t{options().num_key_value_heads} * options().head_dim; }
  ConstMatrix Heads(ConstMatrix rows, int64_t first, int64_t count) const {
    return rows.Cols(first * options().head_dim, count * options().head_dim);
  }
  static Matrix Rows(std::vector<float>& values, int64_t count) {
    return {values.data(), count, count == 0 ? 0 : static_cast<int64_t>(values.size()) / count};
  }
  Transformer::Walk View() {
    Transformer::Walk walk{.batch = batch_,
                           .hidden = Rows(hidden_, batch_.num_tokens()),
                           .query_key_value = Rows(query_key_value_, batch_.num_tokens())};
    if (encoder_ != nullptr) {
      walk.source = encoder_->View().hidden;
      walk.cross_query = Rows(cross_query_, batch_.num_tokens());
      walk.cross_key_value = Rows(cross_key_value_, walk.source.rows);
    }
    return walk;
  }

  Transformer& model_;
  const Batch& batch_;
  StackWalk* const encoder_;
  std::vector<float> hidden_, query_key_value_, cross_query_, cross_key_value_;
  int64_t rows_per_step_ = 0;
  int64_t next_row_ = 0;
  int32_t num_layers_ = 0;
};

ModelAttendJob::ModelAttendJob(MapInput input, MapSelection selection, AttendStarted started,
                               std::shared_ptr<RequestControl> control)
    : AttendJob(std::move(control)), input_(std::move(input)), selection_(std::move(selection)) {
  started_ = std::move(started);
}
ModelAttendJob::~ModelAttendJob() = default;

absl::StatusOr<std::unique_ptr<ModelAttendJob>> ModelAttendJob::Create(
    MapInput input, MapSelection selection, AttendStarted started,
    std::shared_ptr<RequestControl> control, int64_t max_bytes) {
  std::unique_ptr<ModelAttendJob> job(new ModelAttendJob(std::move(input), std::move(selection),
                                                         std::move(started), std::move(control)));
  RETURN_IF_ERROR(job->Plan(max_bytes));
  return job;
}

bool ModelAttendJob::accumulates() const {
  return selection_.reduction == AttentionReduction::kMeanLayers ||
         selection_.reduction == AttentionReduction::kRollout;
}

absl::Status ModelAttendJob::Plan(int64_t max_bytes) {
  const AttentionReduction reduction = selection_.reduction;
  const int64_t num_queries = selection_.queries.size();
  width_ = reduction == AttentionReduction::kTopK ? selection_.top_k : selection_.keys.size();
  const bool per_head =
      reduction != AttentionReduction::kMeanHeads && reduction != AttentionReduction::kRollout;
  started_.weights_shape = {num_queries, width_};
  if (per_head) started_.weights_shape.insert(started_.weights_shape.begin(), num_heads());

  const double map = static_cast<double>(sizeof(float)) * static_cast<double>(num_queries) *
                     static_cast<double>(width_) * static_cast<double>(per_head ? num_heads() : 1);
  double bytes = accumulates() ? map : map * static_cast<double>(selection_.layers.size());
  if (reduction == AttentionReduction::kTopK) bytes *= 2;
  if (reduction == AttentionReduction::kMeanLayers) bytes += map;
  if (reduction == AttentionReduction::kRollout) {
    bytes +=
        2.0 * sizeof(float) * static_cast<double>(num_keys()) * static_cast<double>(num_keys());
  }
  if (bytes > static_cast<double>(max_bytes)) {
    return FieldError(
        "model", absl::StrCat("the maps, with what their reduction keeps, take ",
                              static_cast<int64_t>(bytes), " bytes; this server allows ", max_bytes,
                              " (--max_map_bytes); ask for fewer layers or heads, ",
                              "a range of queries or keys, or another reduction"));
  }
  return absl::OkStatus();
}

void ModelAttendJob::Bind(Transformer& model) {
  if (model.encoder() == nullptr) {
    walk_ = std::make_unique<StackWalk>(model, queries());
  } else if (selection_.kind == AttentionKind::kEncoderSelf) {
    walk_ = std::make_unique<StackWalk>(*model.encoder(), input_.source);
  } else {
    encoder_walk_ = std::make_unique<StackWalk>(*model.encoder(), input_.source);
    walk_ = std::make_unique<StackWalk>(model, input_.target, encoder_walk_.get());
  }
  CutIntoPieces();
}

void ModelAttendJob::CutIntoPieces() {
  const int64_t num_queries = selection_.queries.size();
  const auto cut = [](IndexRange range, int64_t most) {
    const int64_t share = EqualShare(range.size(), most);
    std::vector<Piece> pieces;
    for (int64_t row = range.begin; row < range.end; row += share) {
      pieces.push_back(
          {.queries = {static_cast<int32_t>(row),
                       static_cast<int32_t>(std::min<int64_t>(row + share, range.end))}});
    }
    return pieces;
  };
  // A head's scores of one row, and their exponentials, are computed twice over.
  const double head_row_flops = 4.0 * static_cast<double>(num_keys()) * walk_->options().head_dim;
  const double row_flops = head_row_flops * static_cast<double>(num_heads());
  const int64_t held_rows =
      AtLeastOne(static_cast<double>(kMaxStepWeights) / num_keys(), queries().num_tokens());
  const int64_t block_rows = std::max<int64_t>(1, kMaxBlockValues / width_);
  switch (selection_.reduction) {
    case AttentionReduction::kNone:
    case AttentionReduction::kTopK:
    case AttentionReduction::kMeanLayers: {
      pieces_ = PiecesOfHeads(std::min(held_rows, block_rows),
                              static_cast<int64_t>(std::min(kMaxStepFlops / head_row_flops, 1e9)));
      result_pieces_ = pieces_;
      break;
    }
    case AttentionReduction::kMeanHeads:
      pieces_ = cut(
          selection_.queries,
          std::min({held_rows, block_rows, AtLeastOne(kMaxStepFlops / row_flops, num_queries)}));
      break;
    case AttentionReduction::kRollout: {
      const double product_flops =
          2.0 * static_cast<double>(num_keys()) * static_cast<double>(num_keys());
      pieces_ = cut(
          {0, static_cast<int32_t>(num_keys())},
          std::min(held_rows, AtLeastOne(kMaxStepFlops / (row_flops + product_flops), num_keys())));
      result_pieces_ = cut(selection_.queries, block_rows);
      break;
    }
  }
  if (!accumulates()) result_pieces_.clear();
}

// Of one head at a time, in runs of `max_rows` rows; or of adjacent heads together, where all of
// their rows are few enough.
std::vector<ModelAttendJob::Piece> ModelAttendJob::PiecesOfHeads(int64_t max_rows,
                                                                 int64_t max_head_rows) const {
  const int64_t num_queries = selection_.queries.size();
  max_rows = std::clamp<int64_t>(max_head_rows, 1, max_rows);
  const int64_t rows = EqualShare(num_queries, max_rows);
  int64_t max_heads = 1;
  if (rows == num_queries) {
    max_heads = std::min(kMaxBlockValues / (rows * width_), max_head_rows / rows);
    max_heads = std::max<int64_t>(1, max_heads);
  }
  std::vector<Piece> pieces;
  for (size_t first = 0; first < selection_.heads.size();) {
    size_t end = first + 1;
    while (end < selection_.heads.size() && static_cast<int64_t>(end - first) < max_heads &&
           selection_.heads[end] == selection_.heads[end - 1] + 1) {
      ++end;
    }
    for (int64_t row = selection_.queries.begin; row < selection_.queries.end; row += rows) {
      pieces.push_back(
          {.heads = {selection_.heads[first], selection_.heads[end - 1] + 1},
           .queries = {static_cast<int32_t>(row), static_cast<int32_t>(std::min<int64_t>(
                                                      row + rows, selection_.queries.end))}});
    }
    first = end;
  }
  return pieces;
}

bool ModelAttendJob::done() const {
  return walk_ != nullptr && next_layer_ == selection_.layers.size() &&
         next_piece_ == result_pieces_.size();
}

absl::StatusOr<std::optional<AttendBlock>> ModelAttendJob::Next(KernelContext& context) {
  CHECK(walk_ != nullptr && !done());
  if (next_layer_ == selection_.layers.size()) {
    return AccumulatedBlock(result_pieces_[next_piece_++]);
  }
  if (encoder_walk_ != nullptr && !encoder_walk_->done()) {
    encoder_walk_->Step();
    return std::nullopt;
  }
  const int32_t layer = selection_.layers[next_layer_];
  if (walk_->num_layers() <= layer) {
    walk_->Step();
    return std::nullopt;
  }
  std::optional<AttendBlock> block = ComputePiece(context, layer, pieces_[next_piece_]);
  if (++next_piece_ == pieces_.size()) {
    next_piece_ = 0;
    ++next_layer_;
    if (selection_.reduction == AttentionReduction::kRollout) std::swap(accumulated_, rolled_);
  }
  return block;
}

// The weights of one head, [queries, num_keys].
void ModelAttendJob::ComputeHead(KernelContext& context, int32_t head, IndexRange queries,
                                 float* weights) const {
  const bool is_cross = selection_.kind == AttentionKind::kCross;
  AttentionOptions options = walk_->options();
  const int64_t head_dim = options.head_dim;
  const int64_t key_head = head / (options.num_heads / options.num_key_value_heads);
  options.num_heads = 1;
  options.num_key_value_heads = 1;
  if (is_cross) {
    options.causal = false;
    options.relative_bias = {};
  } else if (options.relative_bias.data != nullptr) {
    options.relative_bias.data += head * (2 * int64_t{options.relative_bias.max_distance} + 1);
  }
  const ConstMatrix q = is_cross ? walk_->cross_queries() : walk_->queries();
  const ConstMatrix k = is_cross ? walk_->cross_keys() : walk_->keys();
  MaskedAttention(context, options,
                  q.Cols(head * head_dim, head_dim).Rows(queries.begin, queries.size()),
                  queries.begin, static_cast<int32_t>(q.rows),
                  k.Cols(key_head * head_dim, head_dim), /*v=*/{}, /*bias=*/{}, /*out=*/{},
                  /*log_sum_exp=*/nullptr, weights);
}

// The mean over the selected heads, [queries, num_keys].
void ModelAttendJob::ComputeMean(KernelContext& context, IndexRange queries, float* mean) {
  const int64_t count = queries.size() * num_keys();
  std::fill_n(mean, count, 0.0f);
  scratch_.resize(count);
  for (const int32_t head : selection_.heads) {
    ComputeHead(context, head, queries, scratch_.data());
    for (int64_t i = 0; i < count; ++i) mean[i] += scratch_[i];
  }
  const float share = 1.0f / static_cast<float>(num_heads());
  for (int64_t i = 0; i < count; ++i) mean[i] *= share;
}

std::optional<AttendBlock> ModelAttendJob::ComputePiece(KernelContext& context, int32_t layer,
                                                        const Piece& piece) {
  const int64_t rows = piece.queries.size();
  const auto key_columns = [&](const float* weights) {
    return ConstMatrix(weights, rows, num_keys()).Cols(selection_.keys.begin, width_);
  };
  switch (selection_.reduction) {
    case AttentionReduction::kRollout:
      RollOut(context, piece.queries);
      return std::nullopt;

    case AttentionReduction::kMeanHeads: {
      AttendBlock block = MakeBlock(layer, piece);
      std::vector<float> mean(rows * num_keys());
      ComputeMean(context, piece.queries, mean.data());
      auto* to = reinterpret_cast<float*>(block.tensor.data.data());
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(key_columns(mean.data()).row(row), width_, to + row * width_);
      }
      return block;
    }

    case AttentionReduction::kMeanLayers: {
      scratch_.resize(rows * num_keys());
      const int64_t num_queries = selection_.queries.size();
      accumulated_.resize(num_heads() * num_queries * width_);
      const float share = 1.0f / static_cast<float>(selection_.layers.size());
      auto index =
          std::lower_bound(selection_.heads.begin(), selection_.heads.end(), piece.heads.begin) -
          selection_.heads.begin();
      for (int32_t head = piece.heads.begin; head < piece.heads.end; ++head, ++index) {
        ComputeHead(context, head, piece.queries, scratch_.data());
        float* sums =
            accumulated_.data() +
            (index * num_queries + piece.queries.begin - selection_.queries.begin) * width_;
        for (int64_t row = 0; row < rows; ++row, sums += width_) {
          const float* from = key_columns(scratch_.data()).row(row);
          for (int64_t i = 0; i < width_; ++i) sums[i] += from[i] * share;
        }
      }
      return std::nullopt;
    }

    case AttentionReduction::kNone:
    case AttentionReduction::kTopK: {
      AttendBlock block = MakeBlock(layer, piece);
      scratch_.resize(rows * num_keys());
      auto* to = reinterpret_cast<float*>(block.tensor.data.data());
      auto* keys = reinterpret_cast<int32_t*>(block.keys.data.data());
      for (int32_t head = piece.heads.begin; head < piece.heads.end; ++head) {
        ComputeHead(context, head, piece.queries, scratch_.data());
        if (selection_.reduction == AttentionReduction::kTopK) {
          KeepLargest(scratch_.data(), piece.queries, to, keys);
          keys += rows * width_;
        } else {
          for (int64_t row = 0; row < rows; ++row) {
            std::copy_n(key_columns(scratch_.data()).row(row), width_, to + row * width_);
          }
        }
        to += rows * width_;
      }
      return block;
    }
  }
  return std::nullopt;
}

// weights [queries, num_keys] -> kept and keys [queries, top_k].
void ModelAttendJob::KeepLargest(const float* weights, IndexRange queries, float* kept,
                                 int32_t* keys) const {
  std::vector<int32_t> order(selection_.keys.size());
  for (int64_t row = 0; row < queries.size(); ++row) {
    const float* of_row = weights + row * num_keys();
    std::iota(order.begin(), order.end(), selection_.keys.begin);
    std::partial_sort(order.begin(), order.begin() + width_, order.end(),
                      [of_row](int32_t a, int32_t b) {
                        return of_row[a] > of_row[b] || (of_row[a] == of_row[b] && a < b);
                      });
    for (int64_t i = 0; i < width_; ++i) {
      kept[row * width_ + i] = of_row[order[i]];
      keys[row * width_ + i] = order[i];
    }
  }
}

// Some rows of the product with one layer more.
void ModelAttendJob::RollOut(KernelContext& context, IndexRange queries) {
  const int64_t size = num_keys();
  const bool is_first = next_layer_ == 0;
  rolled_.resize(size * size);
  float* rows = rolled_.data() + queries.begin * size;
  std::vector<float> mixed(is_first ? 0 : queries.size() * size);
  float* layer = is_first ? rows : mixed.data();

  ComputeMean(context, queries, layer);
  for (int64_t row = 0; row < queries.size(); ++row) {
    float* weights = layer + row * size;
    weights[queries.begin + row] += 1.0f;
    const float sum = std::accumulate(weights, weights + size, 0.0f);
    for (int64_t i = 0; i < size; ++i) weights[i] /= sum;
  }
  if (is_first) return;
  Multiply(context, ConstMatrix(layer, queries.size(), size),
           ConstMatrix(accumulated_.data(), size, size), Matrix(rows, queries.size(), size));
}

AttendBlock ModelAttendJob::MakeBlock(int32_t layer, const Piece& piece) const {
  AttendBlock block{.kind = AttendOutput::kWeights,
                    .head_begin = piece.heads.begin,
                    .head_end = piece.heads.end,
                    .query_begin = piece.queries.begin,
                    .query_end = piece.queries.end,
                    .attention = selection_.kind,
                    .layer = layer};
  std::vector<int64_t> shape = {piece.queries.size(), width_};
  if (piece.heads.size() > 0) shape.insert(shape.begin(), piece.heads.size());
  block.tensor = MakeTensor(DataType::kFloat32, shape);
  if (selection_.reduction == AttentionReduction::kTopK) {
    block.keys = MakeTensor(DataType::kInt32, std::move(shape));
  }
  return block;
}

AttendBlock ModelAttendJob::AccumulatedBlock(const Piece& piece) const {
  AttendBlock block = MakeBlock(selection_.layers.back(), piece);
  const int64_t rows = piece.queries.size();
  auto* to = reinterpret_cast<float*>(block.tensor.data.data());
  if (selection_.reduction == AttentionReduction::kRollout) {
    const ConstMatrix result(accumulated_.data(), num_keys(), num_keys());
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(result.row(piece.queries.begin + row) + selection_.keys.begin, width_,
                  to + row * width_);
    }
    return block;
  }
  const int64_t num_queries = selection_.queries.size();
  const int64_t index =
      std::lower_bound(selection_.heads.begin(), selection_.heads.end(), piece.heads.begin) -
      selection_.heads.begin();
  for (int64_t head = 0; head < piece.heads.size(); ++head) {
    const int64_t first =
        (index + head) * num_queries + piece.queries.begin - selection_.queries.begin;
    std::copy_n(accumulated_.data() + first * width_, rows * width_, to + head * rows * width_);
  }
  return block;
}

}  // namespace attendant::engine
