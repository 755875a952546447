#include "client/pictures/html_page.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

AttentionPicture Small() {
  AttentionPicture picture;
  picture.title = "model";
  picture.subtitle = "attention";
  picture.queries = {"x"};
  picture.keys = {"a", "b"};
  picture.layers = {"layer 0"};
  picture.heads = {"head 0"};
  picture.weights = {0.5, 0.25};
  return picture;
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++count;
  return count;
}

TEST(HtmlPageTest, CarriesTheMaps) {
  ASSERT_OK_AND_ASSIGN(const std::string page, HtmlPage(Small()));
  EXPECT_THAT(page, HasSubstr("\"keys\":[\"a\",\"b\"]"));
  EXPECT_THAT(page, HasSubstr("\"largest\":0.5"));
  // 65535 and half of it, little-endian.
  const std::string bytes("\xff\xff\x00\x80", 4);
  EXPECT_THAT(page,
              HasSubstr(absl::StrCat("id=\"weights\">", absl::Base64Escape(bytes), "</script>")));
}

TEST(HtmlPageTest, IsTheSamePageWhateverTheTokensSpell) {
  ASSERT_OK_AND_ASSIGN(const std::string harmless, HtmlPage(Small()));
  AttentionPicture picture = Small();
  const std::string hostile = "</script><script>alert(1)</script><!-- <img src=x onerror=a> @DATA@";
  picture.title = picture.subtitle = picture.queries[0] = picture.keys[1] = picture.layers[0] =
      picture.heads[0] = hostile;
  ASSERT_OK_AND_ASSIGN(const std::string page, HtmlPage(picture));
  for (const std::string part : {"<script", "</script", "<!--", "<img", "<title>"})
    EXPECT_EQ(Count(page, part), Count(harmless, part)) << part;
  EXPECT_EQ(Count(page, "\"keys\":["), 1);
  EXPECT_THAT(page, HasSubstr("\\u003c/script\\u003e"));
}

TEST(HtmlPageTest, NamesNothingElsewhere) {
  ASSERT_OK_AND_ASSIGN(const std::string page, HtmlPage(Small()));
  for (const std::string part : {"http://", "https://", "src=", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(part)));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST(HtmlPageTest, EmbedsTheImage) {
  AttentionPicture picture = Small();
  picture.patches = {.image = "\x89PNG...", .rows = 1, .columns = 2, .num_prefix_tokens = 0};
  EXPECT_THAT(*HtmlPage(picture), HasSubstr("\"image\":\"data:image/png;base64,"));
  picture.patches->image = "\xff\xd8...";
  EXPECT_THAT(*HtmlPage(picture), HasSubstr("\"image\":\"data:image/jpeg;base64,"));
}

TEST(HtmlPageTest, RefusesToBeTooLarge) {
  AttentionPicture picture = Small();
  picture.layers.resize(12);
  picture.heads.resize(12);
  picture.queries.resize(512);
  picture.keys.resize(512);
  picture.weights.resize(12 * 12 * 512 * 512);
  EXPECT_THAT(HtmlPage(picture),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("144 maps of 512 × 512 would have 96 MiB, and at most 64 MiB are "
                                 "drawn: --layers")));
}

}  // namespace
}  // namespace attendant::client
