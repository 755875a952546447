#ifndef ATTENDANT_ENGINE_TOKENIZER_STREAM_DECODER_H_
#define ATTENDANT_ENGINE_TOKENIZER_STREAM_DECODER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// Decodes a growing sequence of tokens into text, token by token. What it gives is always whole
// UTF-8: the bytes of a character of which a part has yet to come are held back, and so is whatever
// else depends on the next token. The cost of a token does not grow with the length of the
// sequence.
//
// All that it gave, joined, and the remainder of Finish() equal Tokenizer::Decode of `context` and
// all the tokens, without what was certain after `context` alone; with no context,
// Tokenizer::Decode of all the tokens.
//
// One for each sequence; not thread-safe.
class StreamDecoder {
 public:
  // `context`: the tokens before the first one to decode (the prompt's last few are enough), so
  // that a token which begins a word gets its space. `tokenizer` must outlive this.
  StreamDecoder(const Tokenizer& tokenizer, absl::Span<const int32_t> context,
                bool skip_special_tokens);

  // The text that became certain with `id`; often empty. `id` is within the vocabulary.
  std::string Push(int32_t id) { return decoding_->Push(id); }

  // The text still held back; an incomplete character becomes U+FFFD.
  std::string Finish() { return decoding_->Finish(); }

 private:
  std::unique_ptr<Decoding> decoding_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_STREAM_DECODER_H_
