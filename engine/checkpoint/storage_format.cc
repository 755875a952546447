// The quantized formats are ggml's. All but the plain numbers share one idea: a block has a scale
// `d` (binary16), some also a minimum `m`, and each value a small integer q; the value is d*q or
// d*q + m. The "_K" formats have blocks of 256 values in sub-blocks of 16 or 32, whose own scales
// are integers in units of d.

#include "engine/checkpoint/storage_format.h"

#include <bit>
#include <cstring>

#include "engine/base/float_conversion.h"

namespace attendant::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "weight files are little-endian");

template <typename T>
T Load(const std::byte* address) {
  T value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

float LoadHalf(const std::byte* address) { return Float16ToFloat(Load<uint16_t>(address)); }

uint8_t Byte(std::byte value) { return static_cast<uint8_t>(value); }
int Low4(std::byte value) { return Byte(value) & 0xf; }
int High4(std::byte value) { return Byte(value) >> 4; }

template <typename T>
void WidenNumbers(const std::byte* data, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(Load<T>(data + i * sizeof(T)));
  }
}

void WidenFloat32(const std::byte* data, int64_t count, float* values) {
  if (count > 0) std::memcpy(values, data, count * sizeof(float));
}

void WidenFloat16(const std::byte* data, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = LoadHalf(data + 2 * i);
}

void WidenBFloat16(const std::byte* data, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = BFloat16ToFloat(Load<uint16_t>(data + 2 * i));
}

void WidenBool(const std::byte* data, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = data[i] != std::byte{0} ? 1.0f : 0.0f;
}

// Blocks of 32: byte j of `quants` holds value j (low half) and value j + 16 (high half). In the
// 5-bit formats, bit i of `high_bits` is the fifth bit of value i.

void WidenQ4_0(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 18, values += 32) {
    const float d = LoadHalf(block);
    const std::byte* quants = block + 2;
    for (int j = 0; j < 16; ++j) {
      values[j] = d * static_cast<float>(Low4(quants[j]) - 8);
      values[j + 16] = d * static_cast<float>(High4(quants[j]) - 8);
    }
  }
}

void WidenQ4_1(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 20, values += 32) {
    const float d = LoadHalf(block);
    const float m = LoadHalf(block + 2);
    const std::byte* quants = block + 4;
    for (int j = 0; j < 16; ++j) {
      values[j] = d * static_cast<float>(Low4(quants[j])) + m;
      values[j + 16] = d * static_cast<float>(High4(quants[j])) + m;
    }
  }
}

void WidenQ5_0(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 22, values += 32) {
    const float d = LoadHalf(block);
    const uint32_t high_bits = Load<uint32_t>(block + 2);
    const std::byte* quants = block + 6;
    for (int j = 0; j < 16; ++j) {
      const int low = Low4(quants[j]) | static_cast<int>((high_bits >> j) & 1) << 4;
      const int high = High4(quants[j]) | static_cast<int>((high_bits >> (j + 16)) & 1) << 4;
      values[j] = d * static_cast<float>(low - 16);
      values[j + 16] = d * static_cast<float>(high - 16);
    }
  }
}

void WidenQ5_1(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 24, values += 32) {
    const float d = LoadHalf(block);
    const float m = LoadHalf(block + 2);
    const uint32_t high_bits = Load<uint32_t>(block + 4);
    const std::byte* quants = block + 8;
    for (int j = 0; j < 16; ++j) {
      const int low = Low4(quants[j]) | static_cast<int>((high_bits >> j) & 1) << 4;
      const int high = High4(quants[j]) | static_cast<int>((high_bits >> (j + 16)) & 1) << 4;
      values[j] = d * static_cast<float>(low) + m;
      values[j + 16] = d * static_cast<float>(high) + m;
    }
  }
}

void WidenQ8_0(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 34, values += 32) {
    const float d = LoadHalf(block);
    for (int j = 0; j < 32; ++j) {
      values[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
    }
  }
}

// The 6-bit scale and minimum of sub-block j of 8, packed in 12 bytes: bytes 0-3 and 4-7 hold those
// of sub-blocks 0-3 in their low 6 bits; bytes 8-11 the low 4 bits of sub-blocks 4-7, whose upper 2
// are the top bits of bytes 0-7.
struct ScaleAndMinimum {
  int scale;
  int minimum;
};

ScaleAndMinimum UnpackScale(const std::byte* scales, int j) {
  if (j < 4) return {Byte(scales[j]) & 0x3f, Byte(scales[j + 4]) & 0x3f};
  return {Low4(scales[j + 4]) | (Byte(scales[j - 4]) >> 6) << 4,
          High4(scales[j + 4]) | (Byte(scales[j]) >> 6) << 4};
}

// d, dmin (halves), 12 bytes of scales, 128 bytes of quants: 32 bytes for each pair of sub-blocks
// of 32 values.
void WidenQ4_K(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 144) {
    const float d = LoadHalf(block);
    const float dmin = LoadHalf(block + 2);
    const std::byte* quants = block + 16;
    for (int j = 0; j < 8; ++j, values += 32) {
      const auto [scale, minimum] = UnpackScale(block + 4, j);
      const float dj = d * static_cast<float>(scale);
      const float mj = dmin * static_cast<float>(minimum);
      const std::byte* pair = quants + j / 2 * 32;
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        values[i] = dj * static_cast<float>((Byte(pair[i]) >> shift) & 0xf) - mj;
      }
    }
  }
}

