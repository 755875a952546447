#include "engine/tokenizer/tokenizer.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace attendant::engine {

absl::StatusOr<int32_t> Languages::IdOf(absl::string_view field, absl::string_view code) const {
  if (const auto language = ids.find(code); language != ids.end()) return language->second;
  constexpr size_t kMaxShownBytes = 64;
  std::string known;
  for (const auto& [name, id] : ids) absl::StrAppend(&known, known.empty() ? "" : ", ", name);
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is \"", absl::CHexEscape(code.substr(0, kMaxShownBytes)),
                   "\"; this model has ", ids.size(), " languages: ", known));
}

absl::StatusOr<Encoding> Tokenizer::EncodeSource(absl::string_view text,
                                                 absl::string_view source_language,
                                                 absl::string_view target_language) const {
  for (const auto& [field, code] :
       {std::pair("source_language", source_language), {"target_language", target_language}}) {
    if (code.empty()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is given, but this model takes no languages"));
  }
  return Encode(text, /*add_special_tokens=*/true);
}

}  // namespace attendant::engine
