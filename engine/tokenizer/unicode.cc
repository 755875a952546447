#include "engine/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "absl/log/check.h"
#include "absl/types/span.h"
#include "engine/tokenizer/regex.h"
#include "simdjson.h"

namespace attendant::engine::unicode {
namespace {

constexpr char32_t kCodePoints = 0x110000;

struct Range {
  char32_t first, last;
};

// Where the reference's tables and those of utf8proc (Unicode 15.1) disagree: code points that are
// in one set and not in the other. tests/engine/tokenizer/reference_parity.py compares every code
// point.
constexpr Range kNumericDiffers[] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9},
                                     {0x11DE0, 0x11DE9}, {0x16130, 0x16139}, {0x16D70, 0x16D79},
                                     {0x16FF4, 0x16FF6}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA}};

constexpr Range kPunctuationDiffers[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},
    {0xC84, 0xC84},     {0x166D, 0x166D},   {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},
    {0x2E52, 0x2E5D},   {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89},
    {0x111C9, 0x111C9}, {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D},
    {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1183B, 0x1183B}, {0x11944, 0x11946},
    {0x119E2, 0x119E2}, {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2},
    {0x11B00, 0x11B09}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8},
    {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A},
    {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F}};
constexpr Range kControlDiffers[] = {
    {0x890, 0x891}, {0x8E2, 0x8E2}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}};
constexpr Range kNonspacingMarkDiffers[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8E1},     {0x9FE, 0x9FE},
    {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},
    {0xD00, 0xD00},     {0xD3B, 0xD3C},     {0xD81, 0xD81},     {0xEBA, 0xEBA},
    {0xECE, 0xECE},     {0x1734, 0x1734},   {0x180F, 0x180F},   {0x1885, 0x1886},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFB},   {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},
    {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC},
    {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x11073, 0x11074}, {0x110C2, 0x110C2}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF},
    {0x1123E, 0x1123E}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11438, 0x1143F},
    {0x11442, 0x11444}, {0x11446, 0x11446}, {0x1145E, 0x1145E}, {0x1182F, 0x11837},
    {0x11839, 0x1183A}, {0x1193B, 0x1193C}, {0x1193E, 0x1193E}, {0x11943, 0x11943},
    {0x119D4, 0x119D7}, {0x119DA, 0x119DB}, {0x119E0, 0x119E0}, {0x11A01, 0x11A0A},
    {0x11A33, 0x11A38}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A56},
    {0x11A59, 0x11A5B}, {0x11A8A, 0x11A96}, {0x11A98, 0x11A99}, {0x11C30, 0x11C36},
    {0x11C38, 0x11C3D}, {0x11C3F, 0x11C3F}, {0x11C92, 0x11CA7}, {0x11CAA, 0x11CB0},
    {0x11CB2, 0x11CB3}, {0x11CB5, 0x11CB6}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A},
    {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D90, 0x11D91},
    {0x11D95, 0x11D95}, {0x11D97, 0x11D97}, {0x11EF3, 0x11EF4}, {0x11F00, 0x11F01},
    {0x11F36, 0x11F3A}, {0x11F40, 0x11F40}, {0x11F42, 0x11F42}, {0x13440, 0x13440},
    {0x13447, 0x13455}, {0x16F4F, 0x16F4F}, {0x16FE4, 0x16FE4}, {0x1CF00, 0x1CF2D},
    {0x1CF30, 0x1CF46}, {0x1E000, 0x1E006}, {0x1E008, 0x1E018}, {0x1E01B, 0x1E021},
    {0x1E023, 0x1E024}, {0x1E026, 0x1E02A}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E944, 0x1E94A}};
constexpr Range kMarkDiffers[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},
    {0xCF3, 0xCF3},     {0xD00, 0xD00},     {0xD3B, 0xD3C},     {0xD81, 0xD81},
    {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},   {0x180F, 0x180F},
    {0x1ABF, 0x1ACE},   {0x1CF2, 0x1CF3},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC},
    {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x11073, 0x11074}, {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9},
    {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x1182C, 0x1183A}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193B, 0x1193E},
    {0x11940, 0x11940}, {0x11942, 0x11943}, {0x119D1, 0x119D7}, {0x119DA, 0x119E0},
    {0x119E4, 0x119E4}, {0x11A01, 0x11A0A}, {0x11A33, 0x11A39}, {0x11A3B, 0x11A3E},
    {0x11A47, 0x11A47}, {0x11A51, 0x11A5B}, {0x11A8A, 0x11A99}, {0x11D31, 0x11D36},
    {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45}, {0x11D47, 0x11D47},
    {0x11D8A, 0x11D8E}, {0x11D90, 0x11D91}, {0x11D93, 0x11D97}, {0x11EF3, 0x11EF6},
    {0x11F00, 0x11F01}, {0x11F03, 0x11F03}, {0x11F34, 0x11F3A}, {0x11F3E, 0x11F42},
    {0x13440, 0x13440}, {0x13447, 0x13455}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87},
    {0x16FE4, 0x16FE4}, {0x16FF0, 0x16FF1}, {0x1CF00, 0x1CF2D}, {0x1CF30, 0x1CF46},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}};
