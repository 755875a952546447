#include "engine/image/image_processor.h"

#include <algorithm>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/image/decode_image.h"

namespace attendant::engine {
namespace {

constexpr ImageSize kEmpty = {};

std::string SizeString(ImageSize size) { return absl::StrCat(size.height, " x ", size.width); }

}  // namespace

absl::StatusOr<ImageProcessor> ImageProcessor::Create(const ImageProcessorOptions& options,
                                                      ImageSize image_size, ImageSize patch_size) {
  if (patch_size.height > image_size.height || patch_size.width > image_size.width) {
    return absl::InvalidArgumentError(absl::StrCat("patches of ", SizeString(patch_size),
                                                   " pixels do not fit into images of ",
                                                   SizeString(image_size)));
  }
  const ImageSize made = options.crop_size != kEmpty ? options.crop_size : options.size;
  if (made == kEmpty && options.shortest_edge > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("images are resized to a shortest edge of ", options.shortest_edge,
                     " pixels and not cropped; the model takes ", SizeString(image_size)));
  }
  if (made != kEmpty && made != image_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "images are made ", SizeString(made), " pixels; the model takes ", SizeString(image_size)));
  }
  return ImageProcessor(options, image_size, patch_size);
}

ImageProcessor::ImageProcessor(const ImageProcessorOptions& options, ImageSize image_size,
                               ImageSize patch_size)
    : options_(options), image_size_(image_size), patch_size_(patch_size) {
  for (int c = 0; c < Image::kChannels; ++c) {
    for (int value = 0; value < 256; ++value) {
      values_[c][value] = static_cast<float>(
          (double{options.rescale_factor} * value - double{options.mean[c]}) / options.std[c]);
    }
  }
}

absl::StatusOr<Image> ImageProcessor::Resize(const Image& image) const {
  ImageSize size = options_.size;
  if (options_.shortest_edge > 0) {
    const auto [shorter, longer] = std::minmax(image.size.height, image.size.width);
    const auto new_longer =
        static_cast<int32_t>(int64_t{options_.shortest_edge} * longer / shorter);
    size = image.size.height <= image.size.width ? ImageSize{options_.shortest_edge, new_longer}
                                                 : ImageSize{new_longer, options_.shortest_edge};
  } else if (size == kEmpty) {
    size = image.size;
  }
  const ImageSize crop = options_.crop_size != kEmpty ? options_.crop_size : size;
  if (crop != image_size_) {
    return absl::InvalidArgumentError(absl::StrCat("the image has ", SizeString(image.size),
                                                   " pixels, height by width; this model takes ",
                                                   SizeString(image_size_)));
  }

  // Along an axis: where the crop begins in the resized image, and where that begins in the crop.
  const auto offsets = [](int32_t size, int32_t crop) {
    return size >= crop ? std::pair((size - crop) / 2, 0) : std::pair(0, (crop - size) / 2);
  };
  const auto [top, pad_top] = offsets(size.height, crop.height);
  const auto [left, pad_left] = offsets(size.width, crop.width);
  const ImageWindow window = {
      top, left, {std::min(size.height, crop.height), std::min(size.width, crop.width)}};
  Image resized = Resample(image, size, options_.resampling, window);
  if (window.size == crop) return resized;
  Image padded(crop);
  for (int32_t y = 0; y < window.size.height; ++y) {
    std::copy_n(resized.row(y), window.size.width * Image::kChannels,
                padded.row(pad_top + y) + pad_left * Image::kChannels);
  }
  return padded;
}

std::vector<float> ImageProcessor::Patches(const Image& image) const {
  CHECK(image.size == image_size_);
  std::vector<float> patches(int64_t{num_patches()} * Image::kChannels * patch_size_.height *
                             patch_size_.width);
  float* out = patches.data();
  for (int32_t top = 0; top + patch_size_.height <= image_size_.height; top += patch_size_.height) {
    for (int32_t left = 0; left + patch_size_.width <= image_size_.width;
         left += patch_size_.width) {
      for (int c = 0; c < Image::kChannels; ++c) {
        for (int32_t y = top; y < top + patch_size_.height; ++y) {
          const uint8_t* from = image.row(y) + int64_t{left} * Image::kChannels + c;
          for (int32_t x = 0; x < patch_size_.width; ++x, from += Image::kChannels) {
            *out++ = values_[c][*from];
          }
        }
      }
    }
  }
  return patches;
}

absl::StatusOr<std::vector<float>> ImageProcessor::Process(absl::string_view file,
                                                           int64_t max_pixels) const {
  Image resized;
  {
    ASSIGN_OR_RETURN(const Image image, DecodeImage(file, max_pixels));
    ASSIGN_OR_RETURN(resized, Resize(image));
  }
  return Patches(resized);
}

}  // namespace attendant::engine
