#include "engine/stop_matcher.h"

#include <algorithm>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

using ::testing::Optional;

TEST(StopMatcherTest, WithoutStopStringsNothingIsHeldBack) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("text").text, "text");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, HoldsBackWhatMayBeginAStopString) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.Push("one S").text, "one ");
  EXPECT_EQ(matcher.Push("T").text, "");
  EXPECT_EQ(matcher.Push("ART").text, "START");
  EXPECT_EQ(matcher.Push(" STO").text, " ");
  EXPECT_EQ(matcher.Flush(), "STO");
}

TEST(StopMatcherTest, AStopStringAcrossPiecesIsCutOff) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.Push("one ST").text, "one ");
  const auto result = matcher.Push("OP two");
  EXPECT_EQ(result.text, "");
  EXPECT_THAT(result.stop, Optional(std::string("STOP")));
}

TEST(StopMatcherTest, AFalseBeginningMayHideATrueOne) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.Push("aa").text, "");
  EXPECT_EQ(matcher.Push("a").text, "a");
  const auto result = matcher.Push("b");
  EXPECT_EQ(result.text, "");
  EXPECT_THAT(result.stop, Optional(std::string("aab")));
}

TEST(StopMatcherTest, TheFirstToBeCompleteWinsAndThenTheLongest) {
  EXPECT_THAT(StopMatcher({"abcd", "bc"}).Push("xabcd").stop, Optional(std::string("bc")));
  EXPECT_EQ(StopMatcher({"abcd", "bc"}).Push("xabcd").text, "xa");
  EXPECT_THAT(StopMatcher({"bc", "abc"}).Push("xabcd").stop, Optional(std::string("abc")));
}

// However the text is cut, the result is that of the whole text, found by hand.
TEST(StopMatcherTest, TheCutsOfTheTextDoNotMatter) {
  std::mt19937 random(7);
  const auto random_text = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  int num_stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(30);
    std::vector<std::string> stops;
    for (int i = 0; i < 3; ++i) stops.push_back(random_text(3 + random() % 5));

    std::string expected = text;
    for (size_t end = 1; end <= text.size(); ++end) {
      size_t longest = 0;
      for (const std::string& stop : stops) {
        if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
      }
      if (longest == 0) continue;
      expected = text.substr(0, end - longest);
      break;
    }

    StopMatcher matcher(stops);
    std::string given;
    bool stopped = false;
    for (size_t begin = 0; begin < text.size() && !stopped;) {
      const size_t length = 1 + random() % 6;
      const auto result = matcher.Push(text.substr(begin, length));
      begin += length;
      given += result.text;
      stopped = result.stop.has_value();
    }
    if (!stopped) given += matcher.Flush();
    num_stopped += stopped;
    ASSERT_EQ(given, expected) << text << " " << stops[0] << " " << stops[1] << " " << stops[2];
  }
  EXPECT_GT(num_stopped, 500);
}

}  // namespace
}  // namespace attendant::engine
