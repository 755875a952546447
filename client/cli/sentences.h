#ifndef ATTENDANT_CLIENT_CLI_SENTENCES_H_
#define ATTENDANT_CLIENT_CLI_SENTENCES_H_

#include <vector>

#include "absl/strings/string_view.h"

namespace attendant::client {

// The sentences of one line of text, in order, without the white space around them; together with
// that they are the whole line. None if it is blank.
//
// A sentence ends behind . ! ? … and their like in other scripts, and the quotes and brackets that
// close there, where white space follows that no lower-case letter comes after; behind the
// full-width marks of Chinese and Japanese it ends at once. A full stop does not end it after a
// title (Dr.), an initial (J.), an abbreviation with stops inside (e.g.) or a number of one or two
// digits, as in "3. Oktober": two sentences in one are translated well, half a sentence is not.
std::vector<absl::string_view> SplitSentences(absl::string_view line);

// Whether `text` ends with a full-width mark, behind which no space is written.
bool EndsInFullWidthMark(absl::string_view text);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_SENTENCES_H_
