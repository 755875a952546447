#include "engine/tokenizer/stream_decoder.h"

namespace attendant::engine {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, absl::Span<const int32_t> context,
                             bool skip_special_tokens)
    : decoding_(tokenizer.StartDecoding(skip_special_tokens)) {
  for (const int32_t id : context) decoding_->Push(id);
}

}  // namespace attendant::engine
