#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// How long normalization may make a text. NFKC, the most generous real one, makes 18 characters of
// one.
size_t MaxBytes(size_t text_bytes) {
  return std::min<size_t>(32 * text_bytes + 4096, std::numeric_limits<int32_t>::max());
}

// When the regular expressions of a tokenizer have had more than enough time for a text.
absl::Time Deadline(size_t text_bytes) {
  return absl::Now() + absl::Seconds(2) + absl::Microseconds(2) * static_cast<double>(text_bytes);
}

bool StartsWithWord(absl::string_view text) {
  size_t position = 0;
  return !text.empty() && unicode::IsWord(unicode::Next(text, position));
}

bool EndsWithWord(absl::string_view text) {
  return !text.empty() && StartsWithWord(text.substr(unicode::LastBegin(text)));
}

absl::string_view WithoutTrailingSpace(absl::string_view text, size_t min_size) {
  while (text.size() > min_size) {
    size_t position = unicode::LastBegin(text);
    const size_t begin = position;
    if (!unicode::IsWhitespace(unicode::Next(text, position))) break;
    text = text.substr(0, begin);
  }
  return text;
}

size_t LeadingSpace(absl::string_view text) {
  size_t end = 0;
  for (size_t position = 0; position < text.size(); end = position) {
    if (!unicode::IsWhitespace(unicode::Next(text, position))) break;
  }
  return end;
}

}  // namespace

absl::StatusOr<AddedToken> ParseAddedToken(const JsonValue& json) {
  AddedToken token;
  ASSIGN_OR_RETURN(const absl::string_view content, json.String("content"));
  token.content = std::string(content);
  if (content.size() > TokenTrie::kMaxTokenBytes) {
    return json.Error(absl::StrCat("has a content of ", content.size(), " bytes; the limit is ",
                                   TokenTrie::kMaxTokenBytes));
  }
  ASSIGN_OR_RETURN(token.single_word, json.Bool("single_word"));
  ASSIGN_OR_RETURN(token.lstrip, json.Bool("lstrip"));
  ASSIGN_OR_RETURN(token.rstrip, json.Bool("rstrip"));
  ASSIGN_OR_RETURN(token.normalized, json.Bool("normalized"));
  ASSIGN_OR_RETURN(token.special, json.Bool("special"));
  return token;
}

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const JsonValue& json) {
  ASSIGN_OR_RETURN(const std::vector<JsonValue> values, json.Array());
  std::vector<AddedToken> tokens;
  for (const JsonValue& value : values) {
    RETURN_IF_ERROR(value.Integer("id", 0, std::numeric_limits<uint32_t>::max()).status());
    ASSIGN_OR_RETURN(tokens.emplace_back(), ParseAddedToken(value));
  }
  return tokens;
}

absl::StatusOr<AddedTokens> AddedTokens::Create(const std::vector<AddedToken>& tokens,
                                                const Model& model, const Normalizer* normalizer) {
  AddedTokens added;
  std::vector<const AddedToken*>
      patterns;  // what to look for: the special tokens, and then the others
  for (const AddedToken& token : tokens) {
    if (token.special && !token.content.empty() && added.special_.insert(token.content).second) {
      patterns.push_back(&token);
    }
  }
  int32_t next_id = model.size();
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    std::optional<int32_t> id = added.IdOf(token.content);
    if (!id.has_value()) id = model.vocabulary().IdOf(token.content);
    if (!id.has_value()) id = next_id++;
    added.ids_[token.content] = *id;
    added.tokens_[*id] = token;
    added.end_id_ = std::max(added.end_id_, *id + 1);
    if (!added.IsSpecial(token.content)) patterns.push_back(&token);
  }

  std::vector<std::pair<std::string, int32_t>> as_is, normalized;
  for (const AddedToken* token : patterns) {
    const int32_t id = added.ids_[token->content];
    if (!token->normalized) {
      as_is.emplace_back(token->content, id);
      continue;
    }
    NormalizedString content(token->content, 0);
    content.max_bytes = TokenTrie::kMaxTokenBytes;
    content.deadline = Deadline(token->content.size());
    if (normalizer != nullptr) RETURN_IF_ERROR(normalizer->Normalize(content));
    if (!content.text.empty()) normalized.emplace_back(std::move(content.text), id);
  }
  const auto make_trie = [](const std::vector<std::pair<std::string, int32_t>>& patterns) {
    std::vector<std::pair<absl::string_view, int32_t>> views;
    // Of equal patterns the first counts, and the trie keeps the last.
    for (auto pattern = patterns.rbegin(); pattern != patterns.rend(); ++pattern) {
      views.emplace_back(pattern->first, pattern->second);
    }
    return TokenTrie(std::move(views));
  };
  added.trie_ = make_trie(as_is);
  added.normalized_trie_ = make_trie(normalized);
  return added;
}