// Decompose in Unicode 15.1, not in 9.
constexpr Range kCanonicalUndecomposed[] = {{0x11938, 0x11938}};
constexpr Range kCompatibilityUndecomposed[] = {
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x11938, 0x11938}, {0x1E030, 0x1E06D},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};
// Have a combining class in Unicode 15.1, and none in 9.
constexpr Range kNewCombining[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};
// Extend a grapheme cluster since Unicode 16.
constexpr Range kNewExtending[] = {{0x897, 0x897},     {0x10D69, 0x10D6D}, {0x10EFC, 0x10EFC},
                                   {0x113B8, 0x113C0}, {0x113C2, 0x113C2}, {0x113C5, 0x113C5},
                                   {0x113C7, 0x113CA}, {0x113CC, 0x113D0}, {0x113D2, 0x113D2},
                                   {0x113E1, 0x113E2}, {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F},
                                   {0x1E5EE, 0x1E5EF}};

bool Contains(absl::Span<const Range> ranges, char32_t c) {
  const auto* range =
      std::lower_bound(ranges.begin(), ranges.end(), c,
                       [](const Range& r, char32_t value) { return r.last < value; });
  return range != ranges.end() && range->first <= c;
}

enum Property : uint8_t {
  kWhitespace = 1,
  kNumeric = 2,
  kPunctuation = 4,
  kControl = 8,
  kNonspacingMark = 16,
  kMark = 32,
  kWord = 64,
};

uint8_t PropertiesOf(char32_t c) {
  uint8_t properties = 0;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      properties = kNumeric;
      break;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      properties = kPunctuation;
      break;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      properties = kWhitespace;
      break;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      properties = kControl;
      break;
    case UTF8PROC_CATEGORY_MN:
      properties = kNonspacingMark | kMark;
      break;
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      properties = kMark;
      break;
    default:
      if (c < 0x80 && c > ' ' && !(c >= '0' && c <= '9') &&
          !((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) {
        properties = kPunctuation;  // $ + < = > ^ ` | ~ are symbols to Unicode
      }
  }
  if ((c >= '\t' && c <= '\r') || c == 0x85) properties |= kWhitespace;
  return properties;
}

// One byte of properties for each code point.
const std::vector<uint8_t>& Properties() {
  static const auto* const table = [] {
    auto* properties = new std::vector<uint8_t>(kCodePoints);
    for (char32_t c = 0; c < kCodePoints; ++c) (*properties)[c] = PropertiesOf(c);
    const auto flip = [&](absl::Span<const Range> ranges, uint8_t property) {
      for (const Range& range : ranges) {
        for (char32_t c = range.first; c <= range.last; ++c) (*properties)[c] ^= property;
      }
    };
    flip(kNumericDiffers, kNumeric);
    flip(kPunctuationDiffers, kPunctuation);
    flip(kControlDiffers, kControl);
    flip(kNonspacingMarkDiffers, kNonspacingMark);
    flip(kMarkDiffers, kMark);

    // utf8proc does not know Alphabetic; PCRE2 does.
    std::string all;
    for (char32_t c = 0; c < kCodePoints; ++c) {
      if (c < 0xD800 || c >= 0xE000) Append(c, all);
    }
    auto word = Regex::Create(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+)");
    CHECK_OK(word.status());
    std::vector<ByteRange> runs;
    CHECK_OK((*word)->FindAll(all, absl::InfiniteFuture(), runs));
    for (const ByteRange& run : runs) {
      for (size_t position = run.begin; position < run.end;) {
        (*properties)[Next(all, position)] |= kWord;
      }
    }
    return properties;
  }();
  return *table;
}

bool Has(char32_t c, uint8_t property) { return (Properties()[c] & property) != 0; }

// Letters that have got a lowercase since: first to last, each with its distance.
struct LowerRange {
  char32_t first, last;
  int32_t distance;
  int32_t step;
};
constexpr LowerRange kNewLower[] = {{0x1C89, 0x1C89, 1, 1},
                                    {0xA7CB, 0xA7CB, 0x264 - 0xA7CB, 1},
                                    {0xA7CC, 0xA7CC, 1, 1},
                                    {0xA7CE, 0xA7CE, 1, 1},
                                    {0xA7D2, 0xA7D4, 1, 2},
                                    {0xA7DA, 0xA7DA, 1, 1},
                                    {0xA7DC, 0xA7DC, 0x19B - 0xA7DC, 1},
                                    {0x10D50, 0x10D65, 0x20, 1},
                                    {0x16EA0, 0x16EB8, 0x1B, 1}};

}  // namespace

bool IsValidUtf8(absl::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

int64_t CountChars(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return !IsContinuation(byte); });
}

