#ifndef ATTENDANT_ENGINE_IMAGE_DECODERS_H_
#define ATTENDANT_ENGINE_IMAGE_DECODERS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/image/image.h"

namespace attendant::engine {

// DecodeImage's two halves: libpng and libjpeg are known to these alone.

// OK if an image of so many pixels may be decoded; asked as soon as the header is read.
using CheckImageSize = absl::FunctionRef<absl::Status(int64_t width, int64_t height)>;

absl::StatusOr<Image> DecodePng(absl::string_view file, CheckImageSize check_size);
absl::StatusOr<Image> DecodeJpeg(absl::string_view file, CheckImageSize check_size);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_DECODERS_H_
