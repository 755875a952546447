#ifndef ATTENDANT_ENGINE_IMAGE_IMAGE_H_
#define ATTENDANT_ENGINE_IMAGE_IMAGE_H_

#include <cstdint>
#include <vector>

namespace attendant::engine {

struct ImageSize {
  int32_t height = 0;
  int32_t width = 0;

  bool operator==(const ImageSize&) const = default;
};

// Pixels of 8-bit RGB, row by row from the top: [height, width, 3].
struct Image {
  static constexpr int32_t kChannels = 3;

  Image() = default;
  explicit Image(ImageSize size)
      : size(size), pixels(int64_t{size.height} * size.width * kChannels) {}

  uint8_t* row(int32_t y) { return pixels.data() + int64_t{y} * size.width * kChannels; }
  const uint8_t* row(int32_t y) const {
    return pixels.data() + int64_t{y} * size.width * kChannels;
  }

  ImageSize size;
  std::vector<uint8_t> pixels;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_IMAGE_H_
