#ifndef ATTENDANT_ENGINE_IMAGE_DECODE_IMAGE_H_
#define ATTENDANT_ENGINE_IMAGE_DECODE_IMAGE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/image/image.h"

namespace attendant::engine {

// The longest side of an image: what a JPEG can have.
inline constexpr int32_t kMaxImageSide = 65535;

// Decodes the bytes of a PNG or JPEG file to the pixels that transformers' load_image (Pillow's
// exif_transpose and convert("RGB")) makes of them: turned as their EXIF (of a JPEG also XMP)
// orientation says; grey spread to three channels; palettes looked up; alpha dropped, not blended;
// the high byte of 16-bit colours, but 16-bit grey cut off at 255, as Pillow does it; CMYK and YCCK
// taken for inverted, as Adobe writes them. Colour profiles and gamma are ignored. Of an animation
// the first picture.
//
// INVALID_ARGUMENT says what is wrong: another format (by its name), a file that is cut off or
// damaged, or more than `max_pixels` pixels or kMaxImageSide a side, which the header alone
// decides. Memory is at most 6 bytes a pixel, of a progressive JPEG 11; beside the size of the
// file. May be called from any thread.
absl::StatusOr<Image> DecodeImage(absl::string_view file, int64_t max_pixels);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_DECODE_IMAGE_H_