// As Q4_K, with 32 bytes of fifth bits between scales and quants: bit j of byte i belongs to value
// i of sub-block j.
void WidenQ5_K(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 176) {
    const float d = LoadHalf(block);
    const float dmin = LoadHalf(block + 2);
    const std::byte* high_bits = block + 16;
    const std::byte* quants = block + 48;
    for (int j = 0; j < 8; ++j, values += 32) {
      const auto [scale, minimum] = UnpackScale(block + 4, j);
      const float dj = d * static_cast<float>(scale);
      const float mj = dmin * static_cast<float>(minimum);
      const std::byte* pair = quants + j / 2 * 32;
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        const int q = ((Byte(pair[i]) >> shift) & 0xf) | ((Byte(high_bits[i]) >> j) & 1) << 4;
        values[i] = dj * static_cast<float>(q) - mj;
      }
    }
  }
}

// 128 bytes of low 4 bits, 64 bytes of high 2 bits, 16 signed scales (one for 16 values), d. Each
// half of 128 values is four groups of 32: groups 0 and 2 share the bytes of their low bits, as do
// 1 and 3; all four share their high bits.
void WidenQ6_K(const std::byte* block, int64_t num_blocks, float* values) {
  for (; num_blocks > 0; --num_blocks, block += 210) {
    const std::byte* scales = block + 192;
    const float d = LoadHalf(block + 208);
    for (int half = 0; half < 2; ++half) {
      for (int group = 0; group < 4; ++group, values += 32) {
        const std::byte* low = block + half * 64 + group % 2 * 32;
        const std::byte* high = block + 128 + half * 32;
        const std::byte* scale = scales + half * 8 + group * 2;
        for (int i = 0; i < 32; ++i) {
          const int q =
              ((Byte(low[i]) >> (group / 2 * 4)) & 0xf) | ((Byte(high[i]) >> (group * 2)) & 3) << 4;
          const float dj = d * static_cast<float>(static_cast<int8_t>(scale[i / 16]));
          values[i] = dj * static_cast<float>(q - 32);
        }
      }
    }
  }
}

// The same blocks, taken apart.

void Nibbles(const std::byte* bytes, uint8_t* quants) {
  for (int j = 0; j < 16; ++j) {
    quants[j] = static_cast<uint8_t>(Low4(bytes[j]));
    quants[j + 16] = static_cast<uint8_t>(High4(bytes[j]));
  }
}

void AddFifthBits(uint32_t bits, uint8_t* quants) {
  for (int j = 0; j < 32; ++j) quants[j] |= (bits >> j & 1) << 4;
}

void TakeQ4_0(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
              uint16_t*) {
  for (; num_blocks > 0; --num_blocks, block += 18, quants += 32) {
    *scales++ = Load<uint16_t>(block);
    Nibbles(block + 2, quants);
  }
}

void TakeQ4_1(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
              uint16_t* minimums) {
  for (; num_blocks > 0; --num_blocks, block += 20, quants += 32) {
    *scales++ = Load<uint16_t>(block);
    *minimums++ = Load<uint16_t>(block + 2);
    Nibbles(block + 4, quants);
  }
}

void TakeQ5_0(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
              uint16_t*) {
  for (; num_blocks > 0; --num_blocks, block += 22, quants += 32) {
    *scales++ = Load<uint16_t>(block);
    Nibbles(block + 6, quants);
    AddFifthBits(Load<uint32_t>(block + 2), quants);
    for (int j = 0; j < 32; ++j) quants[j] += 128 - 16;
  }
}

void TakeQ5_1(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
              uint16_t* minimums) {
  for (; num_blocks > 0; --num_blocks, block += 24, quants += 32) {
    *scales++ = Load<uint16_t>(block);
    *minimums++ = Load<uint16_t>(block + 2);
    Nibbles(block + 8, quants);
    AddFifthBits(Load<uint32_t>(block + 4), quants);
  }
}

void TakeQ8_0(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
              uint16_t*) {
  for (; num_blocks > 0; --num_blocks, block += 34, quants += 32) {
    *scales++ = Load<uint16_t>(block);
    for (int j = 0; j < 32; ++j) quants[j] = Byte(block[2 + j]) ^ 0x80;  // + 128
  }
}

