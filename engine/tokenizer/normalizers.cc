#include "engine/tokenizer/normalizers.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/precompiled_charsmap.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

bool IsAscii(absl::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char byte) { return static_cast<int8_t>(byte) < 0; });
}

// Keeps the characters for which `keep` holds, each written as `map` says.
template <typename Keep, typename Map>
absl::Status FilterMap(NormalizedString& string, Keep keep, Map map) {
  const absl::string_view text = string.text;
  if (string.IsPlain()) {
    size_t position = 0;
    bool unchanged = true;
    while (unchanged && position < text.size()) {
      const char32_t c = unicode::Next(text, position);
      unchanged = keep(c) && map(c) == c;
    }
    if (unchanged) return absl::OkStatus();
  }
  int64_t skipped = 0;
  size_t position = 0;
  for (size_t at = 0; at < text.size(); position = at) {
    if (keep(unicode::Next(text, at))) break;
    ++skipped;
  }
  if (position == text.size()) skipped = 0;
  Rewriter rewriter(string, skipped);
  while (position < text.size()) {
    const char32_t c = unicode::Next(text, position);
    int64_t removed = 0;
    for (size_t at = position; at < text.size() && !keep(unicode::Next(text, at)); position = at)
      ++removed;
    rewriter.Emit(map(c), -removed);
  }
  return rewriter.Finish();
}

template <typename Keep>
absl::Status Filter(NormalizedString& string, Keep keep) {
  return FilterMap(string, keep, [](char32_t c) { return c; });
}

absl::Status Lowercase(NormalizedString& string) {
  if (string.IsPlain() && IsAscii(string.text)) {
    for (char& c : string.text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 0x20 : c);
    return absl::OkStatus();
  }
  Rewriter rewriter(string);
  for (size_t position = 0; position < string.text.size();) {
    char32_t lower[2];
    const int count = unicode::ToLower(unicode::Next(string.text, position), lower);
    for (int i = 0; i < count; ++i) rewriter.Emit(lower[i], i > 0);
  }
  return rewriter.Finish();
}

// A character on its way through Unicode normalization: its change is that of Rewriter::Emit.
struct Change {
  char32_t c;
  int64_t change;
  uint8_t combining_class;
};

// Calls `emit` for each character of the decomposition of `text`, in canonical order.
template <typename Emit>
void DecomposeText(absl::string_view text, bool compatibility, Emit emit) {
  std::vector<Change> pending;  // a run of combining characters, to be sorted
  const auto flush = [&] {
    std::stable_sort(pending.begin(), pending.end(), [](const Change& a, const Change& b) {
      return a.combining_class < b.combining_class;
    });
    for (const Change& change : pending) emit(change);
    pending.clear();
  };
  for (size_t position = 0; position < text.size();) {
    char32_t decomposed[18];
    const int count = unicode::Decompose(unicode::Next(text, position), compatibility, decomposed);
    for (int i = 0; i < count; ++i) {
      const uint8_t combining_class = unicode::CombiningClass(decomposed[i]);
      const Change change = {decomposed[i], i > 0, combining_class};
      if (combining_class == 0) {
        if (!pending.empty()) flush();
        emit(change);
      } else {
        pending.push_back(change);
      }
    }
  }
  flush();
}

absl::Status Decompose(NormalizedString& string, bool compatibility) {
  // Nothing below U+00A0 decomposes, and below U+00C0 only for compatibility; U+0300 starts the
  // combining marks.
  if (string.IsPlain() && IsAscii(string.text)) return absl::OkStatus();
  Rewriter rewriter(string);
  DecomposeText(string.text, compatibility, [&](const Change& c) { rewriter.Emit(c.c, c.change); });
  return rewriter.Finish();
}

// The canonical composition algorithm (Unicode Standard, 3.11): a character joins the last starter
// unless one between them has the same or a higher combining class. Those that did not join wait in
// `marks`.
absl::Status ComposeText(NormalizedString& string, bool compatibility) {
  if (string.IsPlain() && IsAscii(string.text)) return absl::OkStatus();
  Rewriter rewriter(string);
  std::optional<Change> starter;
  std::vector<Change> marks;
  const auto flush = [&] {
    if (starter.has_value()) rewriter.Emit(starter->c, starter->change);
    for (const Change& mark : marks) rewriter.Emit(mark.c, mark.change);
    marks.clear();
    starter.reset();
  };
  DecomposeText(string.text, compatibility, [&](const Change& next) {
    if (!starter.has_value()) {
      if (next.combining_class != 0) {
        rewriter.Emit(next.c, next.change);
      } else {
        starter = next;
      }
      return;
    }
    if (marks.empty() || marks.back().combining_class < next.combining_class) {
      if (const std::optional<char32_t> composed = unicode::Compose(starter->c, next.c)) {
        starter->c = *composed;
        starter->change += next.change - 1;
        return;
      }
    }
    if (next.combining_class == 0) {
      flush();
      starter = next;
    } else {
      marks.push_back(next);
    }
  });
  flush();
  return rewriter.Finish();
}

