#include "engine/tokenizer/pre_tokenizers.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// A part of a text: a delimiter, or what lies between two of them.
struct Part {
  ByteRange range;
  bool is_match;
};

// Covers `size` bytes with `matches` and what lies between them.
void Cover(const std::vector<ByteRange>& matches, size_t size, std::vector<Part>& parts) {
  uint32_t position = 0;
  for (const ByteRange& match : matches) {
    if (position != match.begin) parts.push_back({{position, match.begin}, false});
    parts.push_back({match, true});
    position = match.end;
  }
  if (position != size) parts.push_back({{position, static_cast<uint32_t>(size)}, false});
}

// Where delimiters go: "the-final--countdown" at "-" becomes
enum class SplitBehavior {
  kRemoved,             // the final countdown
  kIsolated,            // the - final - - countdown
  kMergedWithPrevious,  // the- final- - countdown
  kMergedWithNext,      // the -final - -countdown
  kContiguous,          // the - final -- countdown
};

struct SplitBehaviorName {
  absl::string_view name;
  SplitBehavior behavior;
};
constexpr SplitBehaviorName kSplitBehaviors[] = {
    {"Removed", SplitBehavior::kRemoved},
    {"Isolated", SplitBehavior::kIsolated},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
};

absl::StatusOr<SplitBehavior> ParseSplitBehavior(const JsonValue& json) {
  ASSIGN_OR_RETURN(const absl::string_view name, json.String());
  for (const SplitBehaviorName& row : kSplitBehaviors) {
    if (row.name == name) return row.behavior;
  }
  return json.Error(absl::StrCat("\"", name, "\" is not a behavior"));
}

// Adds the pieces that `parts`, which are relative to `base`, make.
void AddParts(std::vector<Part>& parts, SplitBehavior behavior, uint32_t base,
              PreTokenizedString& string) {
  // The merging behaviors join a delimiter with the part next to it, unless that is a delimiter
  // too.
  size_t count = parts.size();
  switch (behavior) {
    case SplitBehavior::kRemoved:
      count = static_cast<size_t>(std::remove_if(parts.begin(), parts.end(),
                                                 [](const Part& part) { return part.is_match; }) -
                                  parts.begin());
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious: {
      count = 0;
      bool previous = false;
      for (const Part& part : parts) {
        const bool join = behavior == SplitBehavior::kContiguous ? part.is_match == previous
                                                                 : part.is_match && !previous;
        previous = part.is_match;
        if (join && count > 0) {
          parts[count - 1].range.end = part.range.end;
        } else {
          parts[count++] = part;
        }
      }
      break;
    }
    case SplitBehavior::kMergedWithNext: {
      size_t first = parts.size();
      bool next = false;
      for (size_t i = parts.size(); i-- > 0;) {
        const Part part = parts[i];
        if (part.is_match && !next && first < parts.size()) {
          parts[first].range.begin = part.range.begin;
        } else {
          parts[--first] = part;
        }
        next = part.is_match;
      }
      parts.erase(parts.begin(), parts.begin() + static_cast<int64_t>(first));
      count = parts.size();
      break;
    }
  }
  for (size_t i = 0; i < count; ++i)
    string.AddPart({base + parts[i].range.begin, base + parts[i].range.end});
}

// Splits every piece at the characters for which `is_delimiter` holds.
template <typename Predicate>
absl::Status SplitAtChars(PreTokenizedString& string, SplitBehavior behavior,
                          Predicate is_delimiter) {
  std::vector<Part> parts;
  return string.Split([&](absl::string_view text, uint32_t base) {
    parts.clear();
    uint32_t start = 0;
    for (size_t position = 0; position < text.size();) {
      const auto at = static_cast<uint32_t>(position);
      if (!is_delimiter(unicode::Next(text, position))) continue;
      if (start < at) parts.push_back({{start, at}, false});
      start = static_cast<uint32_t>(position);
      parts.push_back({{at, start}, true});
    }
    if (start < text.size()) parts.push_back({{start, static_cast<uint32_t>(text.size())}, false});
    AddParts(parts, behavior, base, string);
    return absl::OkStatus();
  });
}

// Splits every piece at what `find(text, matches)` finds.
template <typename Find>
absl::Status SplitAtMatches(PreTokenizedString& string, SplitBehavior behavior, bool invert,
                            Find find) {
  std::vector<ByteRange> matches;
  std::vector<Part> parts;
  return string.Split([&](absl::string_view text, uint32_t base) -> absl::Status {
    matches.clear();
    parts.clear();
    RETURN_IF_ERROR(find(text, matches));
    Cover(matches, text.size(), parts);
    if (invert) {
      for (Part& part : parts) part.is_match = !part.is_match;
    }
    AddParts(parts, behavior, base, string);
    return absl::OkStatus();
  });
}

