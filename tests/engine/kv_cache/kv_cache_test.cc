#include "engine/kv_cache/kv_cache.h"

#include <cstring>
#include <iterator>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

KvCacheOptions Options(DataType dtype) {
  return {.num_layers = 3,
          .num_key_value_heads = 2,
          .head_dim = 5,
          .block_size = 4,
          .num_blocks = 7,
          .dtype = dtype};
}

TEST(KvCacheTest, ABlockIsCountedOverLayersKeysAndValues) {
  EXPECT_EQ(KvCache::BlockBytes(Options(DataType::kFloat32)), 3 * 2 * (2 * 4 * 5) * 4);
  EXPECT_EQ(KvCache::BlockBytes(Options(DataType::kBFloat16)), 3 * 2 * (2 * 4 * 5) * 2);
}

TEST(KvCacheTest, EveryLayersKeysAndValuesLieApartAndInside) {
  for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
    KvCache cache(Options(dtype));
    EXPECT_EQ(cache.size_bytes(), 7 * KvCache::BlockBytes(cache.options()));
    EXPECT_EQ(cache.block_stride(), 2 * 4 * 5);
    const int64_t bytes = 7 * cache.block_stride() * static_cast<int64_t>(SizeOf(dtype));
    std::set<std::byte*> starts;
    for (int layer = 0; layer < 3; ++layer) {
      // AddressSanitizer checks the end of the last of them.
      std::memset(cache.keys(layer), layer, bytes);
      std::memset(cache.values(layer), layer, bytes);
      starts.insert(cache.keys(layer));
      starts.insert(cache.values(layer));
    }
    ASSERT_EQ(starts.size(), 6);
    for (auto it = starts.begin(); std::next(it) != starts.end(); ++it)
      EXPECT_EQ(*std::next(it) - *it, bytes);
    EXPECT_EQ(*starts.rbegin() + bytes - *starts.begin(), cache.size_bytes());
  }
}

TEST(KvCacheTest, CopiesABlockOfEveryLayerAndNoOther) {
  for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16}) {
    KvCache cache(Options(dtype));
    const int64_t block_bytes = cache.block_stride() * static_cast<int64_t>(SizeOf(dtype));
    const auto block = [&](std::byte* blocks, int index) { return blocks + index * block_bytes; };
    for (int layer = 0; layer < 3; ++layer) {
      for (int index = 0; index < 7; ++index) {
        std::memset(block(cache.keys(layer), index), 16 * layer + index, block_bytes);
        std::memset(block(cache.values(layer), index), 64 + 16 * layer + index, block_bytes);
      }
    }
    cache.CopyBlock(5, 2);
    cache.CopyBlock(6, 6);
    for (int layer = 0; layer < 3; ++layer) {
      for (int index = 0; index < 7; ++index) {
        const int from = index == 2 ? 5 : index;
        for (int64_t i = 0; i < block_bytes; ++i) {
          ASSERT_EQ(block(cache.keys(layer), index)[i], std::byte(16 * layer + from));
          ASSERT_EQ(block(cache.values(layer), index)[i], std::byte(64 + 16 * layer + from));
        }
      }
    }
  }
}

TEST(KvCacheTest, MayBeEmpty) {
  KvCacheOptions options = Options(DataType::kFloat32);
  options.num_blocks = 0;
  EXPECT_EQ(KvCache(options).size_bytes(), 0);
}

}  // namespace
}  // namespace attendant::engine
