#ifndef ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_PARTS_H_
#define ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_PARTS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

// The parts of a tokenizer from the files that describe it. Errors say what is wrong with the file,
// and leave its name to the caller.
namespace attendant::engine {

// Of a tokenizer.json.
absl::StatusOr<TokenizerParts> TokenizerJsonParts(absl::string_view json);

// Of a vocab.txt.
absl::StatusOr<TokenizerParts> WordPieceParts(absl::string_view vocab_txt,
                                              const WordPieceOptions& options);

AddedToken SpecialToken(absl::string_view content);

// Of vocab.json and merges.txt; by default as GPT-2's.
struct ByteLevelOptions {
  // RoBERTa's specials around texts.
  struct Frame {
    std::string cls_token;
    std::string sep_token;
    bool trim_offsets = true;
  };

  std::vector<AddedToken> special_tokens = {
      SpecialToken("<|endoftext|>")};  // if the vocabulary has them
  std::optional<Frame> frame;
  bool add_prefix_space = false;
};
absl::StatusOr<TokenizerParts> ByteLevelParts(absl::string_view vocab_json,
                                              absl::string_view merges_txt,
                                              const ByteLevelOptions& options);

// {"token": id, ...}; `file` is how errors call it.
absl::StatusOr<Vocabulary> ParseVocabulary(absl::string_view file, absl::string_view json);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_PARTS_H_
