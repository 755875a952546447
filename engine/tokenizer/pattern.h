#ifndef ATTENDANT_ENGINE_TOKENIZER_PATTERN_H_
#define ATTENDANT_ENGINE_TOKENIZER_PATTERN_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/regex.h"

namespace attendant::engine {

// What Split and Replace look for: {"String": "..."} or {"Regex": "..."}.
class Pattern {
 public:
  static absl::StatusOr<Pattern> Create(const JsonValue& json);
  explicit Pattern(std::unique_ptr<Regex> regex) : regex_(std::move(regex)) {}
  explicit Pattern(absl::string_view literal) : literal_(literal) {}

  // Appends all matches, from left to right. Fails as Regex::FindAll.
  absl::Status FindAll(absl::string_view text, absl::Time deadline,
                       std::vector<ByteRange>& matches) const;

  // The string that is looked for; empty for a regular expression.
  const std::string& literal() const { return literal_; }
  bool is_literal() const { return regex_ == nullptr; }

 private:
  std::string literal_;
  std::unique_ptr<Regex> regex_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_PATTERN_H_
