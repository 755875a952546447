#include "engine/image/decode_image.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/image/orientation.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/image/image_goldens.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kManyPixels = 1 << 20;

int LargestDifference(const Image& a, const Image& b) {
  int largest = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  }
  return largest;
}

TEST(DecodeImageTest, EqualsPillow) {
  int num_compared = 0;
  for (const std::filesystem::path& path : GoldenImageFiles()) {
    const std::string name = absl::StrCat("decoded.", path.stem().string());
    if (GoldenImageNames(name).empty()) continue;
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const Image image,
                         DecodeImage(GoldenImageFile(path.filename()), kManyPixels));
    const Image expected = GoldenImage(name);
    ASSERT_EQ(image.size, expected.size);
    // Another version of libjpeg-turbo may round otherwise; PNG leaves nothing to round.
    EXPECT_LE(LargestDifference(image, expected), path.extension() == ".jpg" ? 1 : 0);
    ++num_compared;
  }
  EXPECT_EQ(num_compared, GoldenImageNames("decoded.").size());
}

// Of longer files, not every byte is cut or changed: each attempt takes longer as well.
size_t StepFor(const std::string& file) { return file.size() / 700 + 1; }

// Every file, cut off everywhere: an error, never a crash, and never pixels.
TEST(DecodeImageTest, RefusesWhatIsCutOff) {
  for (const std::filesystem::path& path : GoldenImageFiles()) {
    const std::string file = GoldenImageFile(path.filename());
    // Without its last bytes, a JPEG may still have all of its pixels; but it has no end.
    for (size_t size = 0; size < file.size(); size += StepFor(file)) {
      ASSERT_THAT(DecodeImage(file.substr(0, size), kManyPixels),
                  StatusIs(absl::StatusCode::kInvalidArgument))
          << path << " after " << size << " bytes";
    }
  }
}

