// In place of png_image.cc where ATTENDANT_PICTURES is off.

#include "client/pictures/png_image.h"

namespace attendant::client {

absl::StatusOr<std::string> PngImage(const AttentionPicture&) {
  return absl::UnimplementedError(
      "this `attendant` was built without Cairo, which draws PNG files; --html draws the same "
      "maps");
}

}  // namespace attendant::client
