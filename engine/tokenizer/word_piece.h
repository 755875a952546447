#ifndef ATTENDANT_ENGINE_TOKENIZER_WORD_PIECE_H_
#define ATTENDANT_ENGINE_TOKENIZER_WORD_PIECE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/model.h"

namespace attendant::engine {

struct WordPieceModelOptions {
  std::string unknown_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;
};

// The longest token that a piece starts with, then the longest of those with the prefix "##" that
// the rest starts with, and so on; all of the piece is unknown if that does not work out.
absl::StatusOr<std::unique_ptr<Model>> CreateWordPiece(Vocabulary vocabulary,
                                                       const WordPieceModelOptions& options);
absl::StatusOr<std::unique_ptr<Model>> CreateWordPiece(const JsonValue& json);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_WORD_PIECE_H_
