#ifndef ATTENDANT_ENGINE_BASE_FLOAT_CONVERSION_H_
#define ATTENDANT_ENGINE_BASE_FLOAT_CONVERSION_H_

#include <bit>
#include <cstdint>

namespace attendant::engine {

// bfloat16 -> float, exact.
inline float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// float -> bfloat16, to nearest, ties to even; a NaN stays a NaN.
inline uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// IEEE binary16 -> float, exact, subnormals included.
float Float16ToFloat(uint16_t bits);

// float -> IEEE binary16, to nearest, ties to even; too large becomes infinity, a NaN stays a NaN.
uint16_t FloatToFloat16(float value);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_FLOAT_CONVERSION_H_
