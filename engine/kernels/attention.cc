#include "engine/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include "absl/log/check.h"
#include "engine/kernels/attention_blocks.h"
#include "engine/kernels/block_product.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/softmax.h"
#include "engine/kernels/tile_product.h"

// Two ways, by the number of queries that share a key:
//
//   many  Keys and values are first packed, per key head, into blocks as matrix products want them:
//   keys transposed.
//         Then every (sequence, head, block of queries) is a task that passes over the blocks of
//         keys it sees: a product for the scores, the running softmax, a product for the values.
//   few   (decoding) Keys are read where they lie, once for all queries and heads that share them.
//   Every (sequence,
//         key head, range of keys) is a task that leaves a partial result; the partial results are
//         then joined.
//
// Blocks and ranges lie at fixed places in the sequence, so that a result does not depend on the
// number of threads.
namespace attendant::engine {
namespace {

constexpr int64_t kQueryBlock = 64;
constexpr int64_t kKeyBlock = 256;
constexpr int64_t kQueryStep = 16;   // products are for a multiple of so many queries
constexpr int64_t kWidthStep = 32;   // the last block of keys is padded to a multiple of this
constexpr int64_t kKeyRange = 512;   // of one decoding task
constexpr int64_t kFewQueries = 16;  // queries times heads that share a key, for decoding's way
constexpr size_t kPackedBytes = 64 << 20;  // packed at a time, unless one sequence has more
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Cuts one piece of scratch memory into aligned arrays. With no memory it measures.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}
  template <typename T>
  T* Array(int64_t count) {
    std::byte* array = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += RoundUp(count * sizeof(T), 64);
    return reinterpret_cast<T*>(array);
  }
  size_t used() const { return used_; }

 private:
  std::byte* memory_;
  size_t used_ = 0;
};

// Where the keys, or the values, of a call lie: in rows of a matrix, or in cache blocks.
struct KeyRows {
  DataType dtype = DataType::kFloat32;
  const std::byte* data = nullptr;
  int64_t row_stride = 0;  // of a matrix, in values
  int64_t block_size = 0;  // of cache blocks; 0 for a matrix
  int64_t block_stride = 0;
  int64_t head_dim = 0;

  // Of key `key` of a sequence and one key head.
  const std::byte* Row(const AttentionSequence& sequence, int64_t head, int64_t key) const {
    int64_t offset;
    if (block_size == 0) {
      offset = (sequence.key_start + key) * row_stride + head * head_dim;
    } else {
      offset = sequence.blocks[key / block_size] * block_stride +
               (head * block_size + key % block_size) * head_dim;
    }
    return data + offset * (dtype == DataType::kFloat32 ? sizeof(float) : sizeof(uint16_t));
  }
};

// What all entry points come down to.
struct Call {
  const AttentionOptions& options;
  ConstMatrix q;
  KeyRows keys;
  KeyRows values;
  absl::Span<const AttentionSequence> sequences;
  Matrix out;

  // MaskedAttention only: the queries are those from first_query of all_queries.
  int32_t first_query = 0;
  int32_t all_queries = -1;  // the sequence's own
  AttentionBias bias;
  float* log_sum_exp = nullptr;
  float* weights = nullptr;

  // The bias of one head from query `query` of the sequence and key `key` on; without one, null.
  BlockBias Bias(const AttentionSequence& sequence, int64_t head, int64_t query,
                 int64_t key) const {
    if (const RelativeBias& relative = options.relative_bias; relative.data != nullptr) {
      const int64_t distance = key - Position(sequence, query);
      // One query further is one key nearer.
      return {relative.data + head * (2 * int64_t{relative.max_distance} + 1) +
                  relative.max_distance + distance,
              -1, 1};
    }
    if (bias.data == nullptr) return {};
    return {bias.data + head * bias.head_stride + (first_query + query) * bias.query_stride +
                key * bias.key_stride,
            bias.query_stride, bias.key_stride};
  }

  bool has_values() const { return values.data != nullptr; }
  int64_t heads_per_key_head() const { return options.num_heads / options.num_key_value_heads; }

  // Of query `query` of the sequence, among its keys.
  int64_t Position(const AttentionSequence& sequence, int64_t query) const {
    const int64_t all = all_queries < 0 ? sequence.num_queries : all_queries;
    return first_query + query + sequence.num_keys - all;
  }

