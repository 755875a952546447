#include "engine/scheduler/prefill_budget.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

TEST(PrefillBudgetTest, BeginsWithTheLeast) {
  EXPECT_EQ(PrefillBudget(absl::Milliseconds(100), 32, 2048).Tokens(), 32);
  EXPECT_EQ(PrefillBudget(absl::Milliseconds(100), 32, 8).Tokens(), 8);
}

TEST(PrefillBudgetTest, FillsTheTimeThatTheDecodesLeave) {
  PrefillBudget budget(absl::Milliseconds(100), 32, 2048);
  for (int i = 0; i < 50; ++i) {
    budget.Observe(absl::Milliseconds(20), 0, 8);
    budget.Observe(absl::Milliseconds(20) + 128 * absl::Microseconds(400), 128, 8);
  }
  EXPECT_NEAR(budget.Tokens(), 80.0 / 0.4, 2);
}

TEST(PrefillBudgetTest, FollowsAMachineThatSlowsDown) {
  PrefillBudget budget(absl::Milliseconds(100), 32, 2048);
  budget.Observe(absl::Milliseconds(10), 1000, 0);
  EXPECT_EQ(budget.Tokens(), 2048);
  for (int i = 0; i < 50; ++i) budget.Observe(absl::Milliseconds(500), 1000, 0);
  EXPECT_NEAR(budget.Tokens(), 200, 5);
  for (int i = 0; i < 50; ++i) budget.Observe(absl::Seconds(9), 1000, 0);
  EXPECT_EQ(budget.Tokens(), 32) << "prompts advance however slow it is";
}

// A step that was faster than decodes usually are says little, and must not make prompts seem free.
TEST(PrefillBudgetTest, NoiseDoesNotMakeTokensFree) {
  PrefillBudget budget(absl::Milliseconds(100), 32, 100000);
  for (int i = 0; i < 50; ++i) budget.Observe(absl::Milliseconds(50), 0, 8);
  for (int i = 0; i < 50; ++i) budget.Observe(absl::Milliseconds(40), 100, 8);
  EXPECT_LE(budget.Tokens(), 50.0 / (0.1 * 40 / 100) + 1);
}

}  // namespace
}  // namespace attendant::engine
