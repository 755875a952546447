#include "engine/kernels/self_test.h"

#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

TEST(SelfTestTest, PassesHere) {
  EXPECT_OK(RunKernelSelfTest(TestContext(), DataType::kFloat32));
  EXPECT_OK(RunKernelSelfTest(TestContext(), DataType::kBFloat16));
  EXPECT_OK(RunKernelSelfTest(TestContext(), DataType::kInt8));
  EXPECT_OK(RunKernelSelfTest(TestContext(), DataType::kInt4));
}

}  // namespace
}  // namespace attendant::engine
