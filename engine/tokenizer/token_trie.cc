#include "engine/tokenizer/token_trie.h"

#include <algorithm>

namespace attendant::engine {

TokenTrie::TokenTrie(std::vector<std::pair<absl::string_view, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });

  // Level by level: a node is the range of sorted tokens that share its bytes, and its children
  // split that range.
  struct Range {
    size_t begin, end;
  };
  std::vector<Range> ranges = {{0, tokens.size()}};  // by node
  bytes_ = {0};
  values_ = {-1};
  size_t level_end = 1;  // the nodes before it spell `depth` bytes or fewer
  size_t depth = 0;
  for (size_t node = 0; node < ranges.size(); ++node) {
    if (node == level_end) {
      level_end = ranges.size();
      ++depth;
    }
    first_child_.push_back(static_cast<uint32_t>(ranges.size()));
    size_t at = ranges[node].begin;
    const size_t end = ranges[node].end;
    for (; at < end && tokens[at].first.size() == depth; ++at) values_[node] = tokens[at].second;
    while (at < end) {
      const size_t begin = at;
      const char byte = tokens[at].first[depth];
      while (at < end && tokens[at].first[depth] == byte) ++at;
      if (node == 0) roots_[static_cast<uint8_t>(byte)] = static_cast<uint32_t>(ranges.size());
      ranges.push_back({begin, at});
      bytes_.push_back(static_cast<uint8_t>(byte));
      values_.push_back(-1);
    }
  }
  first_child_.push_back(static_cast<uint32_t>(ranges.size()));
}

}  // namespace attendant::engine
