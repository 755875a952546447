#ifndef ATTENDANT_ENGINE_TEXT_INDEX_H_
#define ATTENDANT_ENGINE_TEXT_INDEX_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// Where the code points of a text are, so that its byte ranges can be told in both.
class TextIndex {
 public:
  explicit TextIndex(absl::string_view text);

  // The range is within the text.
  TextSpan Span(TextRange range) const;

 private:
  std::vector<int32_t> code_points_;  // before each byte, and before the end
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TEXT_INDEX_H_