bool IsChineseCharacter(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options) : options_(options) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    BertNormalizerOptions options;
    ASSIGN_OR_RETURN(options.clean_text, json.Bool("clean_text"));
    ASSIGN_OR_RETURN(options.handle_chinese_chars, json.Bool("handle_chinese_chars"));
    ASSIGN_OR_RETURN(options.lowercase, json.Bool("lowercase"));
    ASSIGN_OR_RETURN(options.strip_accents,
                     json.Bool("strip_accents", /*fallback=*/options.lowercase));
    return std::make_unique<BertNormalizer>(options);
  }

  absl::Status Normalize(NormalizedString& string) const override {
    if (options_.clean_text) RETURN_IF_ERROR(CleanText(string));
    if (options_.handle_chinese_chars) RETURN_IF_ERROR(SpaceChineseCharacters(string));
    if (options_.strip_accents) {
      RETURN_IF_ERROR(Decompose(string, /*compatibility=*/false));
      if (!IsAscii(string.text)) {
        RETURN_IF_ERROR(
            Filter(string, [](char32_t c) { return c < 0x300 || !unicode::IsNonspacingMark(c); }));
      }
    }
    return options_.lowercase ? Lowercase(string) : absl::OkStatus();
  }

 private:
  static absl::Status CleanText(NormalizedString& string) {
    return FilterMap(
        string,
        [](char32_t c) {
          if (c >= ' ' && c < 0x7F) return true;
          return c == '\t' || c == '\n' || c == '\r' ||
                 (c != 0 && c != 0xFFFD && !unicode::IsControl(c));
        },
        [](char32_t c) {
          return c != ' ' && (c < ' ' || c > 0x7F) && unicode::IsWhitespace(c) ? U' ' : c;
        });
  }

  static absl::Status SpaceChineseCharacters(NormalizedString& string) {
    if (string.IsPlain()) {
      bool any = false;
      for (size_t position = 0; !any && position < string.text.size();) {
        any = IsChineseCharacter(unicode::Next(string.text, position));
      }
      if (!any) return absl::OkStatus();
    }
    Rewriter rewriter(string);
    for (size_t position = 0; position < string.text.size();) {
      const char32_t c = unicode::Next(string.text, position);
      if (IsChineseCharacter(c)) {
        rewriter.Emit(' ', 0);
        rewriter.Emit(c, 1);
        rewriter.Emit(' ', 1);
      } else {
        rewriter.Emit(c, 0);
      }
    }
    return rewriter.Finish();
  }

  const BertNormalizerOptions options_;
};

// NFC, NFD, NFKC, NFKD.
template <bool kCompose, bool kCompatibility>
class UnicodeNormalizer : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue&) {
    return std::make_unique<UnicodeNormalizer>();
  }
  absl::Status Normalize(NormalizedString& string) const override {
    return kCompose ? ComposeText(string, kCompatibility) : Decompose(string, kCompatibility);
  }
};

class LowercaseNormalizer : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue&) {
    return std::make_unique<LowercaseNormalizer>();
  }
  absl::Status Normalize(NormalizedString& string) const override { return Lowercase(string); }
};

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const bool left, json.Bool("strip_left"));
    ASSIGN_OR_RETURN(const bool right, json.Bool("strip_right"));
    return std::make_unique<StripNormalizer>(left, right);
  }

  absl::Status Normalize(NormalizedString& string) const override {
    absl::string_view kept = string.text;
    int64_t leading = 0;
    for (size_t position = 0; left_ && position < string.text.size();) {
      if (!unicode::IsWhitespace(unicode::Next(string.text, position))) break;
      kept = absl::string_view(string.text).substr(position);
      ++leading;
    }
    while (right_ && !kept.empty()) {
      const size_t begin = unicode::LastBegin(kept);
      size_t position = begin;
      if (!unicode::IsWhitespace(unicode::Next(kept, position))) break;
      kept = kept.substr(0, begin);
    }
    if (kept.size() == string.text.size()) return absl::OkStatus();
    Rewriter rewriter(string, leading);
    for (size_t position = 0; position < kept.size();)
      rewriter.Emit(unicode::Next(kept, position), 0);
    return rewriter.Finish();
  }

 private:
  const bool left_;
  const bool right_;
};

class StripAccentsNormalizer : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue&) {
    return std::make_unique<StripAccentsNormalizer>();
  }
  absl::Status Normalize(NormalizedString& string) const override {
    return Filter(string, [](char32_t c) { return c < 0x300 || !unicode::IsMark(c); });
  }
};

