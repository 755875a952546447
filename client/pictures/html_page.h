#ifndef ATTENDANT_CLIENT_PICTURES_HTML_PAGE_H_
#define ATTENDANT_CLIENT_PICTURES_HTML_PAGE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/pictures/attention_picture.h"

namespace attendant::client {

// The most that a page may have: what browsers still open at once.
inline constexpr int64_t kMaxPageBytes = int64_t{64} << 20;

// One HTML page that draws `picture` by itself: it chooses layers and heads, shows the value under
// the pointer, and loads nothing from anywhere, whatever the tokens spell. Weights have 16 bits.
// INVALID_ARGUMENT if it would have more than kMaxPageBytes, and says what makes it smaller.
absl::StatusOr<std::string> HtmlPage(const AttentionPicture& picture);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_HTML_PAGE_H_
