#ifndef ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECE_H_
#define ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/decoders.h"
#include "engine/tokenizer/model.h"
#include "engine/tokenizer/normalizers.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/sentence_pieces.h"

// SentencePiece's own way from text to pieces and back, to the letter: also where the tokenizers
// library, made from the same model, goes another way (grapheme clusters, sums in double
// precision).
namespace attendant::engine {

// Applies the rules, joins and strips spaces, writes them as U+2581, and puts one before the text.
// A character comes from the bytes that SentencePiece says: those of spaces that were dropped
// before it belong to the space that stayed.
std::unique_ptr<Normalizer> CreateSentencePieceNormalizer(
    std::shared_ptr<const SentencePieces> pieces);

// Unigram or BPE, as `pieces` says. A piece gets the id that `vocabulary` has for its spelling, and
// without one that of `unknown_token`. Unknown characters in a row are one token: of their spelling
// if `vocabulary` has that, else `unknown_token`; with byte_fallback, one for each byte, which
// covers the whole character.
// INVALID_ARGUMENT if `vocabulary` lacks `unknown_token`.
absl::StatusOr<std::unique_ptr<Model>> CreateSentencePieceModel(
    std::shared_ptr<const SentencePieces> pieces, Vocabulary vocabulary,
    absl::string_view unknown_token);

struct SentencePieceDecoderOptions {
  // Tokens that are no pieces: what lies between two of them is decoded as a text of its own.
  std::vector<std::string> special_tokens;
  absl::string_view after_special_token;  // written behind each of them; outlives the decoder
  bool spaces_in_unknown = false;         // U+2581 is a space in tokens that are no pieces, too
  bool strip = false;                     // the text loses the whitespace at its ends
};
std::unique_ptr<Decoder> CreateSentencePiecesDecoder(std::shared_ptr<const SentencePieces> pieces,
                                                     SentencePieceDecoderOptions options);

// Marian's: takes a language (">>fra<<") off the front of each piece of text, as the token that
// `languages` has for it, else `unknown_id`; `normalizer` is for what remains.
std::unique_ptr<PreTokenizer> CreateMarianPreTokenizer(
    absl::flat_hash_map<std::string, int32_t> languages, int32_t unknown_id,
    std::unique_ptr<Normalizer> normalizer);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECE_H_
