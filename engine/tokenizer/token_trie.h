#ifndef ATTENDANT_ENGINE_TOKENIZER_TOKEN_TRIE_H_
#define ATTENDANT_ENGINE_TOKENIZER_TOKEN_TRIE_H_

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace attendant::engine {

// Tokens by their bytes, to find all those that a text starts with.
//
// The children of a node lie next to each other, ordered by byte; so a node is nine bytes, and a
// step a short search.
class TokenTrie {
 public:
  // A longer token is left out by the callers: the work for each byte of a text is bounded by the
  // longest token.
  static constexpr size_t kMaxTokenBytes = 1024;

  // The tokens need not outlive the constructor. Of equal ones the last is kept. No token is empty.
  explicit TokenTrie(std::vector<std::pair<absl::string_view, int32_t>> tokens);

  // Calls `visit(length, value)` for each token that `text` starts with, the shortest first.
  template <typename Visit>
  void VisitPrefixes(absl::string_view text, Visit visit) const {
    if (text.empty()) return;
    uint32_t node = roots_[static_cast<uint8_t>(text[0])];
    for (size_t length = 1; node != 0; ++length) {
      if (values_[node] >= 0) visit(length, values_[node]);
      if (length == text.size()) return;
      node = Child(node, static_cast<uint8_t>(text[length]));
    }
  }

 private:
  // The child of `node` at `byte`; 0, which is nobody's child, if there is none.
  uint32_t Child(uint32_t node, uint8_t byte) const {
    uint32_t low = first_child_[node];
    uint32_t high = first_child_[node + 1];
    while (high - low > 8) {
      const uint32_t middle = low + (high - low) / 2;
      if (bytes_[middle] <= byte) {
        low = middle;
      } else {
        high = middle;
      }
    }
    for (; low < high; ++low) {
      if (bytes_[low] == byte) return low;
    }
    return 0;
  }

  std::array<uint32_t, 256> roots_{};
  std::vector<uint32_t> first_child_;  // by node; those of node n end where those of n + 1 start
  std::vector<uint8_t> bytes_;         // by node: the last byte of what it spells
  std::vector<int32_t> values_;        // by node: the token that ends there, or -1
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_TOKEN_TRIE_H_
