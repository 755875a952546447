#include "engine/truncation.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kBos = FakeTokenizer::kBos;
constexpr int32_t kEos = FakeTokenizer::kEos;

Encoding EncodeText(absl::string_view text) {
  return *FakeTokenizer({}, true).Encode(text, /*add_special_tokens=*/true);
}
Encoding EncodePair(absl::string_view text, absl::string_view pair) {
  return *FakeTokenizer({}, true).EncodePair(text, pair, /*add_special_tokens=*/true);
}

TEST(TruncateTest, WhatFitsIsLeftAlone) {
  Encoding encoding = EncodeText("abc");
  EXPECT_OK(Truncate({}, 5, "the model takes", encoding));
  EXPECT_EQ(encoding.num_tokens(), 5);
}

TEST(TruncateTest, TooLongAnInputNamesBothLengths) {
  Encoding encoding = EncodeText("abcd");
  EXPECT_THAT(Truncate({}, 5, "the model takes", encoding),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("6 tokens"), HasSubstr("the model takes 5"))));
  Truncation truncation{.max_tokens = 3};
  EXPECT_THAT(
      Truncate(truncation, 5, "the model takes", encoding),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("truncation.max_tokens is 3")));
}

TEST(TruncateTest, CutsOneSideAndKeepsTheSpecialTokens) {
  Encoding right = EncodeText("abcdef");
  ASSERT_OK(Truncate({.side = TruncationSide::kRight}, 5, "", right));
  EXPECT_THAT(right.ids, ElementsAre(kBos, 'a', 'b', 'c', kEos));
  EXPECT_EQ(right.offsets[3].begin, 2);
  EXPECT_EQ(right.special_tokens_mask, (std::vector<bool>{true, false, false, false, true}));
  Encoding left = EncodeText("abcdef");
  ASSERT_OK(Truncate({.side = TruncationSide::kLeft, .max_tokens = 4}, 5, "", left));
  EXPECT_THAT(left.ids, ElementsAre(kBos, 'e', 'f', kEos));
}

TEST(TruncateTest, TheSpecialTokensMustFit) {
  Encoding encoding = EncodeText("abc");
  EXPECT_THAT(
      Truncate({.side = TruncationSide::kRight, .max_tokens = 1}, 5, "", encoding),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("special tokens alone are 2")));
  ASSERT_OK(Truncate({.side = TruncationSide::kRight, .max_tokens = 2}, 5, "", encoding));
  EXPECT_THAT(encoding.ids, ElementsAre(kBos, kEos));
}

// The lengths that the tokenizers library leaves, longest first.
TEST(TruncateTest, OfAPairTheLongerIsCutFirst) {
  const struct {
    int first, second, limit, kept_first, kept_second;
  } kCases[] = {{2, 9, 9, 2, 4},  {9, 2, 9, 4, 2}, {9, 9, 10, 3, 4},
                {9, 8, 10, 4, 3}, {9, 9, 9, 3, 3}, {1, 1, 4, 0, 1}};
  for (const auto& c : kCases) {
    Encoding encoding = EncodePair(std::string(c.first, 'a'), std::string(c.second, 'b'));
    ASSERT_OK(Truncate({.side = TruncationSide::kRight}, c.limit, "", encoding));
    EXPECT_EQ(std::count(encoding.ids.begin(), encoding.ids.end(), 'a'), c.kept_first) << c.first;
    EXPECT_EQ(std::count(encoding.ids.begin(), encoding.ids.end(), 'b'), c.kept_second) << c.first;
    EXPECT_EQ(encoding.type_ids.size(), encoding.ids.size());
    EXPECT_EQ(encoding.num_tokens(), c.limit);
  }
}

}  // namespace
}  // namespace attendant::engine
