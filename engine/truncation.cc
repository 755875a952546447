#include "engine/truncation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace attendant::engine {
namespace {

// How many tokens of each text stay when `room` are left for both: the shorter stays whole if it
// can, else they share alike. The second gets what does not divide by two, or the first if it was
// the longer.
std::pair<int64_t, int64_t> LongestFirst(int64_t first, int64_t second, int64_t room) {
  const bool swap = first > second;
  int64_t shorter = swap ? second : first;
  int64_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = room / 2;
    longer = shorter + room % 2;
  }
  return swap ? std::pair(longer, shorter) : std::pair(shorter, longer);
}

template <typename T>
void KeepWhere(const std::vector<bool>& keep, std::vector<T>& values) {
  size_t kept = 0;
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i]) values[kept++] = std::move(values[i]);
  }
  values.resize(kept);
}

void KeepWhere(const std::vector<bool>& keep, std::vector<bool>& values) {
  std::vector<bool> result;
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i]) result.push_back(values[i]);
  }
  values = std::move(result);
}

enum class Cut : uint8_t { kLongestFirst, kSecond };

absl::Status TruncateTexts(Cut cut, const Truncation& truncation, int64_t limit,
                           absl::string_view what, Encoding& encoding) {
  if (truncation.max_tokens.has_value() && *truncation.max_tokens < limit) {
    limit = *truncation.max_tokens;
    what = "truncation.max_tokens is";
  }
  const int64_t num_tokens = encoding.num_tokens();
  if (num_tokens <= limit) return absl::OkStatus();
  if (truncation.side == TruncationSide::kNone) {
    return absl::InvalidArgumentError(absl::StrCat("the input has ", num_tokens, " tokens; ", what,
                                                   " ", limit, ", and truncation is off"));
  }

  int64_t lengths[2] = {0, 0};
  for (const int8_t sequence : encoding.sequence_ids) {
    if (sequence >= 0) ++lengths[sequence];
  }
  const int64_t num_special = num_tokens - lengths[0] - lengths[1];
  const int64_t room = limit - num_special;
  if (room < 0 || limit < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the special tokens alone are ", num_special, "; ", what, " ", limit));
  }
  if (cut == Cut::kSecond && room <= lengths[0]) {
    return absl::InvalidArgumentError(absl::StrCat("the first text, which is not cut, takes ",
                                                   lengths[0], " tokens, and ", num_special,
                                                   " are special; ", what, " ", limit));
  }
  const bool is_pair = lengths[1] > 0;
  std::pair<int64_t, int64_t> keeps(room, 0);
  if (cut == Cut::kSecond) {
    keeps = {lengths[0], room - lengths[0]};
  } else if (is_pair) {
    keeps = LongestFirst(lengths[0], lengths[1], room);
  }
  const auto [keep_first, keep_second] = keeps;
  const int64_t kept_lengths[2] = {std::min(keep_first, lengths[0]),
                                   std::min(keep_second, lengths[1])};

  std::vector<bool> keep(num_tokens, true);
  int64_t position[2] = {0, 0};
  for (int64_t i = 0; i < num_tokens; ++i) {
    const int8_t sequence = encoding.sequence_ids[i];
    if (sequence < 0) continue;
    const int64_t index = position[sequence]++;
    keep[i] = truncation.side == TruncationSide::kRight
                  ? index < kept_lengths[sequence]
                  : index >= lengths[sequence] - kept_lengths[sequence];
  }
  KeepWhere(keep, encoding.ids);
  KeepWhere(keep, encoding.type_ids);
  KeepWhere(keep, encoding.offsets);
  KeepWhere(keep, encoding.sequence_ids);
  KeepWhere(keep, encoding.special_tokens_mask);
  return absl::OkStatus();
}

}  // namespace

absl::Status Truncate(const Truncation& truncation, int64_t limit, absl::string_view what,
                      Encoding& encoding) {
  return TruncateTexts(Cut::kLongestFirst, truncation, limit, what, encoding);
}

absl::Status TruncateSecond(const Truncation& truncation, int64_t limit, absl::string_view what,
                            Encoding& encoding) {
  return TruncateTexts(Cut::kSecond, truncation, limit, what, encoding);
}

}  // namespace attendant::engine
