// A picture of any bytes: an error, or an image that can be made into patches.

#include <cstdint>

#include "absl/log/check.h"
#include "absl/strings/string_view.h"
#include "engine/image/decode_image.h"
#include "engine/image/image_processor.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using attendant::engine::ImageProcessor;
  using attendant::engine::Resampling;
  constexpr int64_t kMaxPixels = 1 << 20;
  const auto image = attendant::engine::DecodeImage(
      absl::string_view(reinterpret_cast<const char*>(data), size), kMaxPixels);
  if (!image.ok()) return 0;
  CHECK_EQ(image->pixels.size(), int64_t{3} * image->size.height * image->size.width);
  CHECK_LE(int64_t{image->size.height} * image->size.width, kMaxPixels);
  const auto images = ImageProcessor::Create(
      {.shortest_edge = 18, .resampling = Resampling::kBicubic, .crop_size = {16, 16}}, {16, 16},
      {4, 4});
  CHECK_OK(images.status());
  const auto resized = images->Resize(*image);
  CHECK_OK(resized.status());
  CHECK_EQ(images->Patches(*resized).size(), 16 * 3 * 16);
  return 0;
}
