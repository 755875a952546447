#include "engine/tokenizer/pattern.h"

#include "engine/base/status_macros.h"

namespace attendant::engine {

absl::StatusOr<Pattern> Pattern::Create(const JsonValue& json) {
  absl::string_view expression;  // if empty, it matches between all characters
  if (const auto literal = json.Find("String")) {
    constexpr size_t kMaxBytes = 4096;
    ASSIGN_OR_RETURN(const absl::string_view text, literal->String());
    if (text.size() > kMaxBytes) return literal->Error("is longer than 4096 bytes");
    if (!text.empty()) return Pattern(text);
  } else {
    ASSIGN_OR_RETURN(expression, json.String("Regex"));
  }
  absl::StatusOr<std::unique_ptr<Regex>> regex = Regex::Create(expression);
  if (!regex.ok()) return json.Annotate(regex.status());
  return Pattern(*std::move(regex));
}

absl::Status Pattern::FindAll(absl::string_view text, absl::Time deadline,
                              std::vector<ByteRange>& matches) const {
  if (text.empty()) return absl::OkStatus();
  if (regex_ != nullptr) return regex_->FindAll(text, deadline, matches);
  for (size_t at = text.find(literal_); at != absl::string_view::npos;
       at = text.find(literal_, at)) {
    const size_t end = at + literal_.size();
    matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(end)});
    at = end;
  }
  return absl::OkStatus();
}

}  // namespace attendant::engine
