#include "client/attention_blocks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/algorithm/container.h"
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

bool IsWithin(int64_t begin, int64_t end, int64_t size) {
  return 0 <= begin && begin < end && end <= size;
}

// Copies `values`, [num_heads, num_rows, columns], to where they are in `whole`, whose first row is
// that of entry `batch`, head `head` and query `query`.
template <typename T>
void CopyRows(absl::Span<const T> values, const Layout& layout, int64_t batch, int64_t head,
              int64_t num_heads, int64_t query, int64_t num_rows, T* whole) {
  const int64_t head_size = num_rows * layout.columns;
  for (int64_t i = 0; i < num_heads; ++i) {
    const int64_t row = (batch * layout.heads + head + i) * layout.queries + query;
    std::copy_n(values.begin() + i * head_size, head_size, whole + row * layout.columns);
  }
}

// INT32 values as they are.
std::vector<int32_t> ToIntegers(const v1::Tensor& message) {
  std::vector<int32_t> values(message.data().size() / sizeof(int32_t));
  std::memcpy(values.data(), message.data().data(), values.size() * sizeof(int32_t));
  return values;
}

}  // namespace

AttentionBlocks::AttentionBlocks(const v1::AttendRequest& request)
    : is_model_(request.has_model()) {
  if (!is_model_) return;
  heads_.assign(request.model().heads().begin(), request.model().heads().end());
  std::sort(heads_.begin(), heads_.end());
  heads_.erase(std::unique(heads_.begin(), heads_.end()), heads_.end());
  first_query_ = request.model().query_range().begin();
}

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
      if (is_model_) return PlaceInMap(block);
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
    if (shape->empty() || is_model_) continue;
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
                         IsWithin(heads.begin(), heads.end(), layout.heads) &&
                         IsWithin(queries.begin(), queries.end(), layout.queries);
  if (!is_within) return misfit("its ranges leave the shape announced");
  const int64_t num_rows = queries.end() - queries.begin();
  const int64_t num_heads = heads.end() - heads.begin();
  const int64_t count = num_heads * num_rows * layout.columns;
  if (static_cast<int64_t>(tensor->values.size()) != count) {
    return misfit("its size is not that of its ranges");
  }
  CopyRows<float>(tensor->values, layout, block.batch(), heads.begin(), num_heads, queries.begin(),
                  num_rows, whole.values.data());
  part.received += count;
  return absl::OkStatus();
}

// The map that a block belongs to, which its first block makes: an announcement alone takes no
// memory.
absl::StatusOr<size_t> AttentionBlocks::FindMap(const v1::AttendBlock& block) {
  std::vector<AttentionMap>& maps = attention_.maps;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (maps[i].kind == block.kind() && maps[i].layer == block.layer()) return i;
  }
  const auto& shape = attention_.started.weights_shape();
  AttentionMap map{.kind = block.kind(), .layer = block.layer()};
  map.weights.shape.assign(shape.begin(), shape.end());
  const size_t rank = map.weights.shape.size();
  const int64_t count = NumElements(map.weights.shape);
  if (rank < 2 || rank > 3 || count < 0 ||
      count > kMaxValues / static_cast<int64_t>(maps.size() + 1)) {
    return absl::InternalError(absl::StrCat("the server announced maps that cannot be: [",
                                            absl::StrJoin(shape, ", "), "]"));
  }
  if (rank == 3) {
    map.heads = heads_;
    for (int32_t head = 0; heads_.empty() && head < shape[0]; ++head) map.heads.push_back(head);
    if (static_cast<int64_t>(map.heads.size()) != shape[0]) {
      return absl::InternalError(absl::StrCat("the server announced ", shape[0], " heads; ",
                                              map.heads.size(), " were asked for"));
    }
  }
  map.weights.values.resize(count);
  if (block.has_keys()) map.keys.resize(count);
  maps.push_back(std::move(map));
  map_received_.push_back(0);
  return maps.size() - 1;
}

absl::Status AttentionBlocks::PlaceInMap(const v1::AttendBlock& block) {
  const auto misfit = [](absl::string_view why) {
    return absl::InternalError(absl::StrCat("a block of a map does not fit: ", why));
  };
  const auto index = FindMap(block);
  if (!index.ok()) return index.status();
  AttentionMap& map = attention_.maps[*index];
  const auto tensor = FromMessage(block.weights());
  if (!tensor.ok()) return misfit(tensor.status().message());

  const bool has_heads = !map.heads.empty();
  if (block.has_heads() != has_heads) return misfit("its axes are not those announced");
  const Layout layout = LayoutOf(map.weights.shape, has_heads, /*has_columns=*/true);
  const int64_t num_heads = has_heads ? block.heads().end() - block.heads().begin() : 1;
  int64_t head = 0;
  if (has_heads) {
    const auto first = absl::c_lower_bound(map.heads, block.heads().begin());
    head = first - map.heads.begin();
    if (!IsWithin(head, head + num_heads, layout.heads) || *first != block.heads().begin() ||
        map.heads[head + num_heads - 1] != block.heads().end() - 1) {
      return misfit("its heads are not among those asked for");
    }
  }
  const int64_t query = int64_t{block.queries().begin()} - first_query_;
  const int64_t num_rows = int64_t{block.queries().end()} - block.queries().begin();
  if (!IsWithin(query, query + num_rows, layout.queries))
    return misfit("its rows leave the shape announced");
  const int64_t count = num_heads * num_rows * layout.columns;
  if (static_cast<int64_t>(tensor->values.size()) != count)
    return misfit("its size is not that of its ranges");
  CopyRows<float>(tensor->values, layout, 0, head, num_heads, query, num_rows,
                  map.weights.values.data());
  map_received_[*index] += count;
  if (map.keys.empty()) return absl::OkStatus();
  const std::vector<int32_t> keys = ToIntegers(block.keys());
  if (block.keys().dtype() != v1::DATA_TYPE_INT32 || static_cast<int64_t>(keys.size()) != count)
    return misfit("it has not a key for each weight");
  CopyRows<int32_t>(keys, layout, 0, head, num_heads, query, num_rows, map.keys.data());
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
  for (size_t i = 0; i < attention_.maps.size(); ++i) {
    const AttentionMap& map = attention_.maps[i];
    if (map_received_[i] != static_cast<int64_t>(map.weights.values.size())) {
      return absl::InternalError(absl::StrCat("the server announced ", map.weights.values.size(),
                                              " weights of layer ", map.layer, " and sent ",
                                              map_received_[i]));
    }
  }
  if (is_model_ && attention_.maps.empty())
    return absl::InternalError("the server's answer has no maps");
  absl::c_stable_sort(attention_.maps, [](const AttentionMap& a, const AttentionMap& b) {
    return a.layer < b.layer;
  });
  return std::move(attention_);
}

}  // namespace attendant::client
