#include "engine/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// Backtracking steps of one match. What needs more would need more again for a text a little
// longer.
constexpr uint32_t kMatchLimit = 5'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 1024 * 1024;
// How far one call looks for the start of a match before the clock is consulted.
constexpr size_t kWindowBytes = 64;

// A class that is part of a larger one, and its complement.
struct ClassEscape {
  char letter;
  absl::string_view members;
};
constexpr absl::string_view kWordMembers = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside of classes, \w has the numbers of Latin-1 as well.
constexpr absl::string_view kLatinNumbers = R"(\xb2\xb3\xb9\xbc-\xbe)";
constexpr ClassEscape kClassEscapes[] = {
    {'s', R"(\p{wspace})"}, {'w', kWordMembers}, {'h', "0-9a-fA-F"}, {'d', R"(\p{Nd})"}};

struct PosixBracket {
  absl::string_view name;
  absl::string_view members;
};
constexpr PosixBracket kPosixBrackets[] = {
    {"alpha", R"(\p{Alphabetic})"}, {"alnum", R"(\p{Alphabetic}\p{Nd})"}, {"digit", R"(\p{Nd})"},
    {"space", R"(\p{wspace})"},     {"punct", R"(\p{P}\p{S})"},           {"word", kWordMembers},
    {"lower", R"(\p{Lowercase})"},  {"upper", R"(\p{Uppercase})"},        {"cntrl", R"(\p{Cc})"},
    {"xdigit", "0-9a-fA-F"}};

bool Compiles(const std::string& pattern) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr);
  pcre2_code_free(compiled);
  return compiled != nullptr;
}

