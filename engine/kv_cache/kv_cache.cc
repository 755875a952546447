#include "engine/kv_cache/kv_cache.h"

#include <cstring>

#include "absl/log/check.h"

namespace attendant::engine {
namespace {

// Values of one block of one layer: its keys, or its values.
int64_t BlockValues(const KvCacheOptions& options) {
  return int64_t{options.num_key_value_heads} * options.block_size * options.head_dim;
}

}  // namespace

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options), buffer_(static_cast<size_t>(BlockBytes(options) * options.num_blocks)) {
  CHECK(options.dtype == DataType::kFloat32 || options.dtype == DataType::kBFloat16)
      << DataTypeName(options.dtype);
}

int64_t KvCache::BlockBytes(const KvCacheOptions& options) {
  return 2 * options.num_layers * BlockValues(options) *
         static_cast<int64_t>(SizeOf(options.dtype));
}

// Layer by layer, the keys of all blocks and then their values.
std::byte* KvCache::keys(int32_t layer) {
  DCHECK_LT(layer, options_.num_layers);
  return buffer_.data() +
         2 * int64_t{layer} * options_.num_blocks * block_stride() * SizeOf(options_.dtype);
}

std::byte* KvCache::values(int32_t layer) {
  return keys(layer) + options_.num_blocks * block_stride() * SizeOf(options_.dtype);
}

int64_t KvCache::block_stride() const { return BlockValues(options_); }

void KvCache::CopyBlock(int32_t from, int32_t to) {
  CHECK(from >= 0 && from < options_.num_blocks && to >= 0 && to < options_.num_blocks)
      << from << " to " << to << " of " << options_.num_blocks;
  if (from == to) return;
  const auto block_bytes = static_cast<int64_t>(block_stride() * SizeOf(options_.dtype));
  for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
    for (std::byte* blocks : {keys(layer), values(layer)}) {
      std::memcpy(blocks + to * block_bytes, blocks + from * block_bytes, block_bytes);
    }
  }
}

int64_t KvCache::size_bytes() const { return static_cast<int64_t>(buffer_.size_bytes()); }

}  // namespace attendant::engine
