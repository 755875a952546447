#ifndef ATTENDANT_ENGINE_IMAGE_RESAMPLE_H_
#define ATTENDANT_ENGINE_IMAGE_RESAMPLE_H_

#include <cstdint>

#include "engine/image/image.h"

namespace attendant::engine {

// Filters, by the numbers that Pillow and preprocessor_config.json give them.
enum class Resampling : uint8_t {
  kNearest = 0,
  kLanczos = 1,  // sinc(x) sinc(x/3) within 3 pixels
  kBilinear = 2,
  kBicubic = 3,  // Keys, "Cubic convolution interpolation", 1981, with a = -1/2
  kBox = 4,
  kHamming = 5,
};

// A part of an image: rows [top, top + size.height), columns [left, left + size.width).
struct ImageWindow {
  int32_t top = 0;
  int32_t left = 0;
  ImageSize size;
};

// `image` resized to `size`, of which only `window` (within it) is computed. Where an image shrinks
// the filter is stretched to cover all of its pixels, and weights are rounded to 22 bits, sums to
// bytes after the horizontal and after the vertical pass: byte for byte what Pillow's Image.resize
// gives, but for an image that becomes wider and flatter: there Pillow takes the vertical pass
// first, and torchvision, which transformers takes by itself, does not. Sides are at least 1; of
// `image` at most 65535. Memory: rows of the image that the window needs, as wide as the window;
// and 48 bytes for each pixel along a side at most.
Image Resample(const Image& image, ImageSize size, Resampling filter, const ImageWindow& window);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_RESAMPLE_H_