// Reads the pattern once, left to right, and writes it anew.
class Translator {
 public:
  explicit Translator(absl::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Translate() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      switch (c) {
        case '\\':
          atom_ = out_.size();
          RETURN_IF_ERROR(Escape(/*in_class=*/false));
          break;
        case '[':
          atom_ = out_.size();
          RETURN_IF_ERROR(Class());
          break;
        case '(':
          RETURN_IF_ERROR(OpenGroup());
          break;
        case ')':
          atom_ = groups_.empty() ? out_.size() : groups_.back();
          if (!groups_.empty()) groups_.pop_back();
          Copy();
          break;
        case '{':
          Interval();
          break;
        case '*':
        case '+':
        case '?':
        case '|':
        case '^':
        case '$':
          Copy();
          break;
        default:
          atom_ = out_.size();
          Copy();
          while (position_ < pattern_.size() && unicode::IsContinuation(pattern_[position_]))
            Copy();
      }
    }
    return std::move(out_);
  }

 private:
  void Copy() { out_.push_back(pattern_[position_++]); }
  absl::string_view rest() const { return pattern_.substr(position_); }

  absl::Status Unimplemented(absl::string_view what) const {
    return absl::UnimplementedError(absl::StrCat("regular expression \"", pattern_, "\": ", what));
  }

  absl::Status OpenGroup() {
    for (absl::string_view unknown : {"(*", "(?~", "(?{", "(?y"}) {
      if (absl::StartsWith(rest(), unknown))
        return Unimplemented(absl::StrCat(unknown, " is not supported"));
    }
    groups_.push_back(out_.size());
    Copy();
    if (!absl::StartsWith(rest(), "?")) return absl::OkStatus();
    Copy();
    if (absl::StartsWith(rest(), "#")) {  // a comment
      while (position_ < pattern_.size() && pattern_[position_] != ')') Copy();
      return absl::OkStatus();
    }
    if (absl::StartsWith(rest(), "<")) {  // a lookbehind, or a name, which has no flags
      Copy();
      return absl::OkStatus();
    }
    // Flags: Oniguruma's m lets the dot match newlines, which PCRE2 calls s.
    while (position_ < pattern_.size() &&
           (absl::ascii_isalpha(pattern_[position_]) || pattern_[position_] == '-')) {
      const char flag = pattern_[position_++];
      if (flag == 'm') {
        out_.push_back('s');
      } else if (flag == 'i' || flag == 'x' || flag == '-') {
        out_.push_back(flag);
      } else {
        return Unimplemented(
            absl::StrCat("the flag ", absl::string_view(&flag, 1), " is not supported"));
      }
    }
    if (absl::StartsWith(rest(), ")")) {  // flags for what follows: no group
      Copy();
      groups_.pop_back();
    }
    return absl::OkStatus();
  }

  // {n,m}, which Oniguruma lets be followed by a `+` that repeats it; to PCRE2 it would be
  // possessive.
  void Interval() {
    size_t end = position_ + 1;
    while (end < pattern_.size() && (absl::ascii_isdigit(pattern_[end]) || pattern_[end] == ','))
      ++end;
    if (end >= pattern_.size() || pattern_[end] != '}' || end == position_ + 1) {
      atom_ = out_.size();
      Copy();
      return;
    }
    while (position_ <= end) Copy();
    if (absl::StartsWith(rest(), "+")) {
      out_.insert(atom_, "(?:");
      out_.push_back(')');
    }
  }

  absl::Status Escape(bool in_class) {
    if (position_ + 1 >= pattern_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("regular expression \"", pattern_, "\" ends in a backslash"));
    }
    const char c = pattern_[position_ + 1];
    for (const ClassEscape& escape : kClassEscapes) {
      if (absl::ascii_tolower(c) != escape.letter) continue;
      position_ += 2;
      const absl::string_view more = escape.letter == 'w' && !in_class ? kLatinNumbers : "";
      if (absl::ascii_isupper(c)) {
        absl::StrAppend(&out_, "[^", escape.members, more, "]");
      } else if (in_class) {
        absl::StrAppend(&out_, escape.members);
      } else {
        absl::StrAppend(&out_, "[", escape.members, more, "]");
      }
      return absl::OkStatus();
    }
    if (c == 'p' || c == 'P') return Property();
    if (c == 'v') {
      position_ += 2;
      out_.append("\\x0b");
      return absl::OkStatus();
    }
    if (c == 'u') {  // four digits
      position_ += 2;
      absl::StrAppend(&out_, "\\x{", rest().substr(0, 4), "}");
      position_ = std::min(position_ + 4, pattern_.size());
      return absl::OkStatus();
    }
    if (!in_class && (c == 'b' || c == 'B')) {
      position_ += 2;
      const std::string word = absl::StrCat("[", kWordMembers, kLatinNumbers, "]");
      if (c == 'b') {
        absl::StrAppend(&out_, "(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
      } else {
        absl::StrAppend(&out_, "(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
      }
      return absl::OkStatus();
    }
    if (c == 'O' || c == 'y' || c == 'Y' || c == 'M' || c == 'C' || c == 'c' || c == 'Q' ||
        c == 'E') {
      return Unimplemented(absl::StrCat("\\", absl::string_view(&c, 1), " is not supported"));
    }
    Copy();
    Copy();
    while (position_ < pattern_.size() && unicode::IsContinuation(pattern_[position_])) Copy();
    return absl::OkStatus();
  }

  // \p{Han} is a script, and not, as to PCRE2, the set of its extensions.
  absl::Status Property() {
    const char letter = pattern_[position_ + 1];
    position_ += 2;
    const size_t end = pattern_.find('}', position_);
    if (!absl::StartsWith(rest(), "{") || end == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("regular expression \"", pattern_, "\": \\p without {name}"));
    }
    absl::string_view name = pattern_.substr(position_ + 1, end - position_ - 1);
    position_ = end + 1;
    bool negative = letter == 'P';
    if (absl::ConsumePrefix(&name, "^")) negative = !negative;
    const absl::string_view open = negative ? "\\P{" : "\\p{";
    for (const std::string& candidate : {absl::StrCat("sc:", name), std::string(name)}) {
      if (Compiles(absl::StrCat("\\p{", candidate, "}"))) {
        absl::StrAppend(&out_, open, candidate, "}");
        return absl::OkStatus();
      }
    }
    return Unimplemented(absl::StrCat("the property ", name, " is not known"));
  }

  // A character class, with classes nested in it.
  absl::Status Class() {
    size_t depth = 0;
    bool first = false;  // at the start of a class, where ] is a member
    do {
      if (position_ >= pattern_.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("regular expression \"", pattern_, "\": [ without ]"));
      }
      const char c = pattern_[position_];
      if (c == '[') {
        if (depth > 0 && absl::StartsWith(rest(), "[:")) {
          RETURN_IF_ERROR(Posix());
          first = false;
          continue;
        }
        ++depth;
        Copy();
        if (absl::StartsWith(rest(), "^")) Copy();
        first = true;
        continue;
      }
      if (c == ']' && !first) {
        --depth;
        Copy();
      } else if (c == '\\') {
        RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else if (c == ']' || ((c == '-' || c == '|' || c == '~') && rest().substr(1, 1)[0] == c)) {
        out_.push_back('\\');  // doubled, they are operators to PCRE2 only
        Copy();
      } else {
        Copy();
      }
      first = false;
    } while (depth > 0);
    return absl::OkStatus();
  }

  absl::Status Posix() {
    const size_t end = pattern_.find(":]", position_);
    if (end == absl::string_view::npos) return Unimplemented("[: without :]");
    absl::string_view name = pattern_.substr(position_ + 2, end - position_ - 2);
    const bool negative = absl::ConsumePrefix(&name, "^");
    for (const PosixBracket& bracket : kPosixBrackets) {
      if (bracket.name != name) continue;
      if (negative) {
        absl::StrAppend(&out_, "[^", bracket.members, "]");
      } else {
        absl::StrAppend(&out_, bracket.members);
      }
      position_ = end + 2;
      return absl::OkStatus();
    }
    return Unimplemented(absl::StrCat("[:", name, ":] is not known"));
  }

  const absl::string_view pattern_;
  size_t position_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where in `out_` the last atom starts: what a quantifier repeats
  std::vector<size_t> groups_;  // the same of the groups that are open
};

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof(text)) < 0) return absl::StrCat("error ", code);
  return reinterpret_cast<const char*>(text);
}