class BertPreTokenizer : public PreTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue&) {
    return std::make_unique<BertPreTokenizer>();
  }
  absl::Status PreTokenize(PreTokenizedString& string) const override {
    RETURN_IF_ERROR(SplitAtChars(string, SplitBehavior::kRemoved, unicode::IsWhitespace));
    return SplitAtChars(string, SplitBehavior::kIsolated, unicode::IsPunctuation);
  }
};

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space"));
    ASSIGN_OR_RETURN(const bool use_regex, json.Bool("use_regex", /*fallback=*/true));
    return std::make_unique<ByteLevelPreTokenizer>(add_prefix_space, use_regex);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    if (add_prefix_space_ &&
        std::any_of(string.pieces.begin(), string.pieces.end(), [&](const auto& piece) {
          return piece.token_id < 0 && !absl::StartsWith(string.TextOf(piece), " ");
        })) {
      RETURN_IF_ERROR(string.Rewrite([](NormalizedString& piece) {
        if (!absl::StartsWith(piece.text, " ")) piece.Prepend(" ");
        return absl::OkStatus();
      }));
    }
    if (use_regex_) {
      RETURN_IF_ERROR(SplitAtMatches(string, SplitBehavior::kIsolated, /*invert=*/false,
                                     [&](absl::string_view text, std::vector<ByteRange>& matches) {
                                       return Words().FindAll(text, string.deadline, matches);
                                     }));
    }
    return WritePieces(string);
  }

 private:
  // GPT-2's words.
  static const Regex& Words() {
    static const Regex* const words = [] {
      auto regex = Regex::Create(
          R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
      CHECK_OK(regex.status());
      return regex->release();
    }();
    return *words;
  }

  // WriteBytesAsChars of every piece, all at once.
  static absl::Status WritePieces(PreTokenizedString& string) {
    const bool plain =
        std::all_of(string.pieces.begin(), string.pieces.end(), [&](const auto& piece) {
          const TextRange& first = string.origins[piece.range.begin];
          return piece.token_id >= 0 ||
                 (first.begin != first.end && piece.original.begin != piece.original.end);
        });
    if (!plain) return string.Rewrite(WriteBytesAsChars);

    std::string text;
    std::vector<TextRange> origins;
    text.reserve(string.text.size() * 5 / 4);
    origins.reserve(string.text.size() * 5 / 4);
    for (PreTokenizedString::Piece& piece : string.pieces) {
      const auto begin = static_cast<uint32_t>(text.size());
      for (uint32_t i = piece.range.begin; i < piece.range.end; ++i) {
        const char byte = string.text[i];
        if (piece.token_id >= 0) {
          text.push_back(byte);
          origins.push_back(string.origins[i]);
          continue;
        }
        // Of a character of several bytes the first one stands for it, and the others are inserted
        // behind it.
        TextRange origin = string.origins[i];
        if (unicode::IsContinuation(byte)) {
          uint32_t last = i;
          while (last + 1 < piece.range.end && unicode::IsContinuation(string.text[last + 1]))
            ++last;
          origin = string.origins[last];
        }
        const size_t before = text.size();
        unicode::Append(ByteToChar(static_cast<uint8_t>(byte)), text);
        origins.insert(origins.end(), text.size() - before, origin);
      }
      piece.range = {begin, static_cast<uint32_t>(text.size())};
    }
    if (text.size() > string.max_bytes) return TextTooLong(string.max_bytes);
    string.text = std::move(text);
    string.origins = std::move(origins);
    return absl::OkStatus();
  }

  const bool add_prefix_space_;
  const bool use_regex_;
};

class CharDelimiterSplitPreTokenizer : public PreTokenizer {
 public:
  explicit CharDelimiterSplitPreTokenizer(char32_t delimiter) : delimiter_(delimiter) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue value, json.Get("delimiter"));
    ASSIGN_OR_RETURN(const char32_t delimiter, SingleCharacter(value));
    return std::make_unique<CharDelimiterSplitPreTokenizer>(delimiter);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return SplitAtChars(string, SplitBehavior::kRemoved,
                        [&](char32_t c) { return c == delimiter_; });
  }

 private:
  const char32_t delimiter_;
};