// Q4_K, and with fifth bits Q5_K.
template <bool kFifthBits>
void TakeK(const std::byte* block, int64_t num_blocks, uint8_t* quants, uint16_t* scales,
           uint16_t* minimums) {
  for (; num_blocks > 0; --num_blocks, block += kFifthBits ? 176 : 144) {
    const float d = LoadHalf(block);
    const float dmin = LoadHalf(block + 2);
    const std::byte* low_bits = block + (kFifthBits ? 48 : 16);
    for (int j = 0; j < 8; ++j, quants += 32) {
      const auto [scale, minimum] = UnpackScale(block + 4, j);
      *scales++ = FloatToFloat16(d * static_cast<float>(scale));
      *minimums++ = FloatToFloat16(-dmin * static_cast<float>(minimum));
      for (int i = 0; i < 32; ++i) {
        int q = (Byte(low_bits[j / 2 * 32 + i]) >> (j % 2 * 4)) & 0xf;
        if (kFifthBits) q |= ((Byte(block[16 + i]) >> j) & 1) << 4;
        quants[i] = static_cast<uint8_t>(q);
      }
    }
  }
}

constexpr StorageFormat kSafetensorsFormats[] = {
    {"F32", 1, 4, WidenFloat32},
    {"F16", 1, 2, WidenFloat16},
    {"BF16", 1, 2, WidenBFloat16},
    {"F64", 1, 8, WidenNumbers<double>},
    {"I8", 1, 1, WidenNumbers<int8_t>},
    {"U8", 1, 1, WidenNumbers<uint8_t>},
    {"I16", 1, 2, WidenNumbers<int16_t>},
    {"U16", 1, 2, WidenNumbers<uint16_t>},
    {"I32", 1, 4, WidenNumbers<int32_t>},
    {"U32", 1, 4, WidenNumbers<uint32_t>},
    {"I64", 1, 8, WidenNumbers<int64_t>},
    {"U64", 1, 8, WidenNumbers<uint64_t>},
    {"BOOL", 1, 1, WidenBool},
    // Read without the scales that quantizers store beside them, 8-bit floats would be silently
    // wrong.
    {"F8_E4M3", 1, 1, nullptr},
    {"F8_E5M2", 1, 1, nullptr},
    {"F8_E8M0", 1, 1, nullptr},
    {"C64", 1, 8, nullptr},
};

struct GgmlFormat {
  uint32_t type;
  StorageFormat format;
};

constexpr GgmlFormat kGgmlFormats[] = {
    {0, {"F32", 1, 4, WidenFloat32}},
    {1, {"F16", 1, 2, WidenFloat16}},
    {2, {"Q4_0", 32, 18, WidenQ4_0, 4, false, TakeQ4_0}},
    {3, {"Q4_1", 32, 20, WidenQ4_1, 4, true, TakeQ4_1}},
    {6, {"Q5_0", 32, 22, WidenQ5_0, 8, false, TakeQ5_0}},
    {7, {"Q5_1", 32, 24, WidenQ5_1, 8, true, TakeQ5_1}},
    {8, {"Q8_0", 32, 34, WidenQ8_0, 8, false, TakeQ8_0}},
    {9, {"Q8_1", 32, 36, nullptr}},
    {10, {"Q2_K", 256, 84, nullptr}},
    {11, {"Q3_K", 256, 110, nullptr}},
    {12, {"Q4_K", 256, 144, WidenQ4_K, 4, true, TakeK<false>}},
    {13, {"Q5_K", 256, 176, WidenQ5_K, 8, true, TakeK<true>}},
    {14, {"Q6_K", 256, 210, WidenQ6_K, 8}},
    {15, {"Q8_K", 256, 292, nullptr}},
    {16, {"IQ2_XXS", 256, 66, nullptr}},
    {17, {"IQ2_XS", 256, 74, nullptr}},
    {18, {"IQ3_XXS", 256, 98, nullptr}},
    {19, {"IQ1_S", 256, 50, nullptr}},
    {20, {"IQ4_NL", 32, 18, nullptr}},
    {21, {"IQ3_S", 256, 110, nullptr}},
    {22, {"IQ2_S", 256, 82, nullptr}},
    {23, {"IQ4_XS", 256, 136, nullptr}},
    {24, {"I8", 1, 1, WidenNumbers<int8_t>}},
    {25, {"I16", 1, 2, WidenNumbers<int16_t>}},
    {26, {"I32", 1, 4, WidenNumbers<int32_t>}},
    {27, {"I64", 1, 8, WidenNumbers<int64_t>}},
    {28, {"F64", 1, 8, WidenNumbers<double>}},
    {29, {"IQ1_M", 256, 56, nullptr}},
    {30, {"BF16", 1, 2, WidenBFloat16}},
    {34, {"TQ1_0", 256, 54, nullptr}},
    {35, {"TQ2_0", 256, 66, nullptr}},
    {39, {"MXFP4", 32, 17, nullptr}},
    {40, {"NVFP4", 64, 36, nullptr}},
    {41, {"Q1_0", 128, 18, nullptr}},
    {42, {"Q2_0", 64, 18, nullptr}},
};

}  // namespace

const StorageFormat* FindSafetensorsFormat(absl::string_view dtype) {
  for (const StorageFormat& format : kSafetensorsFormats) {
    if (format.name == dtype) return &format;
  }
  return nullptr;
}

const StorageFormat* FindGgmlFormat(uint32_t type) {
  for (const GgmlFormat& entry : kGgmlFormats) {
    if (entry.type == type) return &entry.format;
  }
  return nullptr;
}

}  // namespace attendant::engine
