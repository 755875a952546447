#ifndef ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_H_
#define ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/gguf_vocabulary.h"

namespace attendant::engine {

// Where a token came from: a half-open range of bytes in the text that was given. Zero to zero for
// a token that the post-processor added.
struct TextRange {
  int32_t begin = 0;
  int32_t end = 0;
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

// The result of encoding; all vectors have one entry for each token.
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> type_ids;  // segment of each token: 0, or 1 for the second text of a pair
  std::vector<TextRange>
      offsets;  // within `text` for sequence 0, within `text_pair` for sequence 1
  std::vector<int8_t> sequence_ids;       // 0, 1, or -1 for a special token that was added
  std::vector<bool> special_tokens_mask;  // true for a token that the post-processor added

  int32_t num_tokens() const { return static_cast<int32_t>(ids.size()); }
};

// Tokens on their way into text, one after the other. One for each sequence; not thread-safe.
class Decoding {
 public:
  virtual ~Decoding() = default;

  // The text that became certain with `id`, whole UTF-8; often empty. `id` is within the
  // vocabulary.
  virtual std::string Push(int32_t id) = 0;

  // The text still held back; an incomplete character becomes U+FFFD. To be called once, last.
  virtual std::string Finish() = 0;
};

// The languages of a multilingual translator, and how its decoder is told which one to write.
struct Languages {
  enum class Target {
    kInSource,      // by a token at the start of the source: Marian's >>fra<<
    kDecoderStart,  // its token is what the decoder starts with, in place of the model's: mBART
    kFirstToken,    // its token is the first one generated, whatever the logits: M2M100, NLLB
  };

  absl::btree_map<std::string, int32_t> ids;  // "en", "eng_Latn", "en_XX" -> the language's token
  Target target = Target::kFirstToken;
  std::string default_source;  // of a source that is given none; empty if sources name no language
  std::string default_target;  // as tokenizer_config.json states it; empty if it does not

  // The token of `code`. INVALID_ARGUMENT, which starts with `field`, names the codes there are.
  absl::StatusOr<int32_t> IdOf(absl::string_view field, absl::string_view code) const;
};

// Text <-> token ids, exactly as the `tokenizers` library computes them from the same
// tokenizer.json: normalizer, pre-tokenizer, model (WordPiece, BPE, Unigram, WordLevel),
// post-processor, decoder, added tokens. Truncation and padding stated in the file are ignored:
// limits are the caller's.
//
// Immutable after creation; every method may be called from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // "WordPiece", "ByteLevelBPE", "BPE", "Unigram" or "WordLevel".
  virtual absl::string_view kind() const = 0;

  // One more than the largest id, added tokens included.
  virtual int32_t vocab_size() const = 0;

  // INVALID_ARGUMENT if `text` is not UTF-8. Time and memory are linear in the length of the text.
  virtual absl::StatusOr<Encoding> Encode(absl::string_view text,
                                          bool add_special_tokens) const = 0;
  virtual absl::StatusOr<Encoding> EncodePair(absl::string_view text, absl::string_view text_pair,
                                              bool add_special_tokens) const = 0;

  // The languages it takes; null for all but multilingual translators.
  virtual const Languages* languages() const { return nullptr; }

  // `text` as the source of a translation, with special tokens: what Encode gives, but for the
  // tokens of the languages. An empty code is the default's. INVALID_ARGUMENT names an unknown
  // code, or one given to a tokenizer that takes none there: source_language to Marian's, either to
  // any that has no languages. A target language is checked, and is in the result only if
  // languages()->target is kInSource.
  virtual absl::StatusOr<Encoding> EncodeSource(absl::string_view text,
                                                absl::string_view source_language,
                                                absl::string_view target_language) const;

  // How many special tokens the post-processor adds to a single text, and to a pair.
  virtual int32_t num_special_tokens(bool is_pair) const = 0;

  // The text of `ids`. INVALID_ARGUMENT names the first id outside the vocabulary. Bytes that do
  // not form UTF-8 become U+FFFD.
  virtual absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                             bool skip_special_tokens) const = 0;

  // Decode as it goes: the texts of Push and Finish, joined, are what Decode gives for all the ids.
  // The cost of a token does not grow with their number. The tokenizer must outlive the result.
  virtual std::unique_ptr<Decoding> StartDecoding(bool skip_special_tokens) const = 0;

  // The vocabulary's spelling of `id` ("##ing", "Ġthe", "▁the", "<0x0A>"); nothing if `id` is
  // outside the vocabulary.
  virtual std::optional<std::string> IdToToken(int32_t id) const = 0;
  virtual std::optional<int32_t> TokenToId(absl::string_view token) const = 0;

  // Whether `id` is an added token marked special ([CLS], <|im_end|>).
  virtual bool IsSpecial(int32_t id) const = 0;
};

// `json`: the contents of a tokenizer.json; `source` names it in errors. INVALID_ARGUMENT for what
// is malformed, UNIMPLEMENTED naming the part (`pre_tokenizer.type "Foo"`) for what is well formed
// and unknown.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizer(absl::string_view json,
                                                           absl::string_view source);

// A WordPiece tokenizer as BERT's, from a vocab.txt: one token a line.
struct WordPieceOptions {
  bool lowercase = true;
  std::optional<bool> strip_accents;  // unset: as lowercase
  bool tokenize_chinese_chars = true;
  std::string pad_token = "[PAD]";
  std::string unknown_token = "[UNK]";
  std::string cls_token = "[CLS]";
  std::string sep_token = "[SEP]";
  std::string mask_token = "[MASK]";
  bool mask_takes_space = false;  // the mask token takes the whitespace before it
  bool separates_twice = false;   // two separators between the texts of a pair: MPNet
};
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateWordPieceTokenizer(absl::string_view vocab_txt,
                                                                    const WordPieceOptions& options,
                                                                    absl::string_view source);

// A byte-level BPE tokenizer as GPT-2's, from vocab.json and merges.txt.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpeTokenizer(absl::string_view vocab_json,
                                                                       absl::string_view merges_txt,
                                                                       absl::string_view source);

// The tokenizer of a GGUF file.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateGgufTokenizer(const GgufVocabulary& vocabulary,
                                                               absl::string_view source);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_TOKENIZER_H_
