#include "client/cli/sentences.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attendant::client {
namespace {

using ::testing::ElementsAreArray;

TEST(SentencesTest, EndWhereReadersSayTheyEnd) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"", {}},
      {" \t ", {}},
      {"No mark at the end", {"No mark at the end"}},
      {"  One. Two!  Three?  ", {"One.", "Two!", "Three?"}},
      {"He said \"Stop!\" Then he left.", {"He said \"Stop!\"", "Then he left."}},
      {"(It rained.) We stayed.", {"(It rained.)", "We stayed."}},
      {"Well... maybe. Really?! Yes", {"Well... maybe.", "Really?!", "Yes"}},
      {"Wait… What?", {"Wait…", "What?"}},
      // Stops that end nothing.
      {"Dr. Smith met Mrs. Jones.", {"Dr. Smith met Mrs. Jones."}},
      {"J. R. R. Tolkien wrote it. I read it.", {"J. R. R. Tolkien wrote it.", "I read it."}},
      {"So do I. You too.", {"So do I.", "You too."}},
      {"Tools, e.g. Hammers. And z.B. Zangen.", {"Tools, e.g. Hammers.", "And z.B. Zangen."}},
      {"In the U.S. Senate it passed.", {"In the U.S. Senate it passed."}},
      {"Am 3. Oktober 1990. Danach nichts.", {"Am 3. Oktober 1990.", "Danach nichts."}},
      {"1. Introduction", {"1. Introduction"}},
      {"It costs 3.50 at example.com. Buy!", {"It costs 3.50 at example.com.", "Buy!"}},
      {"She paused. and went on.", {"She paused. and went on."}},
      {"see Fig. 3 and No. 7. Next.", {"see Fig. 3 and No. 7. Next."}},
      // Other scripts.
      {"你好。你好吗？很好！", {"你好。", "你好吗？", "很好！"}},
      {"「はい。」と言った。次。", {"「はい。」", "と言った。", "次。"}},
      {"यह है। वह है।", {"यह है।", "वह है।"}},
      {"كيف حالك؟ بخير.", {"كيف حالك؟", "بخير."}},
      {"¿Qué? ¡Nada!", {"¿Qué?", "¡Nada!"}},
      {"« Oui. » Il part.", {"« Oui. » Il part."}},
      // Not UTF-8: bytes are kept.
      {"a\xff. B", {"a\xff.", "B"}},
  };
  for (const auto& [line, sentences] : cases) {
    std::vector<std::string> actual;
    for (const absl::string_view sentence : SplitSentences(line)) actual.emplace_back(sentence);
    EXPECT_THAT(actual, ElementsAreArray(sentences)) << line;
  }
}

TEST(SentencesTest, KnowFullWidthMarks) {
  EXPECT_TRUE(EndsInFullWidthMark("好。"));
  EXPECT_TRUE(EndsInFullWidthMark("「好！」"));
  EXPECT_FALSE(EndsInFullWidthMark("Good."));
  EXPECT_FALSE(EndsInFullWidthMark("」"));
  EXPECT_FALSE(EndsInFullWidthMark(""));
}

}  // namespace
}  // namespace attendant::client