class DigitsPreTokenizer : public PreTokenizer {
 public:
  explicit DigitsPreTokenizer(bool individual)
      : behavior_(individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const bool individual, json.Bool("individual_digits"));
    return std::make_unique<DigitsPreTokenizer>(individual);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return SplitAtChars(string, behavior_, unicode::IsNumeric);
  }

 private:
  const SplitBehavior behavior_;
};

// Pieces of `length` characters; the last one may be shorter.
class FixedLengthPreTokenizer : public PreTokenizer {
 public:
  explicit FixedLengthPreTokenizer(int64_t length) : length_(length) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    int64_t length = 5;
    if (const auto value = json.Find("length")) {
      ASSIGN_OR_RETURN(length, value->Integer(1, std::numeric_limits<int32_t>::max()));
    }
    return std::make_unique<FixedLengthPreTokenizer>(length);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return string.Split([&](absl::string_view text, uint32_t base) {
      for (size_t position = 0; position < text.size();) {
        const size_t begin = position;
        for (int64_t i = 0; i < length_ && position < text.size(); ++i)
          position += unicode::CharLength(text[position]);
        string.AddPart(
            {base + static_cast<uint32_t>(begin), base + static_cast<uint32_t>(position)});
      }
      return absl::OkStatus();
    });
  }

 private:
  const int64_t length_;
};

// SentencePiece's: a mark for each space, and one before the text; pieces start with it.
class MetaspacePreTokenizer : public PreTokenizer {
 public:
  enum class Prepend { kNever, kFirst, kAlways };

  MetaspacePreTokenizer(absl::string_view mark, Prepend prepend, bool split)
      : mark_(mark), prepend_(prepend), split_(split) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue replacement, json.Get("replacement"));
    RETURN_IF_ERROR(SingleCharacter(replacement).status());
    Prepend prepend = Prepend::kAlways;
    if (const auto scheme = json.Find("prepend_scheme")) {
      ASSIGN_OR_RETURN(const absl::string_view name, scheme->String());
      if (name == "never") {
        prepend = Prepend::kNever;
      } else if (name == "first") {
        prepend = Prepend::kFirst;
      } else if (name != "always") {
        return scheme->Error(absl::StrCat("\"", name, "\" is not always, first or never"));
      }
    }
    ASSIGN_OR_RETURN(const bool add_prefix_space, json.Bool("add_prefix_space", /*fallback=*/true));
    if (!add_prefix_space) {
      if (prepend != Prepend::kNever)
        return json.Error("has an add_prefix_space that contradicts its prepend_scheme");
    }
    ASSIGN_OR_RETURN(const bool split, json.Bool("split", /*fallback=*/true));
    return std::make_unique<MetaspacePreTokenizer>(*replacement.String(), prepend, split);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    std::vector<ByteRange> spaces;
    const auto mark_spaces = [&](NormalizedString& piece) -> absl::Status {
      spaces.clear();
      for (size_t i = 0; i < piece.text.size(); ++i) {
        if (piece.text[i] == ' ')
          spaces.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(i + 1)});
      }
      RETURN_IF_ERROR(piece.Replace(spaces, mark_));
      const bool prepend = prepend_ == Prepend::kAlways ||
                           (prepend_ == Prepend::kFirst && piece.original.begin == 0);
      if (prepend && !absl::StartsWith(piece.text, mark_)) piece.Prepend(mark_);
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(string.Rewrite(mark_spaces));
    if (!split_) return absl::OkStatus();
    return SplitAtMatches(string, SplitBehavior::kMergedWithNext, /*invert=*/false,
                          [&](absl::string_view text, std::vector<ByteRange>& matches) {
                            for (size_t at = text.find(mark_); at != absl::string_view::npos;
                                 at = text.find(mark_, at + mark_.size())) {
                              matches.push_back({static_cast<uint32_t>(at),
                                                 static_cast<uint32_t>(at + mark_.size())});
                            }
                            return absl::OkStatus();
                          });
  }

 private:
  const std::string mark_;
  const Prepend prepend_;
  const bool split_;
};

class PunctuationPreTokenizer : public PreTokenizer {
 public:
  explicit PunctuationPreTokenizer(SplitBehavior behavior) : behavior_(behavior) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (const auto value = json.Find("behavior")) {
      ASSIGN_OR_RETURN(behavior, ParseSplitBehavior(*value));
    }
    return std::make_unique<PunctuationPreTokenizer>(behavior);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return SplitAtChars(string, behavior_, unicode::IsPunctuation);
  }

 private:
  const SplitBehavior behavior_;
};

