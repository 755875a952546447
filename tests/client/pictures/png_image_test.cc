#include "client/pictures/png_image.h"

#include <cairo.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "client/pictures/color_ramp.h"
#include "engine/image/decode_image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;

// The pixels of a PNG file.
class Decoded {
 public:
  explicit Decoded(const std::string& file) : rest_(file) {
    surface_ = cairo_image_surface_create_from_png_stream(
        [](void* from, unsigned char* data, unsigned int length) {
          auto& rest = static_cast<Decoded*>(from)->rest_;
          if (rest.size() < length) return CAIRO_STATUS_READ_ERROR;
          std::memcpy(data, rest.data(), length);
          rest.remove_prefix(length);
          return CAIRO_STATUS_SUCCESS;
        },
        this);
    EXPECT_EQ(cairo_surface_status(surface_), CAIRO_STATUS_SUCCESS);
  }
  ~Decoded() { cairo_surface_destroy(surface_); }
  Decoded(const Decoded&) = delete;
  Decoded& operator=(const Decoded&) = delete;

  int width() const { return cairo_image_surface_get_width(surface_); }
  int height() const { return cairo_image_surface_get_height(surface_); }

  // How many pixels have this colour.
  int Count(Rgb color) const {
    const uint32_t value = (color.red << 16) | (color.green << 8) | color.blue;
    int count = 0;
    for (int y = 0; y < height(); ++y) {
      const uint8_t* row = cairo_image_surface_get_data(surface_) +
                           static_cast<ptrdiff_t>(y) * cairo_image_surface_get_stride(surface_);
      for (int x = 0; x < width(); ++x) {
        if ((reinterpret_cast<const uint32_t*>(row)[x] & 0xffffff) == value) ++count;
      }
    }
    return count;
  }

  // Whether some pixel has this color, but for rounding.
  bool HasNear(const double (&rgb)[3]) const {
    for (int y = 0; y < height(); ++y) {
      const uint8_t* row = cairo_image_surface_get_data(surface_) +
                           static_cast<ptrdiff_t>(y) * cairo_image_surface_get_stride(surface_);
      for (int x = 0; x < width(); ++x) {
        const uint8_t* bgr = row + 4 * x;
        if (std::abs(bgr[2] - rgb[0]) <= 2 && std::abs(bgr[1] - rgb[1]) <= 2 &&
            std::abs(bgr[0] - rgb[2]) <= 2)
          return true;
      }
    }
    return false;
  }

 private:
  absl::string_view rest_;
  cairo_surface_t* surface_;
};

// Every map is the identity: one on the diagonal.
AttentionPicture Identity(int num_layers, int num_heads, int num_tokens) {
  AttentionPicture picture;
  picture.title = "model";
  picture.subtitle = "attention";
  picture.queries.assign(num_tokens, "token");
  picture.keys = picture.queries;
  picture.layers.assign(num_layers, "layer");
  picture.heads.assign(num_heads, "head");
  for (int map = 0; map < num_layers * num_heads; ++map) {
    for (int query = 0; query < num_tokens; ++query) {
      for (int key = 0; key < num_tokens; ++key) picture.weights.push_back(query == key ? 1 : 0);
    }
  }
  return picture;
}

TEST(PngImageTest, ColorsEachCell) {
  ASSERT_OK_AND_ASSIGN(const std::string file, PngImage(Identity(1, 1, 40)));
  const Decoded image(file);
  // Cells have 19 units, 38 pixels, of which lines between them take one.
  const int dark = image.Count(kLightRamp.back());
  EXPECT_GE(dark, 40 * 36 * 36);
  EXPECT_LE(dark, 40 * 38 * 38 + 512);  // The bar beside has the colour too.
  EXPECT_GE(image.Count(kLightRamp.front()), 40 * 39 * 36 * 36);
}

TEST(PngImageTest, DrawsEveryMap) {
  ASSERT_OK_AND_ASSIGN(const std::string one, PngImage(Identity(1, 1, 100)));
  ASSERT_OK_AND_ASSIGN(const std::string many, PngImage(Identity(3, 4, 100)));
  // 12 maps of 3 units a cell, against one of 7.
  EXPECT_NEAR(Decoded(many).Count(kLightRamp.back()) / 1200.0, 36, 4);
  EXPECT_NEAR(Decoded(one).Count(kLightRamp.back()) / 100.0, 196, 20);
}

TEST(PngImageTest, DrawsTokensOfEveryKind) {
  AttentionPicture picture = Identity(2, 1, 6);
  picture.queries = {"好", "مرحبا", "😀", "", "\\n", "a very long token that never seems to end"};
  const Decoded plain(*PngImage(Identity(2, 1, 6)));
  const Decoded image(*PngImage(picture));
  EXPECT_GT(image.width(), plain.width());
  EXPECT_LT(image.width(), plain.width() + 400);
}

TEST(PngImageTest, RefusesToBeTooLarge) {
  EXPECT_THAT(PngImage(Identity(12, 300, 1)), StatusIs(absl::StatusCode::kInvalidArgument,
                                                       HasSubstr("3600 maps of 1 × 1 would have")));
}

// Files of both formats, the last of them lying on its side until its EXIF is read.
TEST(PngImageTest, DrawsOverImages) {
  AttentionPicture picture = Identity(1, 1, 7);
  for (const std::string name : {"rgb_8.png", "jpeg_444.jpg", "jpeg_cmyk.jpg", "jpeg_exif_6.jpg"}) {
    picture.patches = {.image = attendant::testing::ReadFileOrDie(
                           attendant::testing::TestDataPath("goldens/images/files/" + name)),
                       .rows = 2,
                       .columns = 3,
                       .num_prefix_tokens = 1};
    ASSERT_OK_AND_ASSIGN(engine::Image pixels,
                         engine::DecodeImage(picture.patches->image, 1 << 20));
    ASSERT_OK_AND_ASSIGN(const std::string file, PngImage(picture));
    const Decoded image(file);
    EXPECT_EQ(image.height() > image.width(), name == "jpeg_exif_6.jpg") << name;
    // The first token attends to itself alone: no patch is lit, and the image shows, dimmed.
    const auto [height, width] = pixels.size;
    for (const auto& [row, column] : {std::pair(0, 0), {height / 2, width / 2}, {height - 1, 1}}) {
      const uint8_t* rgb = pixels.row(row) + 3 * column;
      const double grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
      double expected[3];
      for (int i = 0; i < 3; ++i) expected[i] = 0.62 * (0.4 * rgb[i] + 0.6 * grey);
      EXPECT_TRUE(image.HasNear(expected)) << name << " " << row << " " << column;
    }
  }
}

TEST(PngImageTest, RefusesWhatIsNoImage) {
  AttentionPicture picture = Identity(1, 1, 7);
  picture.patches = {.image = "pixels", .rows = 2, .columns = 3, .num_prefix_tokens = 1};
  EXPECT_THAT(PngImage(picture), StatusIs(absl::StatusCode::kInvalidArgument));
  picture.patches->rows = 3;
  EXPECT_THAT(PngImage(picture),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("all of its patches")));
}

}  // namespace
}  // namespace attendant::client
