#include "client/attention_blocks.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace attendant::client {
namespace {

// The server's announcement is trusted up to this many values of one tensor.
constexpr int64_t kMaxValues = int64_t{1} << 31;

// A whole tensor as [batch, heads, queries, columns]; axes that it does not have are 1.
struct Layout {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t queries = 1;
  int64_t columns = 1;
};

// The tensors of an answer have these axes: output and weights [heads, queries, columns], a layer's
// output [queries, columns], lse [heads, queries]; each with or without a batch axis before them.
Layout LayoutOf(absl::Span<const int64_t> shape, bool has_heads, bool has_columns) {
  Layout layout;
  size_t axis = shape.size();
  if (has_columns) layout.columns = shape[--axis];
  layout.queries = shape[--axis];
  if (has_heads) layout.heads = shape[--axis];
  if (axis > 0) layout.batch = shape[--axis];
  return layout;
}

bool IsWithin(const v1::IndexRange& range, int64_t size) {
  return 0 <= range.begin() && range.begin() < range.end() && range.end() <= size;
}

}  // namespace

absl::Status AttentionBlocks::Add(const v1::AttendResponse& response) {
  if (finished_) return absl::InternalError("the server sent more after the end of its answer");
  switch (response.event_case()) {
    case v1::AttendResponse::kStarted:
      return Start(response.started());
    case v1::AttendResponse::kBlock:
      break;
    case v1::AttendResponse::kFinished:
      finished_ = true;
      attention_.finished = response.finished();
      return absl::OkStatus();
    default:
      return absl::OkStatus();  // An event of a later version.
  }
  if (!started_) return absl::InternalError("the server sent a block before the shapes");
  const v1::AttendBlock& block = response.block();
  switch (block.tensor_case()) {
    case v1::AttendBlock::kOutput:
      return Place(block, block.output(), output_);
    case v1::AttendBlock::kWeights:
      return Place(block, block.weights(), weights_);
    case v1::AttendBlock::kLse:
      return Place(block, block.lse(), lse_);
    default:
      return absl::OkStatus();
  }
}

absl::Status AttentionBlocks::Start(const v1::AttendStarted& started) {
  if (started_) return absl::InternalError("the server announced its shapes twice");
  started_ = true;
  attention_.started = started;
  for (const auto& [part, shape] :
       {std::pair(&output_, &started.output_shape()),
        std::pair(&weights_, &started.weights_shape()), std::pair(&lse_, &started.lse_shape())}) {
    if (shape->empty()) continue;
    FloatTensor& tensor = attention_.*part->tensor;
    tensor.shape.assign(shape->begin(), shape->end());
    const int64_t count = NumElements(tensor.shape);
    if (tensor.shape.size() < 2 || tensor.shape.size() > 4 || count < 0 || count > kMaxValues) {
      return absl::InternalError(absl::StrCat("the server announced a shape of ", part->name,
                                              " that cannot be: [",
                                              absl::StrJoin(tensor.shape, ", "), "]"));
    }
    tensor.values.resize(count);
  }
  return absl::OkStatus();
}

absl::Status AttentionBlocks::Place(const v1::AttendBlock& block, const v1::Tensor& message,
                                    Part& part) {
  FloatTensor& whole = attention_.*part.tensor;
  const auto misfit = [&part](absl::string_view why) {
    return absl::InternalError(absl::StrCat("a block of ", part.name, " does not fit: ", why));
  };
  auto tensor = FromMessage(message);
  if (!tensor.ok()) return misfit(tensor.status().message());
  const size_t rank = whole.shape.size();
  if (rank == 0) return misfit("no such tensor was announced");

  const bool has_heads = block.has_heads();
  const bool has_columns = part.tensor != &Attention::lse;
  const size_t block_rank = 1 + has_heads + has_columns;
  if (tensor->shape.size() != block_rank || rank < block_rank || rank > block_rank + 1) {
    return misfit("its axes are not those announced");
  }
  const Layout layout = LayoutOf(whole.shape, has_heads, has_columns);
  v1::IndexRange heads = block.heads();
  if (!has_heads) heads.set_end(1);
  const v1::IndexRange& queries = block.queries();
  const bool is_within = 0 <= block.batch() && block.batch() < layout.batch &&
                         IsWithin(heads, layout.heads) && IsWithin(queries, layout.queries);
  if (!is_within) return misfit("its ranges leave the shape announced");
  const int64_t num_rows = queries.end() - queries.begin();
  const int64_t num_heads = heads.end() - heads.begin();
  if (static_cast<int64_t>(tensor->values.size()) != num_heads * num_rows * layout.columns) {
    return misfit("its size is not that of its ranges");
  }

  const int64_t head_size = num_rows * layout.columns;
  for (int64_t head = 0; head < num_heads; ++head) {
    const int64_t row =
        ((block.batch() * layout.heads) + heads.begin() + head) * layout.queries + queries.begin();
    std::copy_n(tensor->values.begin() + head * head_size, head_size,
                whole.values.begin() + row * layout.columns);
  }
  part.received += num_heads * head_size;
  return absl::OkStatus();
}

absl::StatusOr<Attention> AttentionBlocks::Finish() && {
  if (!started_ || !finished_) return absl::InternalError("the server's answer ended early");
  for (const Part* part : {&output_, &weights_, &lse_}) {
    const int64_t expected = static_cast<int64_t>((attention_.*part->tensor).values.size());
    if (part->received != expected) {
      return absl::InternalError(absl::StrCat("the server announced ", expected, " values of ",
                                              part->name, " and sent ", part->received));
    }
  }
  return std::move(attention_);
}

}  // namespace attendant::client
