#ifndef ATTENDANT_ENGINE_TOKENIZER_ADDED_TOKENS_H_
#define ATTENDANT_ENGINE_TOKENIZER_ADDED_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/model.h"
#include "engine/tokenizer/normalized_string.h"
#include "engine/tokenizer/normalizers.h"
#include "engine/tokenizer/token_trie.h"

namespace attendant::engine {

struct AddedToken {
  std::string content;
  bool single_word = false;  // matches only where no word character is next to it
  bool lstrip = false;       // takes the whitespace before it
  bool rstrip = false;       // takes the whitespace behind it
  bool normalized = false;   // is looked for in the normalized text, in its normalized form
  bool special = false;      // is left out when decoding
};

// {"content": "<mask>", "lstrip": true, ...}: an entry of `added_tokens`, without its id.
absl::StatusOr<AddedToken> ParseAddedToken(const JsonValue& json);

// The `added_tokens` of a tokenizer.json; their ids there are not used, see AddedTokens.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const JsonValue& json);

// Tokens that are looked for in the text before the pre-tokenizer sees it, each as a whole.
// Immutable; any thread.
class AddedTokens {
 public:
  // A token of the model keeps its id; others get the ids behind the model's, in order.
  // `normalizer` may be null; neither it nor `model` is needed later.
  static absl::StatusOr<AddedTokens> Create(const std::vector<AddedToken>& tokens,
                                            const Model& model, const Normalizer* normalizer);

  // Looks for the tokens in `text`, normalizes what lies between them, and looks for the normalized
  // tokens there.
  absl::StatusOr<PreTokenizedString> ExtractAndNormalize(absl::string_view text,
                                                         const Normalizer* normalizer) const;

  std::optional<int32_t> IdOf(absl::string_view token) const;
  // Null if `id` is not an added token.
  const AddedToken* Find(int32_t id) const;
  bool IsSpecial(absl::string_view token) const { return special_.contains(token); }
  // One more than the largest id, or 0.
  int32_t end_id() const { return end_id_; }

 private:
  // A part of a text: an added token, or (-1) what lies between two.
  struct Part {
    ByteRange range;
    int32_t token_id;
  };
  std::vector<Part> Split(absl::string_view text, const TokenTrie& trie) const;

  AddedTokens() : trie_({}), normalized_trie_({}) {}

  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<int32_t, AddedToken> tokens_;
  absl::flat_hash_set<std::string> special_;
  int32_t end_id_ = 0;
  TokenTrie trie_;             // of those that are looked for in the text as it is
  TokenTrie normalized_trie_;  // of the others
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_ADDED_TOKENS_H_
