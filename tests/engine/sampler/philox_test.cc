#include "engine/sampler/philox.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

using ::testing::ElementsAre;

// The known answers that the paper's authors publish (Random123, kat_vectors: philox4x32 10).
TEST(PhiloxTest, GivesThePublishedAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      Philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(UniformAtTest, IsAFunctionOfSeedAndStep) {
  EXPECT_EQ(UniformAt(7, 3), UniformAt(7, 3));
  std::set<double> values;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t step = 0; step < 100; ++step) values.insert(UniformAt(seed, step));
  }
  EXPECT_EQ(values.size(), 10000);
  EXPECT_GE(*values.begin(), 0.0);
  EXPECT_LT(*values.rbegin(), 1.0);
  EXPECT_NE(UniformAt(uint64_t{1} << 32, 0), UniformAt(0, 0))
      << "the upper half of the seed counts";
}

// Chi squared over 64 equal bins of 64,000 draws has mean 63 and standard deviation 11.2; 120 is
// five of those away.
TEST(UniformAtTest, IsUniformAlongStepsAndAlongSeeds) {
  for (const bool along_seeds : {false, true}) {
    int counts[64] = {};
    for (uint64_t i = 0; i < 64000; ++i) {
      ++counts[static_cast<int>((along_seeds ? UniformAt(i, 0) : UniformAt(42, i)) * 64)];
    }
    double chi_squared = 0;
    for (const int count : counts) chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
    EXPECT_LT(chi_squared, 120) << "along seeds: " << along_seeds;
  }
}

}  // namespace
}  // namespace attendant::engine