// What a thread needs to match, whichever the pattern.
struct MatchScratch {
  MatchScratch()
      : context(pcre2_match_context_create(nullptr)),
        data(pcre2_match_data_create(1, nullptr)),
        jit_stack(pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr)) {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (jit_stack != nullptr) pcre2_jit_stack_assign(context, nullptr, jit_stack);
  }
  ~MatchScratch() {
    pcre2_jit_stack_free(jit_stack);
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;

  pcre2_match_context* context;
  pcre2_match_data* data;
  pcre2_jit_stack* jit_stack;
};

}  // namespace

struct Regex::Code {
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
};

absl::StatusOr<std::string> OnigurumaToPcre2(absl::string_view pattern) {
  return Translator(pattern).Translate();
}

Regex::Regex(std::string pattern, std::unique_ptr<Code> code)
    : pattern_(std::move(pattern)), code_(std::move(code)) {}

Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<Regex>> Regex::Create(absl::string_view pattern) {
  constexpr size_t kMaxPatternBytes = 64 * 1024;
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("regular expression of ", pattern.size(),
                                                   " bytes; the limit is ", kMaxPatternBytes));
  }
  ASSIGN_OR_RETURN(const std::string translated, OnigurumaToPcre2(pattern));
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_ALT_EXTENDED_CLASS |
                                 PCRE2_USE_OFFSET_LIMIT | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, nullptr);
  if (code->code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression \"", pattern, "\": ", ErrorText(error)));
  }
  // Where there is no JIT the interpreter does the same, slower.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<Regex>(new Regex(std::string(pattern), std::move(code)));
}

absl::Status Regex::FindAll(absl::string_view text, absl::Time deadline,
                            std::vector<ByteRange>& matches) const {
  thread_local MatchScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto next_char = [&](size_t at) { return at + unicode::CharLength(text[at]); };
  size_t start = 0;
  size_t last_end = static_cast<size_t>(-1);  // of the last match
  uint32_t calls = 0;
  while (start <= text.size()) {
    size_t limit = std::min(start + kWindowBytes, text.size());
    while (limit > start && limit < text.size() && unicode::IsContinuation(text[limit])) --limit;
    pcre2_set_offset_limit(scratch.context, limit);
    const int result = pcre2_match(code_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                                   scratch.data, scratch.context);
    if ((result == PCRE2_ERROR_NOMATCH || ++calls % 16 == 0) && absl::Now() > deadline) {
      return absl::InvalidArgumentError(absl::StrCat("regular expression \"", pattern_,
                                                     "\" takes too long on a text of ", text.size(),
                                                     " bytes"));
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      if (limit >= text.size()) break;
      start = next_char(limit);
      continue;
    }
    if (result < 0) {
      return absl::InvalidArgumentError(absl::StrCat("regular expression \"", pattern_,
                                                     "\" on a text of ", text.size(),
                                                     " bytes: ", ErrorText(result)));
    }
    const PCRE2_SIZE* vector = pcre2_get_ovector_pointer(scratch.data);
    const size_t begin = vector[0];
    const size_t end = vector[1];
    if (begin > end || begin < start) {  // \K in a lookaround can do that
      return absl::InvalidArgumentError(
          absl::StrCat("regular expression \"", pattern_, "\" matches backwards"));
    }
    if (begin == end && end == last_end) {
      if (start >= text.size()) break;
      start = next_char(start);
      continue;
    }
    matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    start = last_end = end;
  }
  return absl::OkStatus();
}

}  // namespace attendant::engine
