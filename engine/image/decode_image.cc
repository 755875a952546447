#include "engine/image/decode_image.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/image/decoders.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);
constexpr absl::string_view kJpegSignature("\xff\xd8\xff", 3);

// How files of other formats begin, from byte `offset` on.
struct Signature {
  absl::string_view format;
  size_t offset;
  absl::string_view bytes;
};
constexpr Signature kOtherFormats[] = {
    {"WebP", 8, "WEBP"},
    {"GIF", 0, "GIF8"},
    {"BMP", 0, "BM"},
    {"TIFF", 0, absl::string_view("II*\0", 4)},
    {"TIFF", 0, absl::string_view("MM\0*", 4)},
    {"AVIF", 4, "ftypavif"},
    {"HEIC", 4, "ftyphei"},
    {"HEIC", 4, "ftypmif1"},
    {"JPEG 2000", 4, "jP  \r\n"},
    {"JPEG XL", 4, "JXL \r\n"},
    {"JPEG XL", 0, "\xff\x0a"},
    {"Photoshop", 0, "8BPS"},
    {"icon", 0, absl::string_view("\0\0\1\0", 4)},
    {"PDF", 0, "%PDF-"},
    {"SVG", 0, "<svg"},
    {"XML", 0, "<?xml"},
};

absl::Status NotAnImage(absl::string_view file) {
  if (file.empty()) return absl::InvalidArgumentError("the image is empty");
  for (const Signature& signature : kOtherFormats) {
    if (file.size() > signature.offset &&
        absl::StartsWith(file.substr(signature.offset), signature.bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the image is a ", signature.format, " file; PNG and JPEG are read"));
    }
  }
  if (absl::StartsWith(kPngSignature, file) || absl::StartsWith(kJpegSignature, file)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image is cut off after ", file.size(), " bytes"));
  }
  return absl::InvalidArgumentError("the image is neither a PNG nor a JPEG file");
}

}  // namespace

absl::StatusOr<Image> DecodeImage(absl::string_view file, int64_t max_pixels) {
  const auto check_size = [max_pixels](int64_t width, int64_t height) {
    if (width > kMaxImageSide || height > kMaxImageSide) {
      return absl::InvalidArgumentError(absl::StrCat("the image has ", width, " x ", height,
                                                     " pixels; a side may have ", kMaxImageSide));
    }
    if (width * height > max_pixels) {
      return absl::InvalidArgumentError(absl::StrCat("the image has ", width, " x ", height,
                                                     " pixels; this server allows ", max_pixels,
                                                     " (--max_image_pixels)"));
    }
    return absl::OkStatus();
  };
  if (absl::StartsWith(file, kPngSignature)) return DecodePng(file, check_size);
  if (absl::StartsWith(file, kJpegSignature)) return DecodeJpeg(file, check_size);
  return NotAnImage(file);
}

}  // namespace attendant::engine
