#ifndef ATTENDANT_CLIENT_CLI_TERMINAL_PICTURE_H_
#define ATTENDANT_CLIENT_CLI_TERMINAL_PICTURE_H_

#include "client/pictures/attention_picture.h"

namespace attendant::client {

// Prints the maps to standard output, as wide as the terminal allows: a row for each query, weights
// in percent where there is room for numbers, else as shades. At most four maps of 64 rows; what is
// left out is said.
void DrawInTerminal(const AttentionPicture& picture);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_TERMINAL_PICTURE_H_
