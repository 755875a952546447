#ifndef ATTENDANT_CLIENT_PICTURES_PNG_IMAGE_H_
#define ATTENDANT_CLIENT_PICTURES_PNG_IMAGE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/pictures/attention_picture.h"

namespace attendant::client {

// The most pixels that a picture may have.
inline constexpr int64_t kMaxPngPixels = int64_t{100} << 20;

// A PNG file with every map of `picture` under its name, layers from top to bottom and heads from
// left to right where there are several of both; the tokens on the outer axes where they have room,
// and the colours' values beside. Of an image, each map is what the first query, [CLS], attends to,
// over the patches; several queries, the mean of them.
//
// INVALID_ARGUMENT if that is more than kMaxPngPixels, or the image cannot be read. UNIMPLEMENTED
// in a program that was built without ATTENDANT_PICTURES.
absl::StatusOr<std::string> PngImage(const AttentionPicture& picture);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_PNG_IMAGE_H_
