// A tokenizer.json of any bytes and, behind its first zero byte, a text of any bytes. If both are
// good, the offsets lie in the text, and the ids can be decoded at once and one by one, with the
// same result.

#include <cstdint>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end_of_json = input.find('\0');
  const absl::string_view json = input.substr(0, end_of_json);
  const absl::string_view text = end_of_json == input.npos ? "" : input.substr(end_of_json + 1);

  const auto tokenizer = attendant::engine::CreateTokenizer(json, "fuzz/tokenizer.json");
  if (!tokenizer.ok()) return 0;
  const auto encoding = (*tokenizer)->Encode(text, /*add_special_tokens=*/true);
  if (!encoding.ok()) return 0;
  for (const auto& range : encoding->offsets) {
    CHECK_LE(0, range.begin);
    CHECK_LE(range.begin, range.end);
    CHECK_LE(range.end, static_cast<int64_t>(text.size()));
  }

  const auto decoded = (*tokenizer)->Decode(encoding->ids, /*skip_special_tokens=*/false);
  CHECK_OK(decoded.status());
  const auto decoding = (*tokenizer)->StartDecoding(/*skip_special_tokens=*/false);
  std::string streamed;
  for (const int32_t id : encoding->ids) streamed += decoding->Push(id);
  streamed += decoding->Finish();
  CHECK_EQ(streamed, *decoded);
  return 0;
}
