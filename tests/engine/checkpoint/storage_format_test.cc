#include "engine/checkpoint/storage_format.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/base/float_conversion.h"
#include "engine/base/quantized_matrix.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/safetensors_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::IsOk;
using ::attendant::testing::TestDataPath;

// The twins: the value of one element, found from the layout bit by bit. The formats are ggml's:
// docs/gguf.md names them, and the layouts are told at the top of each function.

using Block = std::vector<uint8_t>;

double Half(const Block& b, int at) {
  const int bits = b[at] | b[at + 1] << 8;
  const int exponent = bits >> 10 & 31;
  const double magnitude = exponent == 0 ? std::ldexp(bits & 1023, -24)
                                         : std::ldexp((bits & 1023) | 1024, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

// `count` bits from bit `first` of the bytes that begin at `at`.
int Bits(const Block& b, int at, int first, int count) {
  int value = 0;
  for (int i = 0; i < count; ++i) {
    value |= (b[at + (first + i) / 8] >> ((first + i) % 8) & 1) << i;
  }
  return value;
}

// Nibble of element i of 32: element i < 16 is the low nibble of byte i, element 16 + i its high
// one.
int Nibble32(const Block& b, int at, int i) { return Bits(b, at + i % 16, i / 16 * 4, 4); }

double TwinQ4_0(const Block& b, int i) { return Half(b, 0) * (Nibble32(b, 2, i) - 8); }
double TwinQ4_1(const Block& b, int i) { return Half(b, 0) * Nibble32(b, 4, i) + Half(b, 2); }
double TwinQ5_0(const Block& b, int i) {
  return Half(b, 0) * (Nibble32(b, 6, i) + 16 * Bits(b, 2, i, 1) - 16);
}
double TwinQ5_1(const Block& b, int i) {
  return Half(b, 0) * (Nibble32(b, 8, i) + 16 * Bits(b, 4, i, 1)) + Half(b, 2);
}
double TwinQ8_0(const Block& b, int i) {
  const int q = b[2 + i];
  return Half(b, 0) * (q < 128 ? q : q - 256);
}

// Scale (which = 0) or minimum (1) of sub-block j of 8, each of 6 bits.
int TwinScale(const Block& b, int j, int which) {
  const int low = 4 + 4 * which + j % 4;
  if (j < 4) return Bits(b, low, 0, 6);
  return Bits(b, 12 + j - 4, 4 * which, 4) + 16 * Bits(b, low, 6, 2);
}
// Elements 64p .. 64p+31 are the low nibbles of bytes 32p .. 32p+31, the next 32 their high ones.
int Nibble256(const Block& b, int at, int i) {
  return Bits(b, at + i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4);
}
double TwinQ4_K(const Block& b, int i) {
  return Half(b, 0) * TwinScale(b, i / 32, 0) * Nibble256(b, 16, i) -
         Half(b, 2) * TwinScale(b, i / 32, 1);
}
double TwinQ5_K(const Block& b, int i) {
  const int q = Nibble256(b, 48, i) + 16 * Bits(b, 16 + i % 32, i / 32, 1);
  return Half(b, 0) * TwinScale(b, i / 32, 0) * q - Half(b, 2) * TwinScale(b, i / 32, 1);
}
// In each half of 128, element 32g + l: low bits in byte l + 32 (g odd) of 64, its high nibble for
// g >= 2; high bits at bit 2g of byte l of 32. One signed scale for 16 elements.
double TwinQ6_K(const Block& b, int i) {
  const int half = i / 128, g = i % 128 / 32, l = i % 32;
  const int low = Bits(b, half * 64 + g % 2 * 32 + l, g / 2 * 4, 4);
  const int high = Bits(b, 128 + half * 32 + l, g * 2, 2);
  const auto scale = static_cast<int8_t>(b[192 + i / 16]);
  return Half(b, 208) * scale * (low + 16 * high - 32);
}

struct TwinCase {
  uint32_t type;
  std::string name;
  double (*twin)(const Block&, int);
  std::vector<int> halves;  // offsets of the binary16 numbers of a block
};

const TwinCase kTwins[] = {
    {2, "Q4_0", TwinQ4_0, {0}},     {3, "Q4_1", TwinQ4_1, {0, 2}}, {6, "Q5_0", TwinQ5_0, {0}},
    {7, "Q5_1", TwinQ5_1, {0, 2}},  {8, "Q8_0", TwinQ8_0, {0}},    {12, "Q4_K", TwinQ4_K, {0, 2}},
    {13, "Q5_K", TwinQ5_K, {0, 2}}, {14, "Q6_K", TwinQ6_K, {208}},
};

TEST(StorageFormatTest, EveryQuantizedFormatEqualsItsTwin) {
  std::mt19937 random(7);
  for (const TwinCase& test : kTwins) {
    SCOPED_TRACE(test.name);
    const StorageFormat* format = FindGgmlFormat(test.type);
    ASSERT_NE(format, nullptr);
    EXPECT_EQ(std::string(format->name), test.name);
    constexpr int kNumBlocks = 50;
    std::vector<uint8_t> bytes(1);  // so that the blocks are unaligned
    for (int n = 0; n < kNumBlocks; ++n) {
      Block block(format->block_bytes);
      for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
      // Finite, subnormals included.
      for (const int at : test.halves) block[at + 1] &= 0xbb;
      bytes.insert(bytes.end(), block.begin(), block.end());
    }
    std::vector<float> values(kNumBlocks * format->block_size);
    format->widen(reinterpret_cast<const std::byte*>(bytes.data() + 1), kNumBlocks, values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto begin = bytes.begin() + 1 + i / format->block_size * format->block_bytes;
      const Block block(begin, begin + format->block_bytes);
      const int element = static_cast<int>(i % format->block_size);
      const double expected = test.twin(block, element);
      // Two products and a sum, each rounded once; the terms may cancel.
      double magnitude = std::abs(expected);
      for (const int at : test.halves) magnitude += 64.0 * 32 * std::abs(Half(block, at));
      ASSERT_NEAR(values[i], expected, 0x1p-22 * magnitude) << "element " << i;
    }
  }
}

// The integers, scales and minimums of the formats that have them in groups of 32.
TEST(StorageFormatTest, WhatIsTakenApartStandsForTheSameValues) {
  std::mt19937 random(8);
  for (const TwinCase& test : kTwins) {
    SCOPED_TRACE(test.name);
    const StorageFormat* format = FindGgmlFormat(test.type);
    ASSERT_NE(format, nullptr);
    EXPECT_EQ(format->bits, test.name[1] == '4' ? 4 : 8);
    EXPECT_EQ(format->take_apart == nullptr, test.name == "Q6_K");  // groups of 16
    if (format->take_apart == nullptr) continue;
    constexpr int kNumBlocks = 50;
    std::vector<uint8_t> bytes(1 + kNumBlocks * format->block_bytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    for (int n = 0; n < kNumBlocks; ++n) {
      for (const int at : test.halves) bytes[1 + n * format->block_bytes + at + 1] &= 0x9f;
    }
    const auto* blocks = reinterpret_cast<const std::byte*>(bytes.data() + 1);
    const int num_values = kNumBlocks * format->block_size;
    QuantizedMatrix matrix{.bits = format->bits, .rows = 1, .cols = num_values};
    matrix.quants.resize(num_values);
    matrix.scales.resize(num_values / 32);
    if (format->has_minimums) matrix.minimums.resize(num_values / 32);
    format->take_apart(blocks, kNumBlocks, matrix.quants.data(), matrix.scales.data(),
                       matrix.minimums.data());
    std::vector<float> want(num_values);
    format->widen(blocks, kNumBlocks, want.data());
    for (int i = 0; i < num_values; ++i) {
      ASSERT_LT(matrix.quants[i], 1 << format->bits);
      const double scaled =
          double{Float16ToFloat(matrix.scales[i / 32])} * (matrix.quants[i] - matrix.offset());
      const double minimum = format->has_minimums ? Float16ToFloat(matrix.minimums[i / 32]) : 0.0;
      // The products of the "_K" formats are rounded to binary16.
      const double epsilon = test.name.back() == 'K' ? 0x1p-11 : 0x1p-22;
      ASSERT_NEAR(scaled + minimum, want[i],
                  epsilon * (std::abs(scaled) + std::abs(minimum)) + 32 * 0x1p-25)
          << "element " << i;
    }
  }
}

TEST(StorageFormatTest, EveryQuantizedFormatEqualsTheGgufPackage) {
  const std::string path = TestDataPath("goldens/dequantize/expected.safetensors").string();
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile golden, SafetensorsFile::Open(path));
  for (const TwinCase& test : kTwins) {
    SCOPED_TRACE(test.name);
    const SafetensorsFile::Tensor* blocks = golden.Find(test.name + ".blocks");
    const SafetensorsFile::Tensor* expected = golden.Find(test.name + ".values");
    ASSERT_TRUE(blocks != nullptr && expected != nullptr);
    std::vector<float> values(NumElements(expected->shape));
    std::vector<float> expected_values(values.size());
    ASSERT_OK(golden.Read(test.name + ".values", expected->shape, absl::MakeSpan(expected_values)));
    FindGgmlFormat(test.type)->widen(blocks->data.data(), blocks->shape[0], values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(values[i], expected_values[i], 1e-6 * (1 + std::abs(expected_values[i]))) << i;
    }
  }
}

TEST(StorageFormatTest, NoBlocksTouchNothing) {
  for (uint32_t type = 0; type < 64; ++type) {
    const StorageFormat* format = FindGgmlFormat(type);
    if (format == nullptr || format->widen == nullptr) continue;
    format->widen(nullptr, 0, nullptr);
  }
}

TEST(StorageFormatTest, UnknownFormatsAreNull) {
  EXPECT_EQ(FindGgmlFormat(4), nullptr);  // was Q4_2, and is no more
  EXPECT_EQ(FindGgmlFormat(1000), nullptr);
  EXPECT_EQ(FindSafetensorsFormat("f32"), nullptr);
  EXPECT_EQ(FindSafetensorsFormat(""), nullptr);
}

}  // namespace
}  // namespace attendant::engine