TEST(DecodeImageTest, SaysThatAFileIsCutOff) {
  for (const char* name : {"rgb_8.png", "jpeg_420.jpg", "jpeg_progressive.jpg"}) {
    const std::string file = GoldenImageFile(name);
    EXPECT_THAT(DecodeImage(file.substr(0, file.size() * 3 / 4), kManyPixels),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cut off")))
        << name;
  }
}

// Every byte of every file changed, one at a time: an error or pixels.
TEST(DecodeImageTest, SurvivesEveryDamagedByte) {
  for (const std::filesystem::path& path : GoldenImageFiles()) {
    const std::string file = GoldenImageFile(path.filename());
    for (size_t i = 0; i < file.size(); i += StepFor(file)) {
      for (const uint8_t flip : {0x01, 0xff}) {
        std::string damaged = file;
        damaged[i] = static_cast<char>(damaged[i] ^ flip);
        const absl::StatusOr<Image> image = DecodeImage(damaged, kManyPixels);
        if (image.ok()) {
          ASSERT_EQ(image->pixels.size(), int64_t{3} * image->size.height * image->size.width);
        } else {
          ASSERT_THAT(image, StatusIs(absl::StatusCode::kInvalidArgument));
        }
      }
    }
  }
}

TEST(DecodeImageTest, RefusesDamagedPixels) {
  std::string png = GoldenImageFile("rgb_8.png");
  png[png.find("IDAT") + 10] ^= 0x55;
  EXPECT_THAT(DecodeImage(png, kManyPixels),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the PNG file is damaged")));
}

// The header decides, whatever comes behind it; nothing is allocated for the pixels.
TEST(DecodeImageTest, RefusesTooManyPixelsFromTheHeader) {
  std::string png = GoldenImageFile("rgb_8.png");
  const auto put_number = [&png](size_t at, uint32_t value) {
    for (int i = 0; i < 4; ++i) png[at + i] = static_cast<char>(value >> (24 - 8 * i));
  };
  put_number(16, 50000);
  put_number(20, 50000);
  put_number(29, 0xc4cdaa9d);  // IHDR's checksum
  EXPECT_THAT(DecodeImage(png, int64_t{64} << 20),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("50000 x 50000"), HasSubstr("67108864"),
                             HasSubstr("--max_image_pixels"))));

  std::string jpeg = GoldenImageFile("jpeg_444.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, jpeg.npos);
  jpeg.replace(frame + 5, 4, "\xff\xdc\xff\xdc");
  EXPECT_THAT(DecodeImage(jpeg, int64_t{64} << 20),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65500 x 65500")));
}

TEST(DecodeImageTest, RefusesALongSide) {
  std::string png = GoldenImageFile("rgb_8.png");
  const std::string header = {0, 1, 0, 0, 0, 0, 0, 1, 8, 2, 0, 0, 0};
  png.replace(16, 13, header);
  png.replace(29, 4, "\xe4\x10\x74\x8f");
  EXPECT_THAT(DecodeImage(png, int64_t{64} << 20),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65536 x 1 pixels")));
}

TEST(DecodeImageTest, TheLimitIsOnPixels) {
  const std::string file = GoldenImageFile("rgb_8.png");  // 9 x 5
  EXPECT_OK(DecodeImage(file, 45));
  EXPECT_THAT(DecodeImage(file, 44), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeImageTest, NamesOtherFormats) {
  const struct {
    std::string file;
    const char* format;
  } kCases[] = {
      {std::string("RIFF\x10\0\0\0WEBPVP8 ", 16), "WebP"},
      {"GIF89a", "GIF"},
      {std::string("BM\0\0", 4), "BMP"},
      {std::string("II*\0", 4), "TIFF"},
      {std::string("\0\0\0\x1c"
                   "ftypavif",
                   12),
       "AVIF"},
      {"<svg xmlns=", "SVG"},
      {"%PDF-1.7", "PDF"},
  };
  for (const auto& [file, format] : kCases) {
    EXPECT_THAT(DecodeImage(file, kManyPixels),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(format), HasSubstr("PNG and JPEG are read"))));
  }
  EXPECT_THAT(DecodeImage("", kManyPixels),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty")));
  EXPECT_THAT(DecodeImage("hello", kManyPixels),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("neither a PNG nor a JPEG")));
}

// A picture whose scans are many and empty takes long for its bytes.
TEST(DecodeImageTest, RefusesAJpegOfManyScans) {
  std::string jpeg = GoldenImageFile("jpeg_progressive_grey.jpg");
  const size_t scan = jpeg.find("\xff\xda");
  const size_t next = jpeg.find("\xff\xc4", scan);
  ASSERT_NE(next, jpeg.npos);
  const std::string one_scan = jpeg.substr(scan, next - scan);
  std::string many = jpeg.substr(0, next);
  for (int i = 0; i < 200; ++i) many += one_scan;
  EXPECT_THAT(DecodeImage(many + jpeg.substr(next), kManyPixels),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(OrientationTest, TurnsEachWay) {
  // 2 x 3: the red channel counts the pixels.
  Image image({2, 3});
  for (int i = 0; i < 6; ++i) image.pixels[i * 3] = static_cast<uint8_t>(i);
  const struct {
    int orientation;
    ImageSize size;
    std::vector<int> reds;
  } kCases[] = {
      {1, {2, 3}, {0, 1, 2, 3, 4, 5}}, {2, {2, 3}, {2, 1, 0, 5, 4, 3}},
      {3, {2, 3}, {5, 4, 3, 2, 1, 0}}, {4, {2, 3}, {3, 4, 5, 0, 1, 2}},
      {5, {3, 2}, {0, 3, 1, 4, 2, 5}}, {6, {3, 2}, {3, 0, 4, 1, 5, 2}},
      {7, {3, 2}, {5, 2, 4, 1, 3, 0}}, {8, {3, 2}, {2, 5, 1, 4, 0, 3}},
  };
  for (const auto& [orientation, size, reds] : kCases) {
    const Image turned = Reorient(image, orientation);
    EXPECT_EQ(turned.size, size) << orientation;
    for (int i = 0; i < 6; ++i) EXPECT_EQ(turned.pixels[i * 3], reds[i]) << orientation;
  }
}

TEST(OrientationTest, ReadsExifOfBothByteOrdersAndIgnoresTheMalformed) {
  const std::string little("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 22);
  const std::string big("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0", 22);
  EXPECT_EQ(OrientationOfExif(little), 6);
  EXPECT_EQ(OrientationOfExif(big), 5);
  for (size_t size = 0; size < big.size(); ++size) {
    EXPECT_EQ(OrientationOfExif(big.substr(0, size)), std::nullopt) << size;
  }
  std::string far_directory = big;
  far_directory.replace(4, 4, "\xff\xff\xff\xff");
  EXPECT_EQ(OrientationOfExif(far_directory), std::nullopt);
}

}  // namespace
}  // namespace attendant::engine