  // The keys that query `query` of the sequence sees.
  KeyRange Visible(const AttentionSequence& sequence, int64_t query) const {
    const int64_t position = Position(sequence, query);
    const int64_t window = options.sliding_window;
    const int64_t last = options.causal ? position : position + window - 1;
    const int64_t begin = std::max<int64_t>(0, position - window + 1);
    const int64_t end = std::min<int64_t>(sequence.num_keys, last + 1);
    if (begin >= end) return {};
    return {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
  }

  // The keys that some of the queries [first, first + count) see. Ranges move forward with the
  // query, and queries that see nothing lie before all keys.
  KeyRange Visible(const AttentionSequence& sequence, int64_t first, int64_t count) const {
    const KeyRange last = Visible(sequence, first + count - 1);
    return {std::min(Visible(sequence, first).begin, last.begin), last.end};
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Many queries.

// The packed keys and values of one sequence: blocks of kKeyBlock keys (the last padded to
// kWidthStep only), those that some query sees. Each key head has its blocks of keys, one after
// another, then its blocks of values.
struct PackedSequence {
  int32_t index = 0;  // of the sequence
  int32_t num_query_blocks = 0;
  int64_t first_block = 0;
  int64_t end_key = 0;
  int64_t padded_keys = 0;  // from the first block on
  int64_t offset = 0;       // in values, into the packed memory
  int64_t first_task = 0;
  int64_t first_pack_task = 0;

  int64_t num_blocks() const { return (padded_keys + kKeyBlock - 1) / kKeyBlock; }
  int64_t width(int64_t block) const {
    return std::min(kKeyBlock, padded_keys - block * kKeyBlock);
  }
};

// The memory of one thread.
template <typename T>
struct BlockScratch {
  T* queries;        // [kQueryBlock, depth]
  float* scores;     // [kQueryBlock, kKeyBlock]
  T* weights;        // the same; scores itself for float
  float* values;     // [kQueryBlock, head_dim]
  float* largest;    // [kQueryBlock]
  float* sum;        // [kQueryBlock]
  KeyRange* ranges;  // [kQueryBlock]
  T* rows;           // [kKeyBlock, depth]: keys or values converted, before they are packed

  std::byte* product;  // what block products want

  BlockScratch(Carver& carver, int64_t depth, int64_t head_dim, size_t product_bytes) {
    queries = carver.Array<T>(kQueryBlock * depth);
    scores = carver.Array<float>(kQueryBlock * kKeyBlock);
    if constexpr (std::is_same_v<T, float>) {
      weights = scores;
    } else {
      weights = carver.Array<T>(kQueryBlock * kKeyBlock);
    }
    values = carver.Array<float>(kQueryBlock * head_dim);
    largest = carver.Array<float>(kQueryBlock);
    sum = carver.Array<float>(kQueryBlock);
    ranges = carver.Array<KeyRange>(kQueryBlock);
    rows = carver.Array<T>(kKeyBlock * depth);
    product = carver.Array<std::byte>(product_bytes);
  }
};

// T is what products are computed in: float, or uint16_t for bfloat16.
template <typename T>
class BlockedAttention {
  static constexpr DataType kOwnType =
      std::is_same_v<T, float> ? DataType::kFloat32 : DataType::kBFloat16;

 public:
  BlockedAttention(KernelContext& context, const Call& call) : context_(context), call_(call) {
    head_dim_ = call.options.head_dim;
    depth_ = RoundUp(head_dim_, std::is_same_v<T, float> ? 1 : 2);
    in_tiles_ = !std::is_same_v<T, float> && head_dim_ % 32 == 0 && HasTiles();
    values_per_key_ = call.options.num_key_value_heads * (depth_ + head_dim_);
  }

  // Of the sequences that `wanted` accepts. False, with nothing done, if this machine cannot
  // multiply T; it can always multiply floats.
  template <typename Wanted>
  bool Run(const Wanted& wanted) {
    if (!in_tiles_ && !MakeProducts(wanted)) return false;
    const int64_t num_sequences = call_.sequences.size();
    for (int64_t first = 0; first < num_sequences;) {
      int64_t end = first, padded_keys = 0, count = 0;
      for (; end < num_sequences; ++end) {
        if (!wanted(call_.sequences[end])) continue;
        const int64_t more = Plan(end).padded_keys;
        if (count > 0 && (padded_keys + more) * values_per_key_ * sizeof(T) > kPackedBytes) break;
        padded_keys += more;
        ++count;
      }
      if (count > 0) RunSome(first, end, count, padded_keys, wanted);
      first = end;
    }
    return true;
  }

 private:
  // For one rounded number of queries and one width of a block of keys; null where oneDNN has none.
  struct Products {
    const BlockProduct* keys = nullptr;
    const BlockProduct* values = nullptr;
  };

  const Products& ProductsFor(int64_t num_queries, int64_t width) const {
    return products_[(num_queries - 1) / kQueryStep][(width - 1) / kWidthStep];
  }

  // Makes the products for the shapes that the sequences will ask for.
  template <typename Wanted>
  bool MakeProducts(const Wanted& wanted) {
    bool needed[kQueryBlock / kQueryStep][kKeyBlock / kWidthStep] = {};
    for (int64_t index = 0; index < call_.sequences.size(); ++index) {
      const AttentionSequence& sequence = call_.sequences[index];
      if (!wanted(sequence)) continue;
      const PackedSequence plan = Plan(index);
      if (plan.padded_keys == 0) continue;
      const int64_t last_width = plan.width(plan.num_blocks() - 1);
      const int64_t last_queries = (sequence.num_queries - 1) % kQueryBlock + 1;
      for (const int64_t width : {kKeyBlock, last_width}) {
        if (width > plan.padded_keys) continue;
        for (const int64_t queries : {kQueryBlock, last_queries}) {
          if (queries > sequence.num_queries) continue;
          needed[(queries - 1) / kQueryStep][(width - 1) / kWidthStep] = true;
        }
      }
    }
    context_.block_products().Trim();
    for (int64_t q = 0; q < kQueryBlock / kQueryStep; ++q) {
      for (int64_t w = 0; w < kKeyBlock / kWidthStep; ++w) {
        if (!needed[q][w]) continue;
        products_[q][w] = GetProducts((q + 1) * kQueryStep, (w + 1) * kWidthStep);
        for (const BlockProduct* product : {products_[q][w].keys, products_[q][w].values}) {
          if (product != nullptr) {
            product_bytes_ = std::max(product_bytes_, product->scratch_bytes());
          } else if (!std::is_same_v<T, float>) {
            return false;
          }
        }
      }
    }
    return true;
  }

  Products GetProducts(int64_t num_queries, int64_t width) const {
    BlockShape shape;
    shape.dtype = kOwnType;
    shape.m = num_queries;
    shape.n = width;
    shape.k = depth_;
    shape.lda = depth_;
    shape.ldb = width;
    shape.ldc = kKeyBlock;
    const BlockProduct* keys = context_.block_products().Get(shape);
    shape.n = head_dim_;
    shape.k = width;
    shape.lda = kKeyBlock;
    shape.ldb = head_dim_;
    shape.ldc = head_dim_;
    shape.add = true;
    return {keys, context_.block_products().Get(shape)};
  }

  PackedSequence Plan(int64_t index) const {
    const AttentionSequence& sequence = call_.sequences[index];
    const KeyRange visible = call_.Visible(sequence, 0, sequence.num_queries);
    PackedSequence plan;
    plan.index = index;
    plan.num_query_blocks = (sequence.num_queries + kQueryBlock - 1) / kQueryBlock;
    plan.first_block = visible.begin / kKeyBlock;
    plan.end_key = visible.end;
    plan.padded_keys = RoundUp(visible.end - plan.first_block * kKeyBlock, kWidthStep);
    return plan;
  }

  template <typename Wanted>
  void RunSome(int64_t first, int64_t end, int64_t count, int64_t padded_keys,
               const Wanted& wanted) {
    const auto carve = [&](Carver& carver) {
      plans_ = carver.Array<PackedSequence>(count);
      packed_ = carver.Array<T>(padded_keys * values_per_key_);
      threads_ = carver.Array<std::byte>(0);
      for (int thread = 0; thread < context_.num_threads(); ++thread)
        BlockScratch<T>(carver, depth_, head_dim_, product_bytes_);
    };
    Carver measure(nullptr);
    carve(measure);
    Carver carver(context_.Scratch(measure.used()));
    carve(carver);
    Carver one(nullptr);
    BlockScratch<T>(one, depth_, head_dim_, product_bytes_);
    thread_bytes_ = one.used();

    num_plans_ = 0;
    int64_t offset = 0, num_tasks = 0, num_pack_tasks = 0;
    for (int64_t index = first; index < end; ++index) {
      if (!wanted(call_.sequences[index])) continue;
      PackedSequence plan = Plan(index);
      plan.offset = offset;
      plan.first_task = num_tasks;
      plan.first_pack_task = num_pack_tasks;
      offset += plan.padded_keys * values_per_key_;
      num_tasks += plan.num_query_blocks * call_.options.num_heads;
      num_pack_tasks += plan.num_blocks() * call_.options.num_key_value_heads;
      plans_[num_plans_++] = plan;
    }
    ParallelShares(context_, num_pack_tasks, [&](int64_t task, int thread) { Pack(task, thread); });
    ParallelShares(context_, num_tasks, [&](int64_t task, int thread) { Attend(task, thread); });
  }

  // The last plan whose first task is not beyond `task`.
  const PackedSequence& Find(int64_t PackedSequence::* first_task, int64_t task) const {
    const PackedSequence* found = std::upper_bound(
        plans_, plans_ + num_plans_, task,
        [&](int64_t wanted, const PackedSequence& plan) { return wanted < plan.*first_task; });
    return found[-1];
  }

  BlockScratch<T> Scratch(int thread) const {
    Carver carver(threads_ + thread * thread_bytes_);
    return BlockScratch<T>(carver, depth_, head_dim_, product_bytes_);
  }

  T* PackedKeys(const PackedSequence& plan, int64_t key_head, int64_t block) const {
    return packed_ + plan.offset + key_head * plan.padded_keys * (depth_ + head_dim_) +
           block * kKeyBlock * depth_;
  }
  T* PackedValues(const PackedSequence& plan, int64_t key_head, int64_t block) const {
    return packed_ + plan.offset + key_head * plan.padded_keys * (depth_ + head_dim_) +
           plan.padded_keys * depth_ + block * kKeyBlock * head_dim_;
  }

  // Behind the head_dim values of each row.
  void ClearPadding(int64_t num_rows, T* rows) const {
    for (int64_t i = 0; i < num_rows && depth_ > head_dim_; ++i) {
      std::fill_n(rows + i * depth_ + head_dim_, depth_ - head_dim_, T{});
    }
  }

  // Points `rows` at `count` rows in T, converted into `converted` (rows of depth_) if they are of
  // another type.
  void GetRows(const KeyRows& from, const AttentionSequence& sequence, int64_t head, int64_t first,
               int64_t count, T* converted, const T** rows) const {
    const bool as_it_is = from.dtype == kOwnType && depth_ == head_dim_;
    if (from.dtype == DataType::kFloat32 && from.block_size == 0 && !as_it_is) {
      ScaleRows(reinterpret_cast<const float*>(from.Row(sequence, head, first)), from.row_stride,
                count, head_dim_, 1.0f, converted, depth_);
      ClearPadding(count, converted);
      for (int64_t i = 0; i < count; ++i) rows[i] = converted + i * depth_;
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      const std::byte* row = from.Row(sequence, head, first + i);
      if (as_it_is) {
        rows[i] = reinterpret_cast<const T*>(row);
        continue;
      }
      T* to = converted + i * depth_;
      if (from.dtype == kOwnType) {
        std::memcpy(to, row, head_dim_ * sizeof(T));
      } else if constexpr (std::is_same_v<T, float>) {
        ConvertRow(reinterpret_cast<const uint16_t*>(row), head_dim_, to);
      } else {
        ScaleRow(reinterpret_cast<const float*>(row), head_dim_, 1.0f, to);
      }
      for (int64_t j = head_dim_; j < depth_; ++j) to[j] = T{};
      rows[i] = to;
    }
  }

  void Pack(int64_t task, int thread) const {
    const PackedSequence& plan = Find(&PackedSequence::first_pack_task, task);
    const AttentionSequence& sequence = call_.sequences[plan.index];
    task -= plan.first_pack_task;
    const int64_t key_head = task / plan.num_blocks();
    const int64_t block = task % plan.num_blocks();
    const int64_t first_key = (plan.first_block + block) * kKeyBlock;
    const int64_t count = std::min(kKeyBlock, plan.end_key - first_key);
    const int64_t width = plan.width(block);
    const BlockScratch<T> scratch = Scratch(thread);
    const T* rows[kKeyBlock];
    T* values = PackedValues(plan, key_head, block);
    if constexpr (std::is_same_v<T, float>) {
      GetRows(call_.keys, sequence, key_head, first_key, count, scratch.rows, rows);
      TransposeRows(reinterpret_cast<const uint32_t* const*>(rows), count, depth_, width,
                    reinterpret_cast<uint32_t*>(PackedKeys(plan, key_head, block)));
      if (!call_.has_values()) return;
      GetRows(call_.values, sequence, key_head, first_key, count, scratch.rows, rows);
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(values + i * head_dim_, rows[i], head_dim_ * sizeof(T));
      std::memset(values + count * head_dim_, 0, (width - count) * head_dim_ * sizeof(T));
    } else {
      GetRows(call_.keys, sequence, key_head, first_key, count, scratch.rows, rows);
      TransposeRows(reinterpret_cast<const uint32_t* const*>(rows), count, depth_ / 2, width,
                    reinterpret_cast<uint32_t*>(PackedKeys(plan, key_head, block)));
      if (!call_.has_values()) return;
      GetRows(call_.values, sequence, key_head, first_key, count, scratch.rows, rows);
      InterleaveRows(rows, count, head_dim_, width, values);
    }
  }

  void Attend(int64_t task, int thread) const {
    const PackedSequence& plan = Find(&PackedSequence::first_task, task);
    const AttentionSequence& sequence = call_.sequences[plan.index];
    task -= plan.first_task;
    const int64_t head = task / plan.num_query_blocks;
    const int64_t key_head = head / call_.heads_per_key_head();
    // The last queries see most keys: first, so that threads end together.
    const int64_t first_query =
        (plan.num_query_blocks - 1 - task % plan.num_query_blocks) * kQueryBlock;
    const int64_t num_queries = std::min<int64_t>(kQueryBlock, sequence.num_queries - first_query);
    const BlockScratch<T> scratch = Scratch(thread);

    ScaleRows(call_.q.row(sequence.query_start + first_query) + head * head_dim_, call_.q.stride,
              num_queries, head_dim_, call_.options.scale, scratch.queries, depth_);
    ClearPadding(num_queries, scratch.queries);
    std::fill_n(scratch.largest, num_queries, -kInfinity);
    std::fill_n(scratch.sum, num_queries, 0.0f);
    // Products are for whole steps of queries: those beyond the last are zeros.
    const int64_t added = RoundUp(num_queries, kQueryStep) - num_queries;
    std::fill_n(scratch.queries + num_queries * depth_, added * depth_, T{});
    std::fill_n(scratch.weights + num_queries * kKeyBlock, added * kKeyBlock, T{});
    std::fill_n(scratch.values, (num_queries + added) * head_dim_, 0.0f);

    const KeyRange visible = call_.Visible(sequence, first_query, num_queries);
    const RunningSoftmax state{scratch.largest, scratch.sum, scratch.values, head_dim_};
    std::optional<TileScope> tiles;
    if (in_tiles_) tiles.emplace();
    ForEachBlock(plan, visible, [&](int64_t block, int64_t width) {
      SetRanges(plan, sequence, first_query, num_queries, block, width, scratch.ranges);
      MultiplyKeys(plan, key_head, block, width, num_queries, scratch);
      UpdateSoftmax(scratch.scores, kKeyBlock, width, num_queries, scratch.ranges,
                    Bias(plan, sequence, head, first_query, block), state, scratch.weights);
      if (call_.has_values()) MultiplyValues(plan, key_head, block, width, num_queries, scratch);
    });

    if (call_.has_values()) {
      FinishSoftmax(state, num_queries,
                    call_.out.row(sequence.query_start + first_query) + head * head_dim_,
                    call_.out.stride);
    }
    for (int64_t i = 0; i < num_queries && call_.log_sum_exp != nullptr; ++i) {
      call_.log_sum_exp[head * call_.q.rows + first_query + i] =
          scratch.largest[i] + std::log(scratch.sum[i]);
    }
    if (call_.weights != nullptr) {
      WriteWeights(plan, sequence, head, first_query, num_queries, visible, scratch);
    }
    if (!std::is_same_v<T, float> && !in_tiles_) BlockProduct::Release();
  }

  template <typename Body>
  void ForEachBlock(const PackedSequence& plan, KeyRange visible, const Body& body) const {
    if (visible.begin >= visible.end) return;
    const int64_t last = (visible.end - 1) / kKeyBlock - plan.first_block;
    for (int64_t block = visible.begin / kKeyBlock - plan.first_block; block <= last; ++block) {
      body(block, plan.width(block));
    }
  }

  void SetRanges(const PackedSequence& plan, const AttentionSequence& sequence, int64_t first_query,
                 int64_t num_queries, int64_t block, int64_t width, KeyRange* ranges) const {
    const int64_t first_key = (plan.first_block + block) * kKeyBlock;
    for (int64_t i = 0; i < num_queries; ++i) {
      const KeyRange range = call_.Visible(sequence, first_query + i);
      const int64_t begin = std::clamp<int64_t>(range.begin - first_key, 0, width);
      const int64_t end = std::clamp<int64_t>(range.end - first_key, begin, width);
      ranges[i] = {static_cast<int32_t>(begin), static_cast<int32_t>(end)};
    }
  }

  BlockBias Bias(const PackedSequence& plan, const AttentionSequence& sequence, int64_t head,
                 int64_t first_query, int64_t block) const {
    return call_.Bias(sequence, head, first_query, (plan.first_block + block) * kKeyBlock);
  }

  // scores = queries x keys
  void MultiplyKeys(const PackedSequence& plan, int64_t key_head, int64_t block, int64_t width,
                    int64_t num_queries, const BlockScratch<T>& scratch) const {
    const T* keys = PackedKeys(plan, key_head, block);
    if constexpr (!std::is_same_v<T, float>) {
      if (in_tiles_) {
        return MultiplyTiles({.rows = RoundUp(num_queries, kQueryStep),
                              .columns = width,
                              .depth = depth_,
                              .x_stride = depth_,
                              .sums_stride = kKeyBlock,
                              .weights_width = width},
                             scratch.queries, keys, scratch.scores);
      }
    }
    if (const Products& made = ProductsFor(num_queries, width); made.keys != nullptr) {
      made.keys->Run(scratch.queries, keys, scratch.scores, scratch.product);
    } else if constexpr (std::is_same_v<T, float>) {
      MultiplyBlock(scratch.queries, depth_, keys, width, scratch.scores, kKeyBlock, num_queries,
                    width, depth_, /*add=*/false);
    }
  }

  // values += weights x values
  void MultiplyValues(const PackedSequence& plan, int64_t key_head, int64_t block, int64_t width,
                      int64_t num_queries, const BlockScratch<T>& scratch) const {
    const T* values = PackedValues(plan, key_head, block);
    if constexpr (!std::is_same_v<T, float>) {
      if (in_tiles_) {
        return MultiplyTiles({.rows = RoundUp(num_queries, kQueryStep),
                              .columns = head_dim_,
                              .depth = width,
                              .x_stride = kKeyBlock,
                              .sums_stride = head_dim_,
                              .weights_width = head_dim_,
                              .add = true},
                             scratch.weights, values, scratch.values);
      }
    }
    if (const Products& made = ProductsFor(num_queries, width); made.values != nullptr) {
      made.values->Run(scratch.weights, values, scratch.values, scratch.product);
    } else if constexpr (std::is_same_v<T, float>) {
      MultiplyBlock(scratch.weights, kKeyBlock, values, head_dim_, scratch.values, head_dim_,
                    num_queries, head_dim_, width, /*add=*/true);
    }
  }

  // The scores once more, now that their sums are known: so no row of them was ever kept.
  void WriteWeights(const PackedSequence& plan, const AttentionSequence& sequence, int64_t head,
                    int64_t first_query, int64_t num_queries, KeyRange visible,
                    const BlockScratch<T>& scratch) const {
    const int64_t num_keys = sequence.num_keys;
    const auto row = [&](int64_t i) {
      return call_.weights + (head * call_.q.rows + first_query + i) * num_keys;
    };
    for (int64_t i = 0; i < num_queries; ++i) std::fill_n(row(i), num_keys, 0.0f);
    ForEachBlock(plan, visible, [&](int64_t block, int64_t width) {
      const int64_t first_key = (plan.first_block + block) * kKeyBlock;
      const int64_t count = std::min(width, num_keys - first_key);
      SetRanges(plan, sequence, first_query, num_queries, block, width, scratch.ranges);
      MultiplyKeys(plan, head / call_.heads_per_key_head(), block, width, num_queries, scratch);
      const BlockBias bias = Bias(plan, sequence, head, first_query, block);
      for (int64_t i = 0; i < num_queries; ++i) {
        FinalWeights(scratch.scores + i * kKeyBlock, count, scratch.ranges[i],
                     bias.data == nullptr ? nullptr : bias.data + i * bias.query_stride,
                     bias.key_stride, scratch.largest[i], scratch.sum[i], row(i) + first_key);
      }
    });
  }

  KernelContext& context_;
  const Call& call_;
  int64_t head_dim_;
  int64_t depth_;           // head_dim, padded to what products want
  int64_t values_per_key_;  // packed, over all key heads
  bool in_tiles_ = false;   // products are our own, in matrix registers
  Products products_[kQueryBlock / kQueryStep][kKeyBlock / kWidthStep];
  size_t product_bytes_ = 0;
  PackedSequence* plans_ = nullptr;
  int64_t num_plans_ = 0;
  T* packed_ = nullptr;
  std::byte* threads_ = nullptr;
  size_t thread_bytes_ = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Few queries over cached keys.

// One sequence's tasks: key heads times ranges of keys.
struct DecodeSequence {
  int32_t index = 0;
  int64_t first_range = 0;
  int64_t num_ranges = 0;
  int64_t first_task = 0;
  int64_t first_partial =
      0;  // rows of partial results: task by task, num_queries * heads_per_key_head each
  int64_t first_row = 0;  // rows of the results: query by query, head by head
};

class DecodeAttention {
 public:
  DecodeAttention(KernelContext& context, const Call& call)
      : context_(context), call_(call), head_dim_(call.options.head_dim) {}

  template <typename Wanted>
  void Run(const Wanted& wanted) {
    int64_t count = 0, num_tasks = 0, num_partials = 0, num_rows = 0;
    const auto plan_all = [&](DecodeSequence* plans) {
      count = num_tasks = num_partials = num_rows = 0;
      for (int64_t index = 0; index < call_.sequences.size(); ++index) {
        const AttentionSequence& sequence = call_.sequences[index];
        if (!wanted(sequence)) continue;
        const KeyRange visible = call_.Visible(sequence, 0, sequence.num_queries);
        DecodeSequence plan{.index = static_cast<int32_t>(index)};
        plan.first_range = visible.begin / kKeyRange;
        plan.num_ranges = (visible.end + kKeyRange - 1) / kKeyRange - plan.first_range;
        plan.first_task = num_tasks;
        plan.first_partial = num_partials;
        plan.first_row = num_rows;
        num_tasks += plan.num_ranges * call_.options.num_key_value_heads;
        num_partials += plan.num_ranges * sequence.num_queries * call_.options.num_heads;
        num_rows += int64_t{sequence.num_queries} * call_.options.num_heads;
        if (plans != nullptr) plans[count] = plan;
        ++count;
      }
    };
    plan_all(nullptr);
    if (count == 0) return;
    const int64_t num_threads = context_.num_threads();
    const auto carve = [&](Carver& carver) {
      plans_ = carver.Array<DecodeSequence>(count);
      largest_ = carver.Array<float>(num_partials);
      sum_ = carver.Array<float>(num_partials);
      values_ = carver.Array<float>(num_partials * head_dim_);
      queries_ = carver.Array<float>(num_threads * kFewQueries * head_dim_);
      scores_ = carver.Array<float>(num_threads * kFewQueries * kKeyRange);
    };
    Carver measure(nullptr);
    carve(measure);
    Carver carver(context_.Scratch(measure.used()));
    carve(carver);
    num_plans_ = count;
    plan_all(plans_);
    ParallelShares(context_, num_tasks, [&](int64_t task, int thread) { Attend(task, thread); });
    ParallelRanges(context_, num_rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) Join(row);
    });
  }

 private:
  const DecodeSequence& Find(int64_t DecodeSequence::* first, int64_t wanted) const {
    const DecodeSequence* found = std::upper_bound(
        plans_, plans_ + num_plans_, wanted,
        [&](int64_t value, const DecodeSequence& plan) { return value < plan.*first; });
    return found[-1];
  }

  // A partial row: of one range of keys, query i and head h of those that share the key head.
  void Attend(int64_t task, int thread) const {
    const DecodeSequence& plan = Find(&DecodeSequence::first_task, task);
    const AttentionSequence& sequence = call_.sequences[plan.index];
    task -= plan.first_task;
    const int64_t key_head = task / plan.num_ranges;
    const int64_t first_key = (plan.first_range + task % plan.num_ranges) * kKeyRange;
    const int64_t group = call_.heads_per_key_head();
    const int64_t num_rows = sequence.num_queries * group;
    const int64_t partial = plan.first_partial + task * num_rows;
    float* queries = queries_ + thread * kFewQueries * head_dim_;
    float* scores = scores_ + thread * kFewQueries * kKeyRange;

    KeyRange ranges[kFewQueries];
    int64_t begin = kKeyRange, end = 0;  // of the keys that some query sees, from first_key
    for (int64_t row = 0; row < num_rows; ++row) {
      const int64_t query = row / group;
      const float* from =
          call_.q.row(sequence.query_start + query) + (key_head * group + row % group) * head_dim_;
      ScaleRow(from, head_dim_, call_.options.scale, queries + row * head_dim_);
      const KeyRange range = call_.Visible(sequence, query);
      ranges[row].begin = std::clamp<int64_t>(range.begin - first_key, 0, kKeyRange);
      ranges[row].end = std::clamp<int64_t>(range.end - first_key, ranges[row].begin, kKeyRange);
      if (ranges[row].begin == ranges[row].end) continue;
      begin = std::min<int64_t>(begin, ranges[row].begin);
      end = std::max<int64_t>(end, ranges[row].end);
    }
    std::fill_n(largest_ + partial, num_rows, -kInfinity);
    std::fill_n(sum_ + partial, num_rows, 0.0f);
    std::fill_n(values_ + partial * head_dim_, num_rows * head_dim_, 0.0f);

    ForEachRun(call_.keys, sequence, key_head, first_key, begin, end,
               [&](const auto* keys, int64_t first, int64_t count) {
                 DotRows(queries, num_rows, keys, count, head_dim_, scores + first, kKeyRange);
               });
    // Each row has a bias of its own; without one, all are done at once.
    const int64_t rows_at_once = call_.options.relative_bias.data == nullptr ? num_rows : 1;
    for (int64_t row = 0; row < num_rows; row += rows_at_once) {
      const int64_t first = partial + row;
      UpdateSoftmax(scores + row * kKeyRange, kKeyRange, end, rows_at_once, ranges + row,
                    call_.Bias(sequence, key_head * group + row % group, row / group, first_key),
                    {largest_ + first, sum_ + first, values_ + first * head_dim_, head_dim_},
                    scores + row * kKeyRange);
    }
    ForEachRun(call_.values, sequence, key_head, first_key, begin, end,
               [&](const auto* values, int64_t first, int64_t count) {
                 AddWeighted(scores + first, kKeyRange, num_rows, values, count, head_dim_,
                             values_ + partial * head_dim_);
               });
  }

  // body(rows, first, count) for each run of adjacent rows of keys [first_key + begin, first_key +
  // end); `first` is counted from first_key.
  template <typename Body>
  void ForEachRun(const KeyRows& from, const AttentionSequence& sequence, int64_t head,
                  int64_t first_key, int64_t begin, int64_t end, const Body& body) const {
    for (int64_t first = begin; first < end;) {
      const int64_t key = first_key + first;
      const int64_t count = std::min(end - first, from.block_size - key % from.block_size);
      const std::byte* rows = from.Row(sequence, head, key);
      if (from.dtype == DataType::kFloat32) {
        body(reinterpret_cast<const float*>(rows), first, count);
      } else {
        body(reinterpret_cast<const uint16_t*>(rows), first, count);
      }
      first += count;
    }
  }

  // Joins the partial results of one query and head.
  void Join(int64_t row) const {
    const DecodeSequence& plan = Find(&DecodeSequence::first_row, row);
    const AttentionSequence& sequence = call_.sequences[plan.index];
    row -= plan.first_row;
    const int64_t query = row / call_.options.num_heads;
    const int64_t head = row % call_.options.num_heads;
    const int64_t group = call_.heads_per_key_head();
    const int64_t num_rows = sequence.num_queries * group;
    const int64_t first = plan.first_partial + head / group * plan.num_ranges * num_rows +
                          query * group + head % group;
    float largest = -kInfinity;
    for (int64_t range = 0; range < plan.num_ranges; ++range) {
      largest = std::max(largest, largest_[first + range * num_rows]);
    }
    float* out = call_.out.row(sequence.query_start + query) + head * head_dim_;
    std::fill_n(out, head_dim_, 0.0f);
    float sum = 0.0f;
    for (int64_t range = 0; range < plan.num_ranges; ++range) {
      const int64_t partial = first + range * num_rows;
      if (sum_[partial] == 0.0f) continue;
      const float factor = std::exp(largest_[partial] - largest);
      sum += sum_[partial] * factor;
      AddWeighted(&factor, 1, 1, values_ + partial * head_dim_, 1, head_dim_, out);
    }
    if (sum != 0.0f) ScaleRow(out, head_dim_, 1.0f / sum, out);
  }

  KernelContext& context_;
  const Call& call_;
  const int64_t head_dim_;
  DecodeSequence* plans_ = nullptr;
  int64_t num_plans_ = 0;
  float* largest_ = nullptr;  // [num_partials]
  float* sum_ = nullptr;      // [num_partials]
  float* values_ = nullptr;   // [num_partials, head_dim]
  float* queries_ = nullptr;  // [threads, kFewQueries, head_dim]
  float* scores_ = nullptr;   // [threads, kFewQueries, kKeyRange]
};

// ---------------------------------------------------------------------------------------------------------------------

void CheckShapes(const Call& call) {
  const AttentionOptions& options = call.options;
  CHECK_GE(options.num_key_value_heads, 1);
  CHECK_EQ(options.num_heads % options.num_key_value_heads, 0);
  CHECK_GE(options.head_dim, 1);
  CHECK_GE(options.sliding_window, 1);
  CHECK_EQ(call.q.cols, options.num_heads * options.head_dim);
  if (call.has_values()) CHECK_EQ(call.out.cols, call.q.cols);
  if (options.relative_bias.data == nullptr) return;
  CHECK(call.bias.data == nullptr) << "a bias by distance and a mask";
  for (const AttentionSequence& sequence : call.sequences) {
    if (sequence.num_queries == 0 || sequence.num_keys == 0) continue;
    const int64_t first = call.Position(sequence, 0);
    const int64_t last = call.Position(sequence, sequence.num_queries - 1);
    CHECK_LE(std::max(last, sequence.num_keys - 1 - first), options.relative_bias.max_distance);
  }
}

template <typename Wanted>
void RunBlocked(KernelContext& context, const Call& call, const Wanted& wanted) {
  if (call.options.dtype == DataType::kBFloat16 && CpuMultipliesBFloat16() &&
      BlockedAttention<uint16_t>(context, call).Run(wanted)) {
    return;
  }
  BlockedAttention<float>(context, call).Run(wanted);
}

KeyRows RowsOf(ConstMatrix matrix, int64_t head_dim) {
  return {.dtype = DataType::kFloat32,
          .data = reinterpret_cast<const std::byte*>(matrix.data),
          .row_stride = matrix.stride,
          .head_dim = head_dim};
}

KeyRows RowsOf(const PagedKeysValues& cache, const std::byte* data, int64_t head_dim) {
  return {.dtype = cache.dtype,
          .data = data,
          .block_size = cache.block_size,
          .block_stride = cache.block_stride,
          .head_dim = head_dim};
}

bool HasQueries(const AttentionSequence& sequence) { return sequence.num_queries > 0; }

}  // namespace

void Attention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
               ConstMatrix k, ConstMatrix v, absl::Span<const AttentionSequence> sequences,
               Matrix out) {
  const Call call{.options = options,
                  .q = q,
                  .keys = RowsOf(k, options.head_dim),
                  .values = RowsOf(v, options.head_dim),
                  .sequences = sequences,
                  .out = out};
  CheckShapes(call);
  RunBlocked(context, call, HasQueries);
}

