#include "client/cli/ordered_calls.h"

#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::client {
namespace {

TEST(OrderedCallsTest, GivesResultsInTheOrderOfTheInputs) {
  absl::Notification second_is_done;
  OrderedCalls calls(2, [&](const std::string& input) -> absl::StatusOr<std::string> {
    if (input == "first") second_is_done.WaitForNotification();
    if (input == "second") second_is_done.Notify();
    if (input == "third") return absl::InternalError("no");
    return absl::StrCat(input, " result");
  });
  for (const char* input : {"first", "second", "third"}) calls.Add(input);
  EXPECT_EQ(calls.size(), 3);
  EXPECT_EQ(*calls.Take(), "first result");
  EXPECT_EQ(*calls.Take(), "second result");
  EXPECT_EQ(calls.Take().status(), absl::InternalError("no"));
  EXPECT_EQ(calls.size(), 0);
  EXPECT_FALSE(calls.IsReady());
}

TEST(OrderedCallsTest, MakesNoMoreCallsAtOnceThanItHasThreads) {
  std::atomic<int> num_running = 0, most = 0;
  OrderedCalls calls(3, [&](const std::string& input) -> absl::StatusOr<std::string> {
    const int running = ++num_running;
    int seen = most;
    while (running > seen && !most.compare_exchange_weak(seen, running)) {
    }
    --num_running;
    return input;
  });
  for (int i = 0; i < 1000; ++i) calls.Add(absl::StrCat(i));
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(*calls.Take(), absl::StrCat(i));
  EXPECT_LE(most, 3);
  EXPECT_GE(most, 1);
}

}  // namespace
}  // namespace attendant::client
