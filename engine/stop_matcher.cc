#include "engine/stop_matcher.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace attendant::engine {

StopMatcher::Result StopMatcher::Push(absl::string_view piece) {
  std::string text = Flush();
  text.append(piece.data(), piece.size());

  const std::string* match = nullptr;
  size_t match_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < match_end || (end == match_end && stop.size() > match->size())) {
      match = &stop;
      match_end = end;
    }
  }
  if (match != nullptr) {
    text.erase(match_end - match->size());
    return {std::move(text), *match};
  }

  size_t num_held = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, text.size()); length > num_held; --length) {
      if (!absl::EndsWith(text, absl::string_view(stop).substr(0, length))) continue;
      num_held = length;
      break;
    }
  }
  held_ = text.substr(text.size() - num_held);
  text.erase(text.size() - num_held);
  return {std::move(text), std::nullopt};
}

}  // namespace attendant::engine