void PagedAttention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                    const PagedKeysValues& cache, absl::Span<const AttentionSequence> sequences,
                    Matrix out) {
  const Call call{.options = options,
                  .q = q,
                  .keys = RowsOf(cache, cache.keys, options.head_dim),
                  .values = RowsOf(cache, cache.values, options.head_dim),
                  .sequences = sequences,
                  .out = out};
  CheckShapes(call);
  const auto has_few_queries = [&](const AttentionSequence& sequence) {
    return HasQueries(sequence) && sequence.num_queries * call.heads_per_key_head() <= kFewQueries;
  };
  DecodeAttention(context, call).Run(has_few_queries);
  RunBlocked(context, call, [&](const AttentionSequence& sequence) {
    return HasQueries(sequence) && !has_few_queries(sequence);
  });
}

void PagedMeanWeights(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                      const PagedKeysValues& cache, absl::Span<const AttentionSequence> sequences,
                      Matrix out) {
  const KeyRows keys = RowsOf(cache, cache.keys, options.head_dim);
  const int64_t group = options.num_heads / options.num_key_value_heads;
  const int64_t head_dim = options.head_dim;
  struct ThreadScratch {
    float* query;
    float* scores;
    float* weights;
    ThreadScratch(Carver& carver, int64_t head_dim, int64_t num_keys)
        : query(carver.Array<float>(head_dim)),
          scores(carver.Array<float>(num_keys)),
          weights(carver.Array<float>(num_keys)) {}
  };
  Carver measure(nullptr);
  ThreadScratch(measure, head_dim, out.cols);
  std::byte* memory = context.Scratch(measure.used() * context.num_threads());
  ParallelTasks(context, sequences.size(), [&](int64_t index, int thread) {
    const AttentionSequence& sequence = sequences[index];
    const int64_t num_keys = sequence.num_keys;
    Carver carver(memory + thread * measure.used());
    const ThreadScratch scratch(carver, head_dim, out.cols);
    float* mean = out.row(index);
    std::fill_n(mean, num_keys, 0.0f);
    for (int64_t head = 0; head < options.num_heads; ++head) {
      ScaleRow(q.row(sequence.query_start) + head * head_dim, head_dim, options.scale,
               scratch.query);
      for (int64_t key = 0; key < num_keys; key += cache.block_size) {
        const int64_t count = std::min<int64_t>(cache.block_size, num_keys - key);
        const std::byte* rows = keys.Row(sequence, head / group, key);
        if (keys.dtype == DataType::kFloat32) {
          DotRows(scratch.query, 1, reinterpret_cast<const float*>(rows), count, head_dim,
                  scratch.scores + key, count);
        } else {
          DotRows(scratch.query, 1, reinterpret_cast<const uint16_t*>(rows), count, head_dim,
                  scratch.scores + key, count);
        }
      }
      const float log_sum = LogSumExp({scratch.scores, static_cast<size_t>(num_keys)});
      FinalWeights(scratch.scores, num_keys, {0, sequence.num_keys}, nullptr, 0, log_sum,
                   static_cast<float>(options.num_heads), scratch.weights);
      for (int64_t key = 0; key < num_keys; ++key) mean[key] += scratch.weights[key];
    }
  });
}

