#include "engine/kernels/self_test.h"

#include <limits>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

class SelfTestTest : public ::testing::TestWithParam<DataType> {
 protected:
  std::set<std::string> Kernels() {
    std::set<std::string> kernels;
    EXPECT_OK(RunKernelSelfTest(
        TestContext(), GetParam(),
        [&](const std::string& kernel, absl::Span<float>) { kernels.insert(kernel); }));
    return kernels;
  }
};

INSTANTIATE_TEST_SUITE_P(DataTypes, SelfTestTest,
                         ::testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kInt8,
                                           DataType::kInt4),
                         [](const auto& info) { return std::string(DataTypeName(info.param)); });

TEST_P(SelfTestTest, PassesHere) { EXPECT_OK(RunKernelSelfTest(TestContext(), GetParam())); }

TEST_P(SelfTestTest, HasTheKernelsOfItsType) {
  const std::set<std::string> kernels = Kernels();
  EXPECT_THAT(kernels, Contains(StartsWith("linear (")));
  EXPECT_THAT(kernels, Contains("embedding"));
  if (GetParam() == DataType::kFloat32 || GetParam() == DataType::kBFloat16) {
    EXPECT_THAT(kernels, IsSupersetOf({"attention", "cached attention"}));
  }
  if (GetParam() == DataType::kFloat32) {
    EXPECT_THAT(kernels, IsSupersetOf({"layer norm", "RMS norm", "rotary positions",
                                       "gated activation", "softmax"}));
  }
}

// Whichever kernel is wrong, and only in its last value.
TEST_P(SelfTestTest, FindsEveryKernelThatComputesWrongly) {
  for (const std::string& wrong : Kernels()) {
    for (const float value : {1e3f, std::numeric_limits<float>::quiet_NaN()}) {
      const absl::Status status = RunKernelSelfTest(
          TestContext(), GetParam(), [&](const std::string& kernel, absl::Span<float> result) {
            if (kernel == wrong) result.back() = value;
          });
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal,
                                   HasSubstr(absl::StrCat("self-test: ", wrong))));
    }
  }
}

}  // namespace
}  // namespace attendant::engine
