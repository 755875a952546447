#ifndef ATTENDANT_ENGINE_SAMPLER_PHILOX_H_
#define ATTENDANT_ENGINE_SAMPLER_PHILOX_H_

#include <array>
#include <cstdint>

namespace attendant::engine {

// Philox4x32-10: a random number generator without state, four words for each (key, counter).
// Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A number in [0, 1), in steps of 2^-53, for token number `step` of the sequence with `seed`: the
// same whatever else runs, and independent of every other step and seed.
double UniformAt(uint64_t seed, uint64_t step);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_SAMPLER_PHILOX_H_
