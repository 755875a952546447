#include "engine/image/orientation.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace attendant::engine {
namespace {

// Numbers of a TIFF structure; 0 where it ends before them.
class TiffReader {
 public:
  TiffReader(absl::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  uint32_t Number(size_t offset, size_t size) const {
    if (offset > bytes_.size() || bytes_.size() - offset < size) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t at = offset + (big_endian_ ? i : size - 1 - i);
      value = value << 8 | static_cast<uint8_t>(bytes_[at]);
    }
    return value;
  }

 private:
  absl::string_view bytes_;
  bool big_endian_;
};

std::optional<int> ValidOrientation(int64_t value) {
  if (value < 1 || value > 8) return std::nullopt;
  return static_cast<int>(value);
}

}  // namespace

std::optional<int> OrientationOfExif(absl::string_view exif) {
  const bool big_endian = absl::StartsWith(exif, "MM");
  if (!big_endian && !absl::StartsWith(exif, "II")) return std::nullopt;
  const TiffReader tiff(exif, big_endian);
  if (tiff.Number(2, 2) != 42) return std::nullopt;
  constexpr uint32_t kOrientation = 0x0112, kShort = 3, kLong = 4;
  constexpr size_t kEntryBytes = 12;
  const size_t directory = tiff.Number(4, 4);
  const uint32_t num_entries = tiff.Number(directory, 2);
  for (uint32_t i = 0; i < num_entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (entry + kEntryBytes > exif.size()) return std::nullopt;
    if (tiff.Number(entry, 2) != kOrientation) continue;
    const uint32_t type = tiff.Number(entry + 2, 2);
    if (type != kShort && type != kLong) return std::nullopt;
    return ValidOrientation(tiff.Number(entry + 8, type == kShort ? 2 : 4));
  }
  return std::nullopt;
}

std::optional<int> OrientationOfXmp(absl::string_view xmp) {
  constexpr absl::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != xmp.npos; at = xmp.find(kName, at + 1)) {
    absl::string_view value = xmp.substr(at + kName.size());
    if (!absl::ConsumePrefix(&value, "=\"") && !absl::ConsumePrefix(&value, ">")) continue;
    if (!value.empty() && value[0] >= '0' && value[0] <= '9') {
      return ValidOrientation(value[0] - '0');
    }
  }
  return std::nullopt;
}

Image Reorient(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const ImageSize from = image.size;
  const bool turns = orientation >= 5;  // rows become columns
  Image out(turns ? ImageSize{from.width, from.height} : from);
  // Which corner of the picture the first row and the first column of the file lie at.
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int32_t y = 0; y < out.size.height; ++y) {
    uint8_t* to = out.row(y);
    for (int32_t x = 0; x < out.size.width; ++x, to += Image::kChannels) {
      int32_t source_y = turns ? x : y;
      int32_t source_x = turns ? y : x;
      if (from_bottom) source_y = from.height - 1 - source_y;
      if (from_right) source_x = from.width - 1 - source_x;
      std::copy_n(image.row(source_y) + int64_t{source_x} * Image::kChannels, Image::kChannels, to);
    }
  }
  return out;
}

}  // namespace attendant::engine
