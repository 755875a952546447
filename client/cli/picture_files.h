#ifndef ATTENDANT_CLIENT_CLI_PICTURE_FILES_H_
#define ATTENDANT_CLIENT_CLI_PICTURE_FILES_H_

#include "absl/status/status.h"
#include "client/pictures/attention_picture.h"

namespace attendant::client {

// Whether --html or --png asks for a file.
bool WritesPictures();

// Draws `picture` into the files that --html and --png name. INVALID_ARGUMENT if one cannot be
// written, or the picture would be too large.
absl::Status WritePictures(const AttentionPicture& picture);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_CLI_PICTURE_FILES_H_
