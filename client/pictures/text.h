#ifndef ATTENDANT_CLIENT_PICTURES_TEXT_H_
#define ATTENDANT_CLIENT_PICTURES_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace attendant::client {

// Text that others wrote - models, users, servers - made fit to be shown.

// `text` on one line: control characters as escapes ("\n", "\u202e"), bytes that are not UTF-8 as
// "\xff", so that nothing a model says can steer the terminal.
std::string Printable(absl::string_view text);

// The beginning of `text` that fits into `width` columns, with an ellipsis if that is not all.
std::string Shortened(absl::string_view text, int width);

// `text` with spaces to fill `width` columns: behind it, or before it if `to_right`.
std::string Padded(absl::string_view text, int width, bool to_right = false);

// Columns that `text`, which is Printable, takes on the screen: two for a wide character, none for
// a combining one.
int WidthOf(absl::string_view text);

// The characters of `text`, which is Printable: each with the marks that combine with it.
std::vector<std::string> SplitCharacters(absl::string_view text);

// The first character of `text`, which is not empty; a byte that is not UTF-8 is one too.
absl::string_view FirstCharacter(absl::string_view text);

// What the first character of `text` is.
bool IsLetter(absl::string_view text);
bool IsLowerCase(absl::string_view text);

// `text` as a JSON string, quotes included, that is safe inside an HTML script element too: no "<"
// stands in it. Bytes that are not UTF-8 become U+FFFD.
std::string JsonString(absl::string_view text);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_TEXT_H_
