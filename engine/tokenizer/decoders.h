#ifndef ATTENDANT_ENGINE_TOKENIZER_DECODERS_H_
#define ATTENDANT_ENGINE_TOKENIZER_DECODERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"

namespace attendant::engine {

// One step of turning tokens back into text, as it runs: it is given tokens piece by piece, and
// gives tokens on. What it gives is whole UTF-8, at once where it can; what depends on tokens to
// come it holds back.
class DecodingStep {
 public:
  virtual ~DecodingStep() = default;

  // More of the current token.
  virtual void Text(absl::string_view text) = 0;
  // The current token is complete; the next one begins. A token may be empty.
  virtual void EndToken() = 0;
  // There are no more tokens.
  virtual void Finish() { next_->Finish(); }

  // Where the tokens go; must be set first, and outlive this.
  void set_next(DecodingStep* next) { next_ = next; }

 protected:
  DecodingStep& next() { return *next_; }

 private:
  DecodingStep* next_ = nullptr;
};

// The last stage, which Decode runs: makes the steps of a decoding. Immutable; any thread.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // Appends fresh steps to `steps`; the caller links them.
  virtual void AddSteps(std::vector<std::unique_ptr<DecodingStep>>& steps) const = 0;
};

// The decoder that `json` describes. UNIMPLEMENTED names a type that is not known.
absl::StatusOr<std::unique_ptr<Decoder>> CreateDecoder(const JsonValue& json);

// Tokens without their "##", with a space before those that have none; with `cleanup`, none before
// punctuation.
std::unique_ptr<Decoder> CreateWordPieceDecoder(absl::string_view prefix, bool cleanup);

// The bytes that the characters of the tokens stand for, as UTF-8.
std::unique_ptr<Decoder> CreateByteLevelDecoder();

// SentencePiece's: U+2581 is a space, <0x..> a byte; with `strip_space`, without the space that
// starts the text.
std::unique_ptr<Decoder> CreateSentencePieceDecoder(bool strip_space);

// What is done without a decoder: tokens with a space between them.
std::unique_ptr<Decoder> CreateJoiningDecoder();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_DECODERS_H_
