#ifndef ATTENDANT_ENGINE_IMAGE_ORIENTATION_H_
#define ATTENDANT_ENGINE_IMAGE_ORIENTATION_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "engine/image/image.h"

namespace attendant::engine {

// The Orientation (1 to 8) of `exif`, the TIFF structure of an EXIF block, from its byte-order mark
// on; nothing if it has none, or is malformed: metadata is no reason to refuse an image. CIPA
// DC-008, "Exchangeable image file format".
std::optional<int> OrientationOfExif(absl::string_view exif);

// The same of an XMP packet, searched for as text: tiff:Orientation="N" or <tiff:Orientation>N.
std::optional<int> OrientationOfXmp(absl::string_view xmp);

// The image as it is to be seen: turned and mirrored as `orientation` says; as it is for 1 and for
// what is not from 1 to 8.
Image Reorient(Image image, int orientation);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_ORIENTATION_H_