// SentencePiece's nmt rules: without control characters, and a space for each kind of space.
class NmtNormalizer : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue&) {
    return std::make_unique<NmtNormalizer>();
  }
  absl::Status Normalize(NormalizedString& string) const override {
    return FilterMap(
        string,
        [](char32_t c) {
          return !((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
                   c == 0x8F || c == 0x9F);
        },
        [](char32_t c) {
          const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                             (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                             c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
          return space ? U' ' : c;
        });
  }
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(Pattern pattern, absl::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue pattern_json, json.Get("pattern"));
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::Create(pattern_json));
    ASSIGN_OR_RETURN(const absl::string_view content, json.String("content"));
    return std::make_unique<ReplaceNormalizer>(std::move(pattern), content);
  }

  absl::Status Normalize(NormalizedString& string) const override {
    std::vector<ByteRange> matches;
    RETURN_IF_ERROR(pattern_.FindAll(string.text, string.deadline, matches));
    return string.Replace(matches, content_);
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(absl::string_view prefix) : prefix_(prefix) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const absl::string_view prefix, json.String("prepend"));
    return std::make_unique<PrependNormalizer>(prefix);
  }

  absl::Status Normalize(NormalizedString& string) const override {
    string.Prepend(prefix_);
    return string.text.size() > string.max_bytes ? TextTooLong(string.max_bytes) : absl::OkStatus();
  }

 private:
  const std::string prefix_;
};

class PrecompiledNormalizer : public Normalizer {
 public:
  explicit PrecompiledNormalizer(PrecompiledCharsmap charsmap) : charsmap_(std::move(charsmap)) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(const JsonValue value, json.Get("precompiled_charsmap"));
    ASSIGN_OR_RETURN(const absl::string_view base64, value.String());
    absl::StatusOr<PrecompiledCharsmap> charsmap = PrecompiledCharsmap::FromBase64(base64);
    if (!charsmap.ok()) return value.Annotate(charsmap.status());
    return std::make_unique<PrecompiledNormalizer>(*std::move(charsmap));
  }

  absl::Status Normalize(NormalizedString& string) const override {
    return charsmap_.Normalize(string);
  }

 private:
  const PrecompiledCharsmap charsmap_;
};

class ByteLevelNormalizer : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue&) {
    return std::make_unique<ByteLevelNormalizer>();
  }
  absl::Status Normalize(NormalizedString& string) const override {
    return WriteBytesAsChars(string);
  }
};

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> parts)
      : parts_(std::move(parts)) {}

  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const JsonValue& json) {
    ASSIGN_OR_RETURN(auto parts, CreateParts<Normalizer>(json, "normalizers", CreateNormalizer));
    return std::make_unique<SequenceNormalizer>(std::move(parts));
  }

  absl::Status Normalize(NormalizedString& string) const override {
    for (const auto& part : parts_) RETURN_IF_ERROR(part->Normalize(string));
    return absl::OkStatus();
  }

 private:
  const std::vector<std::unique_ptr<Normalizer>> parts_;
};

// U+2581 for each space, and before the text.
class SpaceEscapingNormalizer : public Normalizer {
 public:
  explicit SpaceEscapingNormalizer(bool add_prefix) : add_prefix_(add_prefix) {}

  absl::Status Normalize(NormalizedString& string) const override {
    if (add_prefix_) string.Prepend("\u2581");
    std::vector<ByteRange> spaces;
    for (size_t i = 0; i < string.text.size(); ++i) {
      if (string.text[i] == ' ')
        spaces.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(i + 1)});
    }
    return string.Replace(spaces, "\u2581");
  }

 private:
  const bool add_prefix_;
};

constexpr PartType<Normalizer> kNormalizers[] = {
    {"BertNormalizer", BertNormalizer::Create},
    {"ByteLevel", ByteLevelNormalizer::Create},
    {"Lowercase", LowercaseNormalizer::Create},
    {"NFC", UnicodeNormalizer<true, false>::Create},
    {"NFD", UnicodeNormalizer<false, false>::Create},
    {"NFKC", UnicodeNormalizer<true, true>::Create},
    {"NFKD", UnicodeNormalizer<false, true>::Create},
    {"Nmt", NmtNormalizer::Create},
    {"Precompiled", PrecompiledNormalizer::Create},
    {"Prepend", PrependNormalizer::Create},
    {"Replace", ReplaceNormalizer::Create},
    {"Sequence", SequenceNormalizer::Create},
    {"Strip", StripNormalizer::Create},
    {"StripAccents", StripAccentsNormalizer::Create},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> CreateNormalizer(const JsonValue& json) {
  return CreatePart(kNormalizers, json);
}

std::unique_ptr<Normalizer> CreateBertNormalizer(const BertNormalizerOptions& options) {
  return std::make_unique<BertNormalizer>(options);
}

std::unique_ptr<Normalizer> CreateNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> parts) {
  return std::make_unique<SequenceNormalizer>(std::move(parts));
}

std::unique_ptr<Normalizer> CreateSpaceEscapingNormalizer(bool add_prefix) {
  return std::make_unique<SpaceEscapingNormalizer>(add_prefix);
}

}  // namespace attendant::engine
