#include "engine/tokenizer/normalized_string.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {

absl::Status TextTooLong(size_t max_bytes) {
  return absl::InvalidArgumentError(absl::StrCat("normalization makes the text longer than ",
                                                 max_bytes, " bytes, the limit for its length"));
}

NormalizedString::NormalizedString(absl::string_view source, int32_t begin)
    : text(source), original{begin, begin + static_cast<int32_t>(source.size())} {
  origins.resize(source.size());
  for (size_t i = 0; i < source.size();) {
    const size_t length = unicode::CharLength(source[i]);
    const int32_t at = begin + static_cast<int32_t>(i);
    const TextRange origin = {at, at + static_cast<int32_t>(length)};
    for (size_t end = i + length; i < end; ++i) origins[i] = origin;
  }
}

void NormalizedString::Prepend(absl::string_view prefix) {
  if (text.empty()) return;
  const size_t first_length = unicode::CharLength(text[0]);
  const TextRange nothing = {original.begin, original.begin};
  // The first inserted character stands for the first of the text, which is then inserted behind
  // it.
  const TextRange first = prefix.empty() ? nothing : origins[0];
  const TextRange second = prefix.empty() ? nothing : origins[first_length - 1];
  const size_t prefix_first = prefix.empty() ? 0 : unicode::CharLength(prefix[0]);
  std::fill(origins.begin(), origins.begin() + static_cast<int64_t>(first_length), second);
  origins.insert(origins.begin(), prefix.size(), second);
  std::fill(origins.begin(), origins.begin() + static_cast<int64_t>(prefix_first), first);
  text.insert(0, prefix.data(), prefix.size());
}

absl::Status NormalizedString::Replace(absl::Span<const ByteRange> matches,
                                       absl::string_view content) {
  if (matches.empty()) return absl::OkStatus();
  size_t new_size = text.size() + matches.size() * content.size();
  for (const ByteRange& match : matches) new_size -= match.end - match.begin;
  if (new_size > max_bytes) return TextTooLong(max_bytes);

  std::string new_text;
  std::vector<TextRange> new_origins;
  new_text.reserve(new_size);
  new_origins.reserve(new_size);
  size_t position = 0;
  const auto copy_until = [&](size_t end) {
    new_text.append(text, position, end - position);
    new_origins.insert(new_origins.end(), origins.begin() + static_cast<int64_t>(position),
                       origins.begin() + static_cast<int64_t>(end));
  };
  for (const ByteRange& match : matches) {
    copy_until(match.begin);
    const TextRange origin =
        match.end == 0 ? TextRange{original.begin, original.begin} : origins[match.end - 1];
    absl::StrAppend(&new_text, content);
    new_origins.insert(new_origins.end(), content.size(), origin);
    position = match.end;
  }
  copy_until(text.size());
  text = std::move(new_text);
  origins = std::move(new_origins);
  return absl::OkStatus();
}

ByteRange NormalizedString::RewriteRange() const {
  if (original.begin == original.end || text.empty()) return {0, 0};
  const auto size = static_cast<uint32_t>(text.size());
  const auto first = std::find_if(origins.begin(), origins.end(), [](const TextRange& origin) {
    return origin.begin != origin.end;
  });
  return {static_cast<uint32_t>(first - origins.begin()), size};
}

Rewriter::Rewriter(NormalizedString& string, ByteRange range, int64_t skip)
    : string_(string), range_(range), offset_(range.begin) {
  text_.reserve(string.text.size());
  origins_.reserve(string.text.size());
  text_.append(string.text, 0, range.begin);
  origins_.assign(string.origins.begin(), string.origins.begin() + range.begin);
  Consume(skip);
}

void Rewriter::Consume(int64_t count) {
  for (; count > 0 && offset_ < range_.end; --count)
    offset_ += unicode::CharLength(string_.text[offset_]);
}

void Rewriter::Emit(char32_t c, int64_t change) {
  if (text_.size() > string_.max_bytes) return;  // Finish will say so
  TextRange origin = {string_.original.begin, string_.original.begin};
  const std::vector<TextRange>& origins = string_.origins;
  if (change > 0) {
    if (offset_ > 0) origin = origins[offset_ - 1];
  } else {
    if (!origins.empty()) origin = origins[std::min(offset_, origins.size() - 1)];
    Consume(1 - change);
  }
  const size_t before = text_.size();
  unicode::Append(c, text_);
  origins_.insert(origins_.end(), text_.size() - before, origin);
}

absl::Status Rewriter::Finish() {
  text_.append(string_.text, range_.end, std::string::npos);
  origins_.insert(origins_.end(), string_.origins.begin() + range_.end, string_.origins.end());
  if (text_.size() > string_.max_bytes) return TextTooLong(string_.max_bytes);
  string_.text = std::move(text_);
  string_.origins = std::move(origins_);
  return absl::OkStatus();
}

}  // namespace attendant::engine
