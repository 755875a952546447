#ifndef ATTENDANT_ENGINE_TOKENIZER_BYTE_PAIR_H_
#define ATTENDANT_ENGINE_TOKENIZER_BYTE_PAIR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/model.h"

namespace attendant::engine {

struct BytePairOptions {
  std::optional<std::string> unknown_token;  // without it, unknown characters vanish
  std::string continuing_subword_prefix;     // before every character of a piece but the first
  std::string end_of_word_suffix;            // behind the last one
  bool fuse_unknown = false;                 // neighbours that are unknown become one token
  bool byte_fallback = false;  // an unknown character becomes the tokens <0x..> of its bytes
  bool ignore_merges = false;  // a piece that is a token stays whole
};

// The left and the right part of each merge, the first to be applied first.
using Merges = std::vector<std::pair<std::string, std::string>>;

// Byte-pair encoding (Sennrich et al., 2016): a piece is cut into characters, and of all neighbours
// that may be merged the pair of the lowest rank is, the leftmost first, until none is left. With a
// heap that takes n log n steps.
//
// INVALID_ARGUMENT if a part of a merge, or what it makes, is not in the vocabulary.
absl::StatusOr<std::unique_ptr<Model>> CreateBytePair(Vocabulary vocabulary, const Merges& merges,
                                                      const BytePairOptions& options);
absl::StatusOr<std::unique_ptr<Model>> CreateBytePair(const JsonValue& json);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_BYTE_PAIR_H_
