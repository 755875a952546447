#include "client/pictures/photograph.h"

#include <cairo.h>

#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace attendant::client {
namespace {

constexpr int64_t kMaxPixels = 50'000'000;

int64_t BigEndian(absl::string_view bytes) {
  int64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

}  // namespace

absl::StatusOr<Photograph> ReadPhotograph(absl::string_view file) {
  static constexpr size_t kHeaderBytes = 24;  // to the end of the size
  if (!absl::StartsWith(file, "\x89PNG\r\n\x1a\n") || file.size() < kHeaderBytes) {
    return absl::InvalidArgumentError(
        "--png draws over images that are PNG files; --html draws over JPEG files too");
  }
  const int64_t width = BigEndian(file.substr(16, 4));
  const int64_t height = BigEndian(file.substr(20, 4));
  if (width < 1 || height < 1 || width > kMaxPixels / height) {
    return absl::InvalidArgumentError(absl::StrCat("the image has ", width, " × ", height,
                                                   " pixels; at most ", kMaxPixels, " are drawn"));
  }
  cairo_surface_t* surface = cairo_image_surface_create_from_png_stream(
      [](void* from, unsigned char* data, unsigned int length) {
        auto& rest = *static_cast<absl::string_view*>(from);
        if (rest.size() < length) return CAIRO_STATUS_READ_ERROR;
        std::memcpy(data, rest.data(), length);
        rest.remove_prefix(length);
        return CAIRO_STATUS_SUCCESS;
      },
      &file);
  Photograph photograph;
  const bool is_good = cairo_surface_status(surface) == CAIRO_STATUS_SUCCESS;
  if (is_good) {
    photograph.width = cairo_image_surface_get_width(surface);
    photograph.height = cairo_image_surface_get_height(surface);
    for (int y = 0; y < photograph.height; ++y) {
      const uint8_t* row = cairo_image_surface_get_data(surface) +
                           static_cast<ptrdiff_t>(y) * cairo_image_surface_get_stride(surface);
      for (int x = 0; x < photograph.width; ++x)
        photograph.pixels.push_back({row[4 * x + 2], row[4 * x + 1], row[4 * x]});
    }
  }
  cairo_surface_destroy(surface);
  if (!is_good) return absl::InvalidArgumentError("the image is a damaged PNG file");
  return photograph;
}

}  // namespace attendant::client
