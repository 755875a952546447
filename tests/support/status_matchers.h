#ifndef ATTENDANT_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define ATTENDANT_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::testing {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// Matches an absl::Status, or an absl::StatusOr, that is OK.
MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).ok();
}

// EXPECT_THAT(Parse(text), StatusIs(absl::StatusCode::kInvalidArgument,
// HasSubstr("max_new_tokens")));
MATCHER_P(StatusIs, code, "has the code " + absl::StatusCodeToString(code)) {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).code() == code;
}
MATCHER_P2(StatusIs, code, message,
           "has the code " + absl::StatusCodeToString(code) + " and a message that matches") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).code() == code &&
         ::testing::ExplainMatchResult(message, std::string(StatusOf(arg).message()),
                                       result_listener);
}

}  // namespace attendant::testing

#define ASSERT_OK(expr) ASSERT_THAT((expr), ::attendant::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::attendant::testing::IsOk())

#define ATTENDANT_TEST_CONCAT_INNER_(a, b) a##b
#define ATTENDANT_TEST_CONCAT_(a, b) ATTENDANT_TEST_CONCAT_INNER_(a, b)
#define ATTENDANT_ASSERT_OK_AND_ASSIGN_(result, lhs, expr) \
  auto result = (expr);                                    \
  ASSERT_TRUE(result.ok()) << result.status();             \
  lhs = *std::move(result)

// Declares `lhs` and gives it the value of `expr`, an absl::StatusOr; ends the test if there is
// none.
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ATTENDANT_ASSERT_OK_AND_ASSIGN_(ATTENDANT_TEST_CONCAT_(result_, __LINE__), lhs, expr)

#endif  // ATTENDANT_TESTS_SUPPORT_STATUS_MATCHERS_H_
