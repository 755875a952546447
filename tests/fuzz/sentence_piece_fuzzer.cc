// A SentencePiece file and a text of any bytes: a byte that chooses the family, the length of the
// text, the text, and the file. Marian's folder has a vocab.json with it.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/tokenizer_folder.h"
#include "tests/fuzz/check_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr absl::string_view kFamilies[] = {"", "t5", "albert", "xlm-roberta", "mbart", "marian"};
  absl::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.size() < 2) return 0;
  const auto family = kFamilies[data[0] % std::size(kFamilies)];
  const absl::string_view text = input.substr(2, data[1]);
  const std::string file(input.substr(2 + text.size()));

  const auto read = [&](absl::string_view name) -> absl::StatusOr<std::optional<std::string>> {
    if (name == "vocab.json" && family == "marian")
      return R"({"</s>":0,"<unk>":1,"<pad>":2,">>fra<<":3,"\u2581hello":4,"w":5})";
    if (absl::EndsWith(name, ".model") || absl::EndsWith(name, ".spm")) return file;
    return std::nullopt;
  };
  const auto tokenizer =
      attendant::engine::ReadSourceTokenizer({"fuzz", std::string(family), read});
  if (tokenizer.ok() && *tokenizer != nullptr)
    attendant::testing::CheckTokenizer(**tokenizer, text);
  return 0;
}
