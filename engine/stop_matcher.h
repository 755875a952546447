#ifndef ATTENDANT_ENGINE_STOP_MATCHER_H_
#define ATTENDANT_ENGINE_STOP_MATCHER_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace attendant::engine {

// Finds stop strings in a text that comes in pieces, wherever the pieces are cut. Text that may be
// the beginning of a stop string is held back until that is decided. Of several stop strings, the
// one that is complete first ends the text; of those complete at once, the longest.
class StopMatcher {
 public:
  // None of `stops` is empty.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  struct Result {
    std::string text;                 // that became certain: no part of it belongs to a stop string
    std::optional<std::string> stop;  // that ended the text; nothing is to be pushed after it
  };
  Result Push(absl::string_view piece);

  // What is held back; the text ended otherwise.
  std::string Flush() { return std::exchange(held_, {}); }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_STOP_MATCHER_H_
