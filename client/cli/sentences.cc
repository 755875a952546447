#include "client/cli/sentences.h"

#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "client/pictures/text.h"

namespace attendant::client {
namespace {

constexpr absl::string_view kFullWidthMarks[] = {"。", "！", "？", "｡"};
constexpr absl::string_view kMarks[] = {".", "!", "?", "…", "‥", "؟", "۔", "।", "॥", "։", "።",
                                        "՞", "၊", "။", "។", "៕", "᙮", "‼", "⁇", "⁈", "⁉"};
constexpr absl::string_view kClosing[] = {"\"", "'",  ")",  "]",  "}",  "”",  "’", "»",
                                          "›",  "」", "』", "）", "】", "〉", "》"};

// Those that never open a quotation.
constexpr absl::string_view kSurelyClosing[] = {")",  "]",  "}",  "»",  "›", "」",
                                                "』", "）", "】", "〉", "》"};

// Abbreviations that a name or a number follows, in lower case.
constexpr absl::string_view kAbbreviations[] = {
    "mr",  "mrs", "ms",  "dr",  "prof",   "st",  "sr",   "jr",  "rev", "hon", "gen", "col",  "capt",
    "lt",  "sgt", "gov", "sen", "rep",    "no",  "nos",  "nr",  "vol", "fig", "eq",  "sec",  "ch",
    "pp",  "vs",  "cf",  "ca",  "approx", "hr",  "fr",   "frl", "str", "bzw", "ggf", "evtl", "vgl",
    "abs", "art", "bd",  "mme", "mlle",   "mgr", "dott", "sig", "sra", "av",  "núm", "tel"};

bool IsSpace(absl::string_view character) {
  return (character.size() == 1 && absl::ascii_isspace(character[0])) || character == "\u00a0" ||
         character == "\u3000" || character == "\u2028" || character == "\u2029";
}

// The last word of `text`, which a full stop follows.
absl::string_view LastWord(absl::string_view text) {
  size_t begin = text.size();
  while (begin > 0 && !absl::ascii_isspace(text[begin - 1]) &&
         absl::string_view("([{\"'").find(text[begin - 1]) == absl::string_view::npos) {
    --begin;
  }
  return text.substr(begin);
}

// Whether the full stop behind `text` belongs to its last word.
bool IsAbbreviated(absl::string_view text) {
  const absl::string_view word = LastWord(text);
  if (word.empty()) return false;
  const bool is_number = absl::c_all_of(word, [](char c) { return absl::ascii_isdigit(c); });
  if (is_number) return word.size() <= 2;
  const size_t stop = word.rfind('.');
  const absl::string_view last = stop == absl::string_view::npos ? word : word.substr(stop + 1);
  // An initial, or "e.g", "z.B", "U.S": one letter behind a stop or by itself; but "so do I."
  if (FirstCharacter(last).size() == last.size() && IsLetter(last)) return word != "I";
  return absl::c_linear_search(kAbbreviations, absl::AsciiStrToLower(word));
}

}  // namespace

bool EndsInFullWidthMark(absl::string_view text) {
  while (true) {
    bool is_closed = false;
    for (const absl::string_view closing : kClosing) {
      if (closing.size() > 1 && absl::ConsumeSuffix(&text, closing)) is_closed = true;
    }
    if (!is_closed) break;
  }
  return absl::c_any_of(kFullWidthMarks,
                        [text](absl::string_view mark) { return absl::EndsWith(text, mark); });
}

std::vector<absl::string_view> SplitSentences(absl::string_view line) {
  std::vector<absl::string_view> characters;
  for (absl::string_view rest = line; !rest.empty();) {
    characters.push_back(FirstCharacter(rest));
    rest.remove_prefix(characters.back().size());
  }
  const size_t count = characters.size();
  const auto is_one_of = [&](const auto& set, size_t i) {
    return i < count && absl::c_linear_search(set, characters[i]);
  };
  const auto is_space = [&](size_t i) { return i < count && IsSpace(characters[i]); };
  const auto position = [&](size_t i) {
    return i < count ? characters[i].data() - line.data() : line.size();
  };

  std::vector<absl::string_view> sentences;
  size_t begin = 0;
  while (is_space(begin)) ++begin;
  for (size_t i = begin; i < count;) {
    const bool is_full_width = is_one_of(kFullWidthMarks, i);
    if (!is_full_width && !is_one_of(kMarks, i)) {
      ++i;
      continue;
    }
    const bool is_stop = characters[i] == "." && !is_one_of(kMarks, i + 1);
    const absl::string_view before = line.substr(position(begin), position(i) - position(begin));
    ++i;
    bool ends_at_once = is_full_width;
    for (; is_one_of(kMarks, i) || is_one_of(kFullWidthMarks, i) || is_one_of(kClosing, i); ++i) {
      if (is_one_of(kFullWidthMarks, i)) ends_at_once = true;
    }
    size_t next = i;
    while (is_space(next)) ++next;
    if (next == count) break;
    if (!ends_at_once && (next == i || IsLowerCase(characters[next]) ||
                          is_one_of(kSurelyClosing, next) || (is_stop && IsAbbreviated(before)))) {
      continue;
    }
    sentences.push_back(line.substr(position(begin), position(i) - position(begin)));
    begin = i = next;
  }
  size_t end = count;
  while (end > begin && is_space(end - 1)) --end;
  if (end > begin)
    sentences.push_back(line.substr(position(begin), position(end) - position(begin)));
  return sentences;
}

}  // namespace attendant::client
