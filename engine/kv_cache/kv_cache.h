#ifndef ATTENDANT_ENGINE_KV_CACHE_KV_CACHE_H_
#define ATTENDANT_ENGINE_KV_CACHE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/data_type.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

struct KvCacheOptions {
  int32_t num_layers = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;
  int32_t block_size = 16;  // tokens a block
  int32_t num_blocks = 0;
  DataType dtype = DataType::kFloat32;  // or kBFloat16
};

// The keys and values of past tokens, in blocks, for every layer of one model. Allocated once;
// which block is whose is the BlockPool's affair. A block of one layer is [num_key_value_heads,
// block_size, head_dim].
class KvCache {
 public:
  explicit KvCache(const KvCacheOptions& options);

  // Bytes of one block, over all layers, keys and values.
  static int64_t BlockBytes(const KvCacheOptions& options);

  const KvCacheOptions& options() const { return options_; }
  std::byte* keys(int32_t layer);
  std::byte* values(int32_t layer);
  int64_t block_stride() const;  // in values, from one block of a layer to the next
  int64_t size_bytes() const;

  // Makes block `to` of every layer equal to block `from`.
  void CopyBlock(int32_t from, int32_t to);

 private:
  KvCacheOptions options_;
  AlignedBuffer buffer_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KV_CACHE_KV_CACHE_H_
