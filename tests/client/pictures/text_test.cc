#include "client/pictures/text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::client {
namespace {

using ::testing::ElementsAre;

TEST(TextTest, EscapesWhatSteersATerminal) {
  EXPECT_EQ(Printable("a\n\t\x1b[2J\x7f"), "a\\n\\t\\x1b[2J\\x7f");
  EXPECT_EQ(Printable("\u009b\u202e\u2066\u2028"), "\\u009b\\u202e\\u2066\\u2028");
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Printable("é 好 😀 שלום"), "é 好 😀 שלום");
}

TEST(TextTest, CountsColumnsOfTheScreen) {
  EXPECT_EQ(WidthOf("abc"), 3);
  EXPECT_EQ(WidthOf("好"), 2);
  EXPECT_EQ(WidthOf("e\u0301"), 1);
  EXPECT_EQ(Padded("好", 4), "好  ");
  EXPECT_EQ(Padded("好", 4, true), "  好");
  EXPECT_EQ(Padded("long", 2), "long");
}

TEST(TextTest, ShortensToColumns) {
  EXPECT_EQ(Shortened("abcdef", 6), "abcdef");
  EXPECT_EQ(Shortened("abcdef", 4), "abc…");
  EXPECT_EQ(Shortened("好好好", 4), "好…");
}

TEST(TextTest, KeepsMarksWithTheirCharacter) {
  EXPECT_THAT(SplitCharacters("ae\u0301好"), ElementsAre("a", "e\u0301", "好"));
}

TEST(TextTest, MakesJsonThatIsSafeInAPage) {
  EXPECT_EQ(JsonString("a\"\\</script>&\n\u2028\xff好"),
            "\"a\\\"\\\\\\u003c/script\\u003e\\u0026\\u000a\\u2028\\ufffd好\"");
}

TEST(TextTest, KnowsLetters) {
  EXPECT_TRUE(IsLetter("z") && IsLetter("Ж") && IsLetter("好"));
  EXPECT_FALSE(IsLetter("1") || IsLetter(".") || IsLetter("\xff"));
  EXPECT_TRUE(IsLowerCase("ж"));
  EXPECT_FALSE(IsLowerCase("Ж") || IsLowerCase("好"));
}

}  // namespace
}  // namespace attendant::client