class SequencePreTokenizer : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> parts)
      : parts_(std::move(parts)) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(auto parts,
                     CreateParts<PreTokenizer>(json, "pretokenizers", CreatePreTokenizer));
    return std::make_unique<SequencePreTokenizer>(std::move(parts));
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    for (const auto& part : parts_) RETURN_IF_ERROR(part->PreTokenize(string));
    return absl::OkStatus();
  }

 private:
  const std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

class SplitPreTokenizer : public PreTokenizer {
 public:
  SplitPreTokenizer(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue pattern_json, json.Get("pattern"));
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::Create(pattern_json));
    ASSIGN_OR_RETURN(const JsonValue behavior_json, json.Get("behavior"));
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(behavior_json));
    ASSIGN_OR_RETURN(const bool invert, json.Bool("invert"));
    return std::make_unique<SplitPreTokenizer>(std::move(pattern), behavior, invert);
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return SplitAtMatches(string, behavior_, invert_,
                          [&](absl::string_view text, std::vector<ByteRange>& matches) {
                            return pattern_.FindAll(text, string.deadline, matches);
                          });
  }

 private:
  const Pattern pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

// Runs of word characters and runs of others, without the whitespace between them.
class WhitespacePreTokenizer : public PreTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue&) {
    return std::make_unique<WhitespacePreTokenizer>();
  }

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return string.Split([&](absl::string_view text, uint32_t base) {
      enum class Kind { kSpace, kWord, kOther };
      Kind kind = Kind::kSpace;
      uint32_t start = 0;
      for (size_t position = 0; position < text.size();) {
        const auto at = static_cast<uint32_t>(position);
        const char32_t c = unicode::Next(text, position);
        const Kind next = unicode::IsWord(c)         ? Kind::kWord
                          : unicode::IsWhitespace(c) ? Kind::kSpace
                                                     : Kind::kOther;
        if (next == kind) continue;
        if (kind != Kind::kSpace) string.AddPart({base + start, base + at});
        kind = next;
        start = at;
      }
      if (kind != Kind::kSpace)
        string.AddPart({base + start, base + static_cast<uint32_t>(text.size())});
      return absl::OkStatus();
    });
  }
};

class WhitespaceSplitPreTokenizer : public PreTokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const JsonValue&) {
    return std::make_unique<WhitespaceSplitPreTokenizer>();
  }
  absl::Status PreTokenize(PreTokenizedString& string) const override {
    return SplitAtChars(string, SplitBehavior::kRemoved, unicode::IsWhitespace);
  }
};

constexpr PartType<PreTokenizer> kPreTokenizers[] = {
    {"BertPreTokenizer", BertPreTokenizer::Create},
    {"ByteLevel", ByteLevelPreTokenizer::Create},
    {"CharDelimiterSplit", CharDelimiterSplitPreTokenizer::Create},
    {"Digits", DigitsPreTokenizer::Create},
    {"FixedLength", FixedLengthPreTokenizer::Create},
    {"Metaspace", MetaspacePreTokenizer::Create},
    {"Punctuation", PunctuationPreTokenizer::Create},
    {"Sequence", SequencePreTokenizer::Create},
    {"Split", SplitPreTokenizer::Create},
    {"Whitespace", WhitespacePreTokenizer::Create},
    {"WhitespaceSplit", WhitespaceSplitPreTokenizer::Create},
};

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> CreatePreTokenizer(const JsonValue& json) {
  return CreatePart(kPreTokenizers, json);
}

std::unique_ptr<PreTokenizer> CreateBertPreTokenizer() {
  return std::make_unique<BertPreTokenizer>();
}

std::unique_ptr<PreTokenizer> CreateByteLevelPreTokenizer(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevelPreTokenizer>(add_prefix_space, use_regex);
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> CreateSplitPreTokenizer(absl::string_view pattern) {
  ASSIGN_OR_RETURN(std::unique_ptr<Regex> regex, Regex::Create(pattern));
  return std::make_unique<SplitPreTokenizer>(Pattern(std::move(regex)), SplitBehavior::kIsolated,
                                             /*invert=*/false);
}

std::unique_ptr<PreTokenizer> CreateDigitsPreTokenizer() {
  return std::make_unique<DigitsPreTokenizer>(/*individual=*/true);
}

std::unique_ptr<PreTokenizer> CreatePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> parts) {
  return std::make_unique<SequencePreTokenizer>(std::move(parts));
}

}  // namespace attendant::engine
