#ifndef ATTENDANT_ENGINE_TOKENIZER_REGEX_H_
#define ATTENDANT_ENGINE_TOKENIZER_REGEX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace attendant::engine {

struct ByteRange {
  uint32_t begin = 0;
  uint32_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// A regular expression as tokenizer.json files write them: in the dialect of Oniguruma, which the
// reference library runs. It is rewritten for PCRE2, whose character classes differ (\s, \w, \h,
// \b, scripts, POSIX brackets).
//
// Immutable; any thread.
class Regex {
 public:
  // INVALID_ARGUMENT if PCRE2 does not take the pattern, UNIMPLEMENTED for what only Oniguruma has.
  static absl::StatusOr<std::unique_ptr<Regex>> Create(absl::string_view pattern);
  ~Regex();

  // All matches in `text`, valid UTF-8, from left to right. An empty match directly behind the
  // previous one is left out. A pattern that backtracks without bounds, or has not come to an end
  // by `deadline`, is INVALID_ARGUMENT.
  absl::Status FindAll(absl::string_view text, absl::Time deadline,
                       std::vector<ByteRange>& matches) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  Regex(std::string pattern, std::unique_ptr<Code> code);

  std::string pattern_;
  std::unique_ptr<Code> code_;
};

// The same pattern for PCRE2 with UTF, UCP, MULTILINE and ALT_EXTENDED_CLASS. Visible for tests.
absl::StatusOr<std::string> OnigurumaToPcre2(absl::string_view pattern);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_REGEX_H_
