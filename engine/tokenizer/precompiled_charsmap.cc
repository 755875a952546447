#include "engine/tokenizer/precompiled_charsmap.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// The fields of a unit of Darts-clone.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFFu; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FFu; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }

uint32_t LittleEndian(const char* bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// Collects the changes of one replacement: characters of `replacement` for those of `replaced`.
struct Change {
  char32_t c;
  int64_t change;
};

void AppendReplacement(absl::string_view replaced, absl::string_view replacement,
                       std::vector<Change>& changes) {
  const int64_t difference = unicode::CountChars(replacement) - unicode::CountChars(replaced);
  for (size_t position = 0; position < replacement.size();) {
    changes.push_back({unicode::Next(replacement, position), 0});
  }
  // The last ones are new, or the last one stands for those that are gone.
  for (int64_t i = 0; i < difference; ++i)
    changes[changes.size() - 1 - static_cast<size_t>(i)].change = 1;
  if (difference < 0 && !changes.empty()) changes.back().change += difference;
}

}  // namespace

absl::StatusOr<PrecompiledCharsmap> PrecompiledCharsmap::FromBase64(absl::string_view base64) {
  std::string bytes;
  if (!absl::Base64Unescape(base64, &bytes)) return absl::InvalidArgumentError("is not base64");
  return Create(bytes);
}

absl::StatusOr<PrecompiledCharsmap> PrecompiledCharsmap::Create(absl::string_view bytes) {
  if (bytes.size() < 4) return absl::InvalidArgumentError("is shorter than its header");
  const size_t trie_bytes = LittleEndian(bytes.data());
  if (trie_bytes > bytes.size() - 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("has a trie of ", trie_bytes, " bytes in ", bytes.size(), " bytes"));
  }
  PrecompiledCharsmap charsmap;
  charsmap.units_.resize(trie_bytes / 4);
  for (size_t i = 0; i < charsmap.units_.size(); ++i)
    charsmap.units_[i] = LittleEndian(&bytes[4 + 4 * i]);
  charsmap.replacements_ = std::string(bytes.substr(4 + charsmap.units_.size() * 4));
  if (!unicode::IsValidUtf8(charsmap.replacements_)) {
    return absl::InvalidArgumentError("has replacements that are not UTF-8");
  }
  return charsmap;
}

template <typename Visit>
void PrecompiledCharsmap::VisitPrefixes(absl::string_view text, Visit visit) const {
  if (units_.empty()) return;
  size_t node = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto label = static_cast<uint8_t>(text[i]);
    node ^= label;
    if (label == 0 || node >= units_.size() || Label(units_[node]) != label) return;
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (node >= units_.size()) return;
    const size_t begin = Value(units_[node]);
    absl::string_view replacement;
    if (begin < replacements_.size()) {
      replacement =
          absl::string_view(replacements_).substr(begin, replacements_.find('\0', begin) - begin);
      // A rule that points into the middle of a character replaces nothing.
      if (!replacement.empty() && unicode::IsContinuation(replacement[0])) return;
    }
    if (!visit(i + 1, replacement)) return;
  }
}

std::optional<absl::string_view> PrecompiledCharsmap::Find(absl::string_view text) const {
  std::optional<absl::string_view> found;
  VisitPrefixes(text, [&](size_t, absl::string_view replacement) {
    found = replacement;
    return false;
  });
  return found;
}

std::optional<PrecompiledCharsmap::Match> PrecompiledCharsmap::LongestPrefix(
    absl::string_view text) const {
  std::optional<Match> longest;
  VisitPrefixes(text, [&](size_t length, absl::string_view replacement) {
    longest = {length, replacement};
    return true;
  });
  return longest;
}

absl::Status PrecompiledCharsmap::Normalize(NormalizedString& string) const {
  constexpr size_t kWholeClusterBytes = 6;
  const absl::string_view text = string.text;
  std::vector<Change> changes;
  changes.reserve(text.size());
  bool modified = false;
  for (size_t begin = 0; begin < text.size() && changes.size() <= string.max_bytes;) {
    const size_t end = unicode::GraphemeEnd(text, begin);
    const absl::string_view cluster = text.substr(begin, end - begin);
    begin = end;
    if (cluster.size() < kWholeClusterBytes) {
      if (const auto replacement = Find(cluster)) {
        AppendReplacement(cluster, *replacement, changes);
        modified = true;
        continue;
      }
    }
    for (size_t position = 0; position < cluster.size();) {
      const size_t at = position;
      const char32_t c = unicode::Next(cluster, position);
      const absl::string_view part = cluster.substr(at, position - at);
      if (const auto replacement = Find(part)) {
        AppendReplacement(part, *replacement, changes);
        modified = true;
      } else {
        changes.push_back({c, 0});
      }
    }
  }
  if (!modified) return absl::OkStatus();
  Rewriter rewriter(string);
  for (const Change& change : changes) rewriter.Emit(change.c, change.change);
  return rewriter.Finish();
}

}  // namespace attendant::engine