std::optional<int32_t> AddedTokens::IdOf(absl::string_view token) const {
  const auto entry = ids_.find(token);
  return entry == ids_.end() ? std::nullopt : std::optional<int32_t>(entry->second);
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto entry = tokens_.find(id);
  return entry == tokens_.end() ? nullptr : &entry->second;
}

std::vector<AddedTokens::Part> AddedTokens::Split(absl::string_view text,
                                                  const TokenTrie& trie) const {
  std::vector<Part> parts;
  size_t done = 0;       // parts cover text[0, done)
  size_t space_end = 0;  // of the whitespace that was last looked at
  for (size_t position = 0; position < text.size();) {
    size_t length = 0;
    int32_t id = -1;
    trie.VisitPrefixes(text.substr(position), [&](size_t token_length, int32_t token_id) {
      length = token_length;
      id = token_id;
    });
    if (length == 0) {
      ++position;
      continue;
    }
    size_t begin = position;
    size_t end = position + length;
    position = end;
    const AddedToken& token = *Find(id);
    if (token.single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end))))
      continue;
    // Whitespace that the token before it has taken stays with that.
    if (token.lstrip) {
      begin =
          std::max(WithoutTrailingSpace(text.substr(0, begin), std::min(done, begin)).size(), done);
    }
    if (token.rstrip) {
      if (end >= space_end) space_end = end + LeadingSpace(text.substr(end));
      end = space_end;
    }
    if (done < begin)
      parts.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(begin)}, -1});
    parts.push_back({{static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}, id});
    done = end;
  }
  if (done != text.size())
    parts.push_back({{static_cast<uint32_t>(done), static_cast<uint32_t>(text.size())}, -1});
  return parts;
}

absl::StatusOr<PreTokenizedString> AddedTokens::ExtractAndNormalize(
    absl::string_view text, const Normalizer* normalizer) const {
  PreTokenizedString result;
  result.max_bytes = MaxBytes(text.size());
  result.deadline = Deadline(text.size());
  // Appends `string` to the text of `result`, and returns where it starts there.
  const auto append = [&](NormalizedString&& string) {
    const auto base = static_cast<uint32_t>(result.text.size());
    if (base == 0) {
      result.text = std::move(string.text);
      result.origins = std::move(string.origins);
    } else {
      result.text.append(string.text);
      result.origins.insert(result.origins.end(), string.origins.begin(), string.origins.end());
    }
    return base;
  };
  for (const Part& part : Split(text, trie_)) {
    const auto begin = static_cast<int32_t>(part.range.begin);
    NormalizedString string(text.substr(part.range.begin, part.range.end - part.range.begin),
                            begin);
    const auto size = static_cast<uint32_t>(string.text.size());
    if (part.token_id >= 0) {
      const TextRange original = string.original;
      const uint32_t base = append(std::move(string));
      result.AddPiece({base, base + size}, original, part.token_id);
      continue;
    }
    string.max_bytes = result.max_bytes;
    string.deadline = result.deadline;
    if (normalizer != nullptr) RETURN_IF_ERROR(normalizer->Normalize(string));
    const std::vector<Part> parts = Split(string.text, normalized_trie_);
    const uint32_t base = append(std::move(string));
    if (result.text.size() > result.max_bytes) return TextTooLong(result.max_bytes);
    for (const Part& inner : parts) {
      const ByteRange range = {base + inner.range.begin, base + inner.range.end};
      if (range.begin >= range.end) continue;
      const TextRange original = {result.origins[range.begin].begin,
                                  result.origins[range.end - 1].end};
      result.AddPiece(range, original, inner.token_id);
    }
  }
  return result;
}

}  // namespace attendant::engine