void Append(char32_t c, std::string& text) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
    return;
  }
  char bytes[4];
  int length = 0;
  const auto tail = [&](int shift) {
    bytes[length++] = static_cast<char>(0x80 | ((c >> shift) & 0x3F));
  };
  if (c < 0x800) {
    bytes[length++] = static_cast<char>(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    bytes[length++] = static_cast<char>(0xE0 | c >> 12);
    tail(6);
  } else {
    bytes[length++] = static_cast<char>(0xF0 | c >> 18);
    tail(12);
    tail(6);
  }
  tail(0);
  text.append(bytes, length);
}

void TakeLossy(std::string& bytes, bool at_end, std::string& text) {
  size_t position = 0;
  while (position < bytes.size()) {
    const auto lead = static_cast<uint8_t>(bytes[position]);
    // The range of the second byte excludes overlong forms, surrogates and what lies beyond
    // U+10FFFF.
    uint8_t low = 0x80, high = 0xBF;
    size_t length = 1;
    if (lead >= 0xC2 && lead <= 0xDF) length = 2;
    if (lead >= 0xE0 && lead <= 0xEF) {
      length = 3;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    if (length == 1) {
      if (lead < 0x80) {
        text.push_back(bytes[position]);
      } else {
        text.append("\uFFFD");
      }
      ++position;
      continue;
    }
    size_t good = 1;
    while (good < length && position + good < bytes.size()) {
      const auto byte = static_cast<uint8_t>(bytes[position + good]);
      if (byte < low || byte > high) break;
      low = 0x80;
      high = 0xBF;
      ++good;
    }
    if (good < length && position + good == bytes.size() && !at_end) break;
    if (good == length) {
      text.append(bytes, position, length);
    } else {
      text.append("\uFFFD");
    }
    position += good;
  }
  bytes.erase(0, position);
}

bool IsWhitespace(char32_t c) { return Has(c, kWhitespace); }
bool IsNumeric(char32_t c) { return Has(c, kNumeric); }
bool IsPunctuation(char32_t c) { return Has(c, kPunctuation); }
bool IsControl(char32_t c) { return Has(c, kControl); }
bool IsNonspacingMark(char32_t c) { return Has(c, kNonspacingMark); }
bool IsMark(char32_t c) { return Has(c, kMark); }
bool IsWord(char32_t c) { return Has(c, kWord); }

int ToLower(char32_t c, char32_t out[2]) {
  if (c < 0x80) {
    out[0] = c >= 'A' && c <= 'Z' ? c + 0x20 : c;
    return 1;
  }
  if (c == 0x130) {  // the one character whose lowercase is two
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
  }
  for (const LowerRange& range : kNewLower) {
    if (c >= range.first && c <= range.last && (c - range.first) % range.step == 0) {
      out[0] = c + range.distance;
      return 1;
    }
  }
  out[0] = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  return 1;
}

int Decompose(char32_t c, bool compatibility, char32_t out[18]) {
  out[0] = c;
  if (c < 0xA0 || Contains(compatibility ? absl::MakeConstSpan(kCompatibilityUndecomposed)
                                         : absl::MakeConstSpan(kCanonicalUndecomposed),
                           c)) {
    return 1;
  }
  utf8proc_int32_t buffer[18];
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  const utf8proc_ssize_t count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 18, options, nullptr);
  if (count < 1 || count > 18) return 1;
  std::copy(buffer, buffer + count, out);
  return static_cast<int>(count);
}

uint8_t CombiningClass(char32_t c) {
  if (c < 0x300) return 0;
  const auto combining_class = static_cast<uint8_t>(
      utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class);
  return combining_class != 0 && Contains(kNewCombining, c) ? 0 : combining_class;
}

std::optional<char32_t> Compose(char32_t a, char32_t b) {
  if (b < 0x300) return std::nullopt;
  utf8proc_int32_t pair[2] = {static_cast<utf8proc_int32_t>(a), static_cast<utf8proc_int32_t>(b)};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair, 2, options) != 1) return std::nullopt;
  const auto composed = static_cast<char32_t>(pair[0]);
  if (Contains(kCanonicalUndecomposed, composed)) return std::nullopt;
  return composed;
}

size_t GraphemeEnd(absl::string_view text, size_t position) {
  const auto next = [&](size_t& at) {
    const char32_t c = Next(text, at);
    // Characters newer than utf8proc that extend a cluster: any that does will do in their place.
    return static_cast<utf8proc_int32_t>(c >= 0x890 && Contains(kNewExtending, c) ? 0x300 : c);
  };
  utf8proc_int32_t state = 0;
  utf8proc_int32_t previous = next(position);
  while (position < text.size()) {
    size_t after = position;
    const utf8proc_int32_t c = next(after);
    if (previous < 0x80 && c < 0x80 && !(previous == '\r' && c == '\n')) break;
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    position = after;
  }
  return position;
}

}  // namespace attendant::engine::unicode
