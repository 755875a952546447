#include "server/admission/admission_controller.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/status/status_details.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using attendant::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::Time kNoDeadline = absl::InfiniteFuture();
const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);

class AdmissionControllerTest : public ::testing::Test {
 protected:
  AdmissionControllerTest() { admission_.SetState(AdmissionController::State::kServing); }

  AdmissionController admission_{{.requests = 3, .tokens = 100, .bytes = 1000}};
};

TEST_F(AdmissionControllerTest, ReservesAndGivesBackWithTheTicket) {
  {
    ASSERT_OK_AND_ASSIGN(auto ticket, admission_.Admit(40, 500, kNoDeadline, kNow));
    EXPECT_EQ(admission_.in_flight().requests, 1);
    EXPECT_EQ(admission_.in_flight().tokens, 40);
    EXPECT_EQ(admission_.in_flight().bytes, 500);
    const AdmissionController::Ticket moved = std::move(ticket);
    EXPECT_EQ(admission_.in_flight().requests, 1);
  }
  EXPECT_EQ(admission_.in_flight().requests, 0);
  EXPECT_EQ(admission_.in_flight().tokens, 0);
  EXPECT_EQ(admission_.in_flight().bytes, 0);
}

TEST_F(AdmissionControllerTest, RefusesWhatDoesNotFitNowAndSaysWhenToRetry) {
  ASSERT_OK_AND_ASSIGN(const auto a, admission_.Admit(90, 10, kNoDeadline, kNow));
  const auto tokens_full = admission_.Admit(20, 10, kNoDeadline, kNow);
  EXPECT_THAT(
      tokens_full,
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("90 tokens are in flight and the limit is 100 (--max_queued_tokens)")));
  EXPECT_EQ(ErrorReason(tokens_full.status()), reason::kTokensFull);
  EXPECT_EQ(RetryDelay(tokens_full.status()), absl::Seconds(1));  // nothing was measured yet

  ASSERT_OK_AND_ASSIGN(const auto b, admission_.Admit(0, 900, kNoDeadline, kNow));
  const auto bytes_full = admission_.Admit(0, 200, kNoDeadline, kNow);
  EXPECT_THAT(bytes_full,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("--memory_quota_bytes")));

  ASSERT_OK_AND_ASSIGN(const auto c, admission_.Admit(0, 0, kNoDeadline, kNow));
  const auto requests_full = admission_.Admit(0, 0, kNoDeadline, kNow);
  EXPECT_THAT(requests_full,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("--max_requests")));
  EXPECT_EQ(admission_.in_flight().requests, 3);
}

TEST_F(AdmissionControllerTest, WhatCouldNeverFitIsTheCallersFault) {
  const auto tokens = admission_.Admit(101, 0, kNoDeadline, kNow);
  EXPECT_THAT(tokens, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("101")));
  EXPECT_EQ(ErrorReason(tokens.status()), reason::kTooLarge);
  EXPECT_THAT(admission_.Admit(0, 1001, kNoDeadline, kNow),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--memory_quota_bytes")));
}

TEST_F(AdmissionControllerTest, RetryDelayFollowsTheDrainRate) {
  // 10 tokens were given back in each of the last ten seconds.
  AdmissionController admission({.requests = 1000, .tokens = 100, .bytes = 1000});
  admission.SetState(AdmissionController::State::kServing);
  const absl::Time start = absl::Now() - absl::Seconds(10);
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(auto ticket, admission.Admit(1, 0, kNoDeadline, start));
  }
  ASSERT_OK_AND_ASSIGN(const auto held, admission.Admit(100, 0, kNoDeadline, absl::Now()));
  const auto refused = admission.Admit(50, 0, kNoDeadline, absl::Now());
  const auto delay = RetryDelay(refused.status());
  ASSERT_TRUE(delay.has_value());
  // The hundred were given back just now, within the time that a rate is taken over at least: fast.
  EXPECT_LE(*delay, absl::Milliseconds(100));
  EXPECT_GE(*delay, absl::Milliseconds(50));
  const auto later = admission.Admit(50, 0, kNoDeadline, absl::Now() + absl::Seconds(30));
  EXPECT_GT(*RetryDelay(later.status()), *delay) << "an idle half minute lowers the rate";
  EXPECT_LE(*RetryDelay(later.status()), absl::Seconds(30));
}

TEST_F(AdmissionControllerTest, OnlyServesWhileServing) {
  admission_.SetState(AdmissionController::State::kLoading);
  EXPECT_THAT(admission_.Admit(1, 1, kNoDeadline, kNow),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("loading")));
  admission_.SetState(AdmissionController::State::kDraining);
  const auto draining = admission_.Admit(1, 1, kNoDeadline, kNow);
  EXPECT_THAT(draining, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("shutting down")));
  EXPECT_EQ(ErrorReason(draining.status()), reason::kDraining);
  EXPECT_TRUE(RetryDelay(draining.status()).has_value());
}

TEST_F(AdmissionControllerTest, RefusesADeadlineThatIsPast) {
  EXPECT_THAT(admission_.Admit(1, 1, kNow, kNow), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(admission_.Admit(1, 1, kNow + absl::Seconds(1), kNow), attendant::testing::IsOk());
}

TEST_F(AdmissionControllerTest, ManyThreadsNeverExceedTheLimit) {
  std::atomic<int> running = 0, most = 0, accepted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        auto ticket = admission_.Admit(30, 1, kNoDeadline, kNow);
        if (!ticket.ok()) continue;
        ++accepted;
        const int now_running = ++running;
        int seen = most;
        while (now_running > seen && !most.compare_exchange_weak(seen, now_running)) {
        }
        --running;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(accepted, 0);
  EXPECT_LE(most, 3);
  EXPECT_EQ(admission_.in_flight().tokens, 0);
}

}  // namespace
}  // namespace attendant::server