void MaskedAttention(KernelContext& context, const AttentionOptions& options, ConstMatrix q,
                     int32_t first_query, int32_t num_queries, ConstMatrix k, ConstMatrix v,
                     const AttentionBias& bias, Matrix out, float* log_sum_exp, float* weights) {
  const AttentionSequence sequence{.num_queries = static_cast<int32_t>(q.rows),
                                   .num_keys = static_cast<int32_t>(k.rows)};
  const Call call{.options = options,
                  .q = q,
                  .keys = RowsOf(k, options.head_dim),
                  .values = RowsOf(v, options.head_dim),
                  .sequences = absl::MakeConstSpan(&sequence, 1),
                  .out = out,
                  .first_query = first_query,
                  .all_queries = num_queries,
                  .bias = bias,
                  .log_sum_exp = log_sum_exp,
                  .weights = weights};
  CheckShapes(call);
  RunBlocked(context, call, HasQueries);
}

void StoreKeysValues(KernelContext& context, const AttentionOptions& options, ConstMatrix k,
                     ConstMatrix v, absl::Span<const AttentionSequence> sequences,
                     const PagedKeysValues& cache) {
  const int64_t head_dim = options.head_dim;
  const KeyRows places[] = {RowsOf(cache, cache.keys, head_dim),
                            RowsOf(cache, cache.values, head_dim)};
  const ConstMatrix sources[] = {k, v};
  const auto store = [&](int which, int64_t begin, int64_t end) {
    for (const AttentionSequence& sequence : sequences) {
      const int64_t start = sequence.query_start;
      const int64_t first_key = int64_t{sequence.num_keys} - sequence.num_queries;
      const int64_t last = std::min(end, start + sequence.num_queries);
      for (int64_t i = std::max(begin, start); i < last; ++i) {
        const float* row = sources[which].row(i);
        for (int64_t head = 0; head < options.num_key_value_heads; ++head) {
          auto* to =
              const_cast<std::byte*>(places[which].Row(sequence, head, first_key + i - start));
          if (cache.dtype == DataType::kFloat32) {
            std::memcpy(to, row + head * head_dim, head_dim * sizeof(float));
          } else {
            ScaleRow(row + head * head_dim, head_dim, 1.0f, reinterpret_cast<uint16_t*>(to));
          }
        }
      }
    }
  };
  // Keys and values apart, and of each many rows: whoever is first in a page of the cache waits
  // while the system clears it, and two who are clear it twice.
  constexpr int64_t kRowsTogether = 512;
  constexpr int64_t kWorthAThread = 16384;  // values
  const int64_t num_rows = k.rows;
  if (num_rows * k.cols < kWorthAThread) {
    store(0, 0, num_rows);
    store(1, 0, num_rows);
    return;
  }
  const int64_t num_tasks = 2 * ((num_rows + kRowsTogether - 1) / kRowsTogether);
  ParallelTasks(context, num_tasks, [&](int64_t task, int) {
    const int64_t begin = task / 2 * kRowsTogether;
    store(static_cast<int>(task % 2), begin, std::min(num_rows, begin + kRowsTogether));
  });
}

}  // namespace attendant::engine
