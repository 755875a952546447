#ifndef ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_FOLDER_H_
#define ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_FOLDER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// A model's folder as Hugging Face has them, as far as tokenizers go.
struct TokenizerFolder {
  std::string path;        // how errors call it
  std::string model_type;  // config.json's; empty if it states none
  // The contents of a file of the folder; nothing if it is absent.
  absl::FunctionRef<absl::StatusOr<std::optional<std::string>>(absl::string_view name)> read;
};

// The tokenizer of the folder; null if it has none. A tokenizer.json comes first. Without it the
// family decides, which is tokenizer_config.json's tokenizer_class or else the model_type:
//
//   marian                     source.spm, vocab.json
//   m2m_100                    sentencepiece.bpe.model, vocab.json
//   xlm-roberta, mbart, NLLB   sentencepiece.bpe.model
//   t5, albert                 spiece.model
//   others                     tokenizer.model
//   mpnet, bert, others        vocab.txt
//   roberta, bart, others      vocab.json, merges.txt
//
// SentencePiece files are encoded as SentencePiece itself does. tokenizer_config.json also gives
// the options of the family, names of special tokens, added tokens, and the languages of sources
// and targets where none are asked for. Errors name the file.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSourceTokenizer(const TokenizerFolder& folder);

// The tokenizer of what an encoder-decoder writes, from target_tokenizer.json, or Marian's from
// target.spm and, with separate_vocabs, target_vocab.json; null if it is that of the sources.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTargetTokenizer(const TokenizerFolder& folder);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_FOLDER_H_
