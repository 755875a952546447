// A tokenizer.json of any bytes and, behind its first zero byte, a text of any bytes.

#include <cstdint>

#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/check_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end_of_json = input.find('\0');
  const absl::string_view json = input.substr(0, end_of_json);
  const absl::string_view text = end_of_json == input.npos ? "" : input.substr(end_of_json + 1);

  const auto tokenizer = attendant::engine::CreateTokenizer(json, "fuzz/tokenizer.json");
  if (tokenizer.ok()) attendant::testing::CheckTokenizer(**tokenizer, text);
  return 0;
}
