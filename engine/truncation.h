#ifndef ATTENDANT_ENGINE_TRUNCATION_H_
#define ATTENDANT_ENGINE_TRUNCATION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// Cuts `encoding` to the smaller of `limit` tokens and truncation.max_tokens, as the reference's
// tokenizers do: special tokens stay, and of a pair the longer text is cut first. Nothing happens
// to one that fits. INVALID_ARGUMENT, naming both lengths, if it does not and truncation.side is
// kNone, or if the special tokens alone do not fit. `what` it is that has the limit ends the
// message: "the model takes".
absl::Status Truncate(const Truncation& truncation, int64_t limit, absl::string_view what,
                      Encoding& encoding);

// The same for a pair of which only the second text may be cut, and keeps a token at least.
absl::Status TruncateSecond(const Truncation& truncation, int64_t limit, absl::string_view what,
                            Encoding& encoding);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TRUNCATION_H_
