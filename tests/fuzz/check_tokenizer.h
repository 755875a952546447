#ifndef ATTENDANT_TESTS_FUZZ_CHECK_TOKENIZER_H_
#define ATTENDANT_TESTS_FUZZ_CHECK_TOKENIZER_H_

#include <cstdint>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::testing {

// What holds for any tokenizer and any text that it takes: the offsets lie in the text, and the ids
// can be decoded at once and one by one, with the same result.
inline void CheckTokenizer(const engine::Tokenizer& tokenizer, absl::string_view text) {
  const auto encoding = tokenizer.Encode(text, /*add_special_tokens=*/true);
  if (!encoding.ok()) return;
  for (const auto& range : encoding->offsets) {
    CHECK_LE(0, range.begin);
    CHECK_LE(range.begin, range.end);
    CHECK_LE(range.end, static_cast<int64_t>(text.size()));
  }
  const auto decoded = tokenizer.Decode(encoding->ids, /*skip_special_tokens=*/false);
  CHECK_OK(decoded.status());
  const auto decoding = tokenizer.StartDecoding(/*skip_special_tokens=*/false);
  std::string streamed;
  for (const int32_t id : encoding->ids) streamed += decoding->Push(id);
  streamed += decoding->Finish();
  CHECK_EQ(streamed, *decoded);
}

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_FUZZ_CHECK_TOKENIZER_H_
