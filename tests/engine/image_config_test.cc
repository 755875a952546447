#include "engine/image_config.h"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/image/decode_image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/image/image_goldens.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

ModelConfig ConfigOf(const std::string& model_type, int32_t side) {
  ModelConfig config;
  config.model_type = model_type;
  config.image_height = config.image_width = side;
  config.patch_height = config.patch_width = side;  // one patch: the image, channel by channel
  return config;
}

// Every setting that checkpoints have, over a landscape and a portrait: what transformers makes of
// it, with torchvision as it does by itself, and with Pillow. The portrait becomes wider and
// flatter, where Pillow resizes columns first; and transformers with Pillow pads otherwise.
TEST(ImageConfigTest, EqualsTheReferencesProcessors) {
  simdjson::dom::parser parser;
  const simdjson::dom::element processors =
      parser.load(testing::TestDataPath("goldens/images/processors.json"));
  int num_compared = 0;
  for (const auto [key, json] : processors.get_object()) {
    const std::string name(key);
    const std::string text = simdjson::minify(json);
    ASSERT_OK_AND_ASSIGN(const ImageProcessor images,
                         ReadImageProcessor(text, ConfigOf(name.substr(0, name.find('_')), 16)));
    // Of the settings above: one step of a byte, before and after normalization.
    const bool normalizes = json["do_normalize"].error() || bool{json["do_normalize"]};
    const bool rescales = json["do_rescale"].error() || bool{json["do_rescale"]};
    for (const char* picture : {"landscape", "portrait"}) {
      ASSERT_OK_AND_ASSIGN(const std::vector<float> found,
                           images.Process(GoldenImageFile(absl::StrCat(picture, ".png")), 1 << 20));
      for (const char* backend : {"torchvision", "pil"}) {
        const bool is_pillow = absl::string_view(backend) == "pil";
        if (is_pillow && (absl::string_view(picture) == "portrait" || name == "deit_padded"))
          continue;
        SCOPED_TRACE(absl::StrCat(name, " ", picture, " ", backend));
        const std::vector<float> expected =
            GoldenImageValues(absl::StrCat("processed.", name, ".", picture, ".", backend));
        ASSERT_EQ(found.size(), expected.size());
        double largest = 0;
        for (size_t i = 0; i < found.size(); ++i) {
          double std = 1;
          if (normalizes) {
            std = 0.5;
            if (!json["image_std"].error()) std = double{json["image_std"].at(i / 256)};
          }
          const double steps =
              std::abs(double{found[i]} - expected[i]) * std * (rescales ? 255 : 1);
          largest = std::max(largest, steps);
        }
        // Pillow's bytes are ours; torchvision rounds weights to 16 bits.
        EXPECT_LE(largest, is_pillow ? 1e-3 : 1.001);
        ++num_compared;
      }
    }
  }
  EXPECT_EQ(num_compared, 2 * 12 + 11);
}

TEST(ImageConfigTest, DefaultsAreThoseOfTheModelsProcessor) {
  EXPECT_OK(ReadImageProcessor("{}", ConfigOf("vit", 224)));
  EXPECT_OK(ReadImageProcessor("{}", ConfigOf("deit", 224)));
  EXPECT_THAT(ReadImageProcessor(R"({"do_center_crop": false})", ConfigOf("deit", 224)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("256 x 256")));
}

TEST(ImageConfigTest, SaysWhatIsWrong) {
  const struct {
    const char* json;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"[]", absl::StatusCode::kInvalidArgument, "preprocessor_config.json"},
      {R"({"size": 300})", absl::StatusCode::kInvalidArgument, "300 x 300"},
      {R"({"size": 0})", absl::StatusCode::kInvalidArgument, "size is 0"},
      {R"({"size": {"height": 224}})", absl::StatusCode::kInvalidArgument, "size.width"},
      {R"({"size": {"shortest_edge": 224}})", absl::StatusCode::kInvalidArgument, "shortest edge"},
      {R"({"size": {"shortest_edge": 9, "longest_edge": 9}})", absl::StatusCode::kUnimplemented,
       "size.longest_edge"},
      {R"({"resample": 6})", absl::StatusCode::kInvalidArgument, "resample is 6"},
      {R"({"image_mean": [0.5, 0.5]})", absl::StatusCode::kInvalidArgument, "image_mean"},
      {R"({"image_mean": [0.5, "x", 1]})", absl::StatusCode::kInvalidArgument, "image_mean"},
      {R"({"image_std": [0.5, 0, 0.5]})", absl::StatusCode::kInvalidArgument, "greater than 0"},
      {R"({"rescale_factor": -1})", absl::StatusCode::kInvalidArgument, "rescale_factor"},
      {R"({"do_center_crop": true})", absl::StatusCode::kInvalidArgument, "crop_size"},
      {R"({"do_pad": true})", absl::StatusCode::kUnimplemented, "do_pad"},
      {R"({"image_processor_type": "CLIPImageProcessor"})", absl::StatusCode::kUnimplemented,
       "CLIPImageProcessor"},
  };
  for (const auto& [json, code, message] : kCases) {
    EXPECT_THAT(ReadImageProcessor(json, ConfigOf("vit", 224)),
                StatusIs(code, AllOf(HasSubstr("preprocessor_config.json"), HasSubstr(message))))
        << json;
  }
}

}  // namespace
}  // namespace attendant::engine
