#ifndef ATTENDANT_CLIENT_PICTURES_PHOTOGRAPH_H_
#define ATTENDANT_CLIENT_PICTURES_PHOTOGRAPH_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/pictures/color_ramp.h"

namespace attendant::client {

// The pixels of an image, row by row from the top.
struct Photograph {
  int width = 0;
  int height = 0;
  std::vector<Rgb> pixels;

  Rgb At(int x, int y) const { return pixels[static_cast<size_t>(y) * width + x]; }
};

// Decodes a PNG or JPEG file, turned as it says it is to be seen. INVALID_ARGUMENT if it is none,
// is damaged, or has more than 50 million pixels.
absl::StatusOr<Photograph> ReadPhotograph(absl::string_view file);

}  // namespace attendant::client

#endif  // ATTENDANT_CLIENT_PICTURES_PHOTOGRAPH_H_
