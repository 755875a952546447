#include "engine/image/image_processor.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

Image RandomImage(ImageSize size) {
  Image image(size);
  std::minstd_rand random(1);
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(random() >> 8);
  return image;
}

TEST(ImageProcessorTest, PatchesAreTheConvolutionsWindows) {
  const ImageProcessorOptions options = {
      .size = {7, 9}, .rescale_factor = 0.5f, .mean = {1, 2, 3}, .std = {4, 5, 6}};
  ASSERT_OK_AND_ASSIGN(const ImageProcessor images,
                       ImageProcessor::Create(options, {7, 9}, {3, 2}));
  EXPECT_EQ(images.grid(), (ImageSize{2, 4}));
  EXPECT_EQ(images.num_patches(), 8);
  const Image image = RandomImage({7, 9});
  const std::vector<float> patches = images.Patches(image);
  ASSERT_EQ(patches.size(), 8 * 3 * 3 * 2);
  size_t i = 0;
  for (int patch = 0; patch < 8; ++patch) {
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < 3; ++y) {
        for (int x = 0; x < 2; ++x) {
          const int value = image.row(patch / 4 * 3 + y)[(patch % 4 * 2 + x) * 3 + c];
          EXPECT_FLOAT_EQ(patches[i++], (0.5f * value - (c + 1)) / (c + 4));
        }
      }
    }
  }
}

TEST(ImageProcessorTest, CropsTheMiddleAndPadsWithBlack) {
  ASSERT_OK_AND_ASSIGN(const ImageProcessor images,
                       ImageProcessor::Create({.crop_size = {4, 4}}, {4, 4}, {2, 2}));
  const Image image = RandomImage({3, 7});
  ASSERT_OK_AND_ASSIGN(const Image cropped, images.Resize(image));
  ASSERT_EQ(cropped.size, (ImageSize{4, 4}));
  for (int y = 0; y < 3; ++y) {
    EXPECT_TRUE(std::equal(cropped.row(y), cropped.row(y) + 12, image.row(y) + 3)) << y;
  }
  EXPECT_TRUE(std::all_of(cropped.row(3), cropped.row(3) + 12, [](int v) { return v == 0; }));
}

TEST(ImageProcessorTest, RefusesAnotherSizeWhereNothingIsResized) {
  ASSERT_OK_AND_ASSIGN(const ImageProcessor images, ImageProcessor::Create({}, {4, 6}, {2, 2}));
  EXPECT_OK(images.Resize(RandomImage({4, 6})));
  EXPECT_THAT(images.Resize(RandomImage({6, 4})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("6 x 4"), HasSubstr("takes 4 x 6"))));
}

TEST(ImageProcessorTest, RefusesSettingsThatMakeImagesOfAnotherSize) {
  const ImageSize size = {8, 8}, patch = {4, 4};
  EXPECT_THAT(ImageProcessor::Create({.size = {9, 8}}, size, patch),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("9 x 8")));
  EXPECT_THAT(ImageProcessor::Create({.size = {8, 8}, .crop_size = {7, 7}}, size, patch),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("7 x 7")));
  EXPECT_THAT(ImageProcessor::Create({.shortest_edge = 8}, size, patch),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shortest edge")));
  EXPECT_THAT(ImageProcessor::Create({.size = {8, 8}}, size, {9, 4}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("patches of 9 x 4")));
}

}  // namespace
}  // namespace attendant::engine
