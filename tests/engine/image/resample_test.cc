#include "engine/image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/image/image_goldens.h"

namespace attendant::engine {
namespace {

constexpr Resampling kFilters[] = {Resampling::kNearest,  Resampling::kLanczos,
                                   Resampling::kBilinear, Resampling::kBicubic,
                                   Resampling::kBox,      Resampling::kHamming};

Image RandomImage(ImageSize size, int seed) {
  Image image(size);
  std::minstd_rand random(seed);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random() >> 8);
  return image;
}

ImageWindow Whole(ImageSize size) { return {0, 0, size}; }

// The twin: the same meaning, one value at a time.

double Weight(Resampling filter, double x) {
  const double pi_x = std::numbers::pi * x;
  const double sinc = x == 0 ? 1 : std::sin(pi_x) / pi_x;
  const double sinc3 = x == 0 ? 1 : std::sin(pi_x / 3) / (pi_x / 3);
  const double a = std::abs(x);
  switch (filter) {
    case Resampling::kNearest:
      CHECK(false) << "has no weights";
    case Resampling::kBox:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Resampling::kBilinear:
      return a < 1 ? 1 - a : 0;
    case Resampling::kHamming:
      return a < 1 ? sinc * (0.54 + 0.46 * std::cos(pi_x)) : 0;
    case Resampling::kBicubic:
      return a < 1   ? 1.5 * a * a * a - 2.5 * a * a + 1
             : a < 2 ? -0.5 * a * a * a + 2.5 * a * a - 4 * a + 2
                     : 0;
    case Resampling::kLanczos:
      return a < 3 ? sinc * sinc3 : 0;
  }
  return 0;
}

double Support(Resampling filter) {
  switch (filter) {
    case Resampling::kBicubic:
      return 2;
    case Resampling::kLanczos:
      return 3;
    case Resampling::kBox:
      return 0.5;
    default:
      return 1;
  }
}

// The value at `at` of an axis of out_size, made of in_size values.
template <typename Value>
double ReferenceValue(Resampling filter, int in_size, int out_size, int at, Value value) {
  const double scale = double(in_size) / out_size;
  const double center = (at + 0.5) * scale;
  if (in_size == out_size) return value(at);
  if (filter == Resampling::kNearest) return value(int(center));
  const double stretch = std::max(1.0, scale);
  double sum = 0, weights = 0;
  for (int i = 0; i < in_size; ++i) {
    if (std::abs(i + 0.5 - center) > Support(filter) * stretch) continue;
    const double weight = Weight(filter, (i + 0.5 - center) / stretch);
    sum += weight * value(i);
    weights += weight;
  }
  return std::clamp(sum / weights, 0.0, 255.0);
}

// Not rounded at the end.
double ReferencePixel(const Image& image, ImageSize size, Resampling filter, int y, int x, int c) {
  return ReferenceValue(filter, image.size.height, size.height, y, [&](int source_y) {
    return std::floor(
        0.5 + ReferenceValue(filter, image.size.width, size.width, x,
                             [&](int source_x) { return image.row(source_y)[source_x * 3 + c]; }));
  });
}

TEST(ResampleTest, EqualsItsTwin) {
  const ImageSize kSizes[] = {{1, 1}, {2, 3}, {7, 7}, {16, 5}, {31, 17}};
  for (Resampling filter : kFilters) {
    for (ImageSize from : kSizes) {
      const Image image = RandomImage(from, 3);
      for (ImageSize to : kSizes) {
        const Image out = Resample(image, to, filter, Whole(to));
        ASSERT_EQ(out.size, to);
        for (int y = 0; y < to.height; ++y) {
          for (int x = 0; x < to.width * 3; ++x) {
            // A tie in the first pass, rounded the other way, is worth at most one.
            const double expected = ReferencePixel(image, to, filter, y, x / 3, x % 3);
            ASSERT_NEAR(out.row(y)[x], expected, 1.0001)
                << static_cast<int>(filter) << " at " << y << ", " << x;
          }
        }
      }
    }
  }
}

TEST(ResampleTest, EqualsPillowByteForByte) {
  const Image source = GoldenImage("source");
  const std::vector<std::string> names = GoldenImageNames("resized.");
  ASSERT_EQ(names.size(), 36u);
  const std::map<std::string, Resampling> filters = {
      {"nearest", Resampling::kNearest},   {"lanczos", Resampling::kLanczos},
      {"bilinear", Resampling::kBilinear}, {"bicubic", Resampling::kBicubic},
      {"box", Resampling::kBox},           {"hamming", Resampling::kHamming}};
  for (const std::string& name : names) {
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    const Image expected = GoldenImage(name);
    const Image out = Resample(source, expected.size, filters.at(parts[1]), Whole(expected.size));
    EXPECT_EQ(out.pixels, expected.pixels) << name;
  }
}

TEST(ResampleTest, AWindowIsAPartOfTheWhole) {
  const Image image = RandomImage({23, 40}, 5);
  const ImageSize size = {17, 61};
  for (Resampling filter : kFilters) {
    const Image whole = Resample(image, size, filter, Whole(size));
    const ImageWindow window = {3, 20, {11, 13}};
    const Image part = Resample(image, size, filter, window);
    ASSERT_EQ(part.size, window.size);
    for (int32_t y = 0; y < window.size.height; ++y) {
      EXPECT_TRUE(std::equal(part.row(y), part.row(y) + window.size.width * 3,
                             whole.row(window.top + y) + window.left * 3));
    }
  }
}

// Of a line of pixels that would become 900 GB, only the window is computed.
TEST(ResampleTest, AWindowOfAnEnormousImageIsCheap) {
  const Image line = RandomImage({1, 65535}, 7);
  const ImageSize size = {224, 224 * 65535};
  const Image out =
      Resample(line, size, Resampling::kBicubic, {0, size.width / 2 - 112, {224, 224}});
  EXPECT_EQ(out.size, (ImageSize{224, 224}));
}

}  // namespace
}  // namespace attendant::engine
