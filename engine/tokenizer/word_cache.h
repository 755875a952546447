#ifndef ATTENDANT_ENGINE_TOKENIZER_WORD_CACHE_H_
#define ATTENDANT_ENGINE_TOKENIZER_WORD_CACHE_H_

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "engine/tokenizer/model.h"

namespace attendant::engine {

// Remembers the tokens of words, since a few thousand words make up most of any text. Its size is
// bounded: a word has one place, by its hash, and a newcomer takes it. Any thread.
class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  static bool IsCacheable(absl::string_view word) { return word.size() <= kMaxWordBytes; }

  // Appends the tokens of `word`; false if it is not there.
  bool Find(absl::string_view word, std::vector<Token>& tokens) const {
    const size_t slot = absl::HashOf(word) % kSlots;
    absl::MutexLock lock(&mutexes_[slot % kMutexes]);
    if (slots_[slot].word != word) return false;
    tokens.insert(tokens.end(), slots_[slot].tokens.begin(), slots_[slot].tokens.end());
    return true;
  }

  // Remembers that `word`, which is not empty, is tokens[first, end).
  void Insert(absl::string_view word, const std::vector<Token>& tokens, size_t first) {
    const size_t slot = absl::HashOf(word) % kSlots;
    absl::MutexLock lock(&mutexes_[slot % kMutexes]);
    slots_[slot].word.assign(word.data(), word.size());
    slots_[slot].tokens.assign(tokens.begin() + static_cast<ptrdiff_t>(first), tokens.end());
  }

 private:
  static constexpr size_t kSlots = 1 << 14;
  static constexpr size_t kMutexes = 64;
  static constexpr size_t kMaxWordBytes = 96;

  struct Slot {
    std::string word;
    std::vector<Token> tokens;
  };

  mutable std::array<absl::Mutex, kMutexes>
      mutexes_;  // mutexes_[i] guards slots i, i + kMutexes, ...
  std::vector<Slot> slots_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_WORD_CACHE_H_
