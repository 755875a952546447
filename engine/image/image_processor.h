#ifndef ATTENDANT_ENGINE_IMAGE_IMAGE_PROCESSOR_H_
#define ATTENDANT_ENGINE_IMAGE_IMAGE_PROCESSOR_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/image/image.h"
#include "engine/image/resample.h"

namespace attendant::engine {

// What becomes of the pixels of an image before a model sees them, as preprocessor_config.json says
// it; in this order.
struct ImageProcessorOptions {
  // Resized to `size`, or, if that is empty, so that the shorter side has `shortest_edge` pixels;
  // if that is 0, not at all.
  ImageSize size;
  int32_t shortest_edge = 0;
  Resampling resampling = Resampling::kBilinear;

  // Its middle, cut out; black around it where the image is smaller. Empty: all of it.
  ImageSize crop_size;

  // Each value times rescale_factor, then less the mean of its channel and over its deviation.
  float rescale_factor = 1;
  std::array<float, Image::kChannels> mean = {0, 0, 0};
  std::array<float, Image::kChannels> std = {1, 1, 1};
};

// Turns images into what a vision model reads: patches. Immutable; any thread may use it.
class ImageProcessor {
 public:
  // An image becomes image_size pixels, which patches of patch_size cover from the top left; what
  // is left over at the right and the bottom is not looked at. INVALID_ARGUMENT if `options` make
  // images of another size, or patches are larger than images.
  static absl::StatusOr<ImageProcessor> Create(const ImageProcessorOptions& options,
                                               ImageSize image_size, ImageSize patch_size);

  ImageSize image_size() const { return image_size_; }
  ImageSize patch_size() const { return patch_size_; }
  // Rows and columns of patches.
  ImageSize grid() const {
    return {image_size_.height / patch_size_.height, image_size_.width / patch_size_.width};
  }
  int32_t num_patches() const { return grid().height * grid().width; }
  // Of the patches of one image.
  int64_t patch_bytes() const {
    return int64_t{num_patches()} * Image::kChannels * patch_size_.height * patch_size_.width *
           int64_t{sizeof(float)};
  }

  // `image`, resized and cropped to image_size(). INVALID_ARGUMENT if images are not resized and
  // this one has another size.
  absl::StatusOr<Image> Resize(const Image& image) const;

  // The patches of an image of image_size(), row by row, rescaled and normalized: [num_patches,
  // 3 * patch height * patch width], the values of one patch in the order [channel, row, column].
  std::vector<float> Patches(const Image& image) const;

  // Both, of an encoded file. Errors as DecodeImage and Resize.
  absl::StatusOr<std::vector<float>> Process(absl::string_view file, int64_t max_pixels) const;

 private:
  ImageProcessor(const ImageProcessorOptions& options, ImageSize image_size, ImageSize patch_size);

  ImageProcessorOptions options_;
  ImageSize image_size_;
  ImageSize patch_size_;
  std::array<std::array<float, 256>, Image::kChannels> values_;  // of each byte
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_IMAGE_PROCESSOR_H_
