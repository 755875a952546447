#include "engine/image_config.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_object.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kFile = "preprocessor_config.json";
constexpr int32_t kMaxSide = 1 << 14;
constexpr float kMaxNumber = 1e6f;

using Channels = std::array<float, Image::kChannels>;

// What a class of processor does where the file says nothing.
struct Processor {
  absl::string_view model_type;
  ImageSize size;
  Resampling resampling;
  ImageSize crop_size;  // empty: does not crop
};
constexpr Processor kProcessors[] = {
    {"vit", {224, 224}, Resampling::kBilinear, {}},
    {"deit", {256, 256}, Resampling::kBicubic, {224, 224}},
};
constexpr Channels kMean = {0.5f, 0.5f, 0.5f};
constexpr Channels kStd = {0.5f, 0.5f, 0.5f};
constexpr float kRescaleFactor = 1.0f / 255;

// Names of the classes, over the years.
struct ProcessorName {
  absl::string_view name;
  absl::string_view model_type;
};
constexpr ProcessorName kProcessorNames[] = {
    {"ViTImageProcessor", "vit"},      {"ViTImageProcessorFast", "vit"},
    {"ViTImageProcessorPil", "vit"},   {"ViTFeatureExtractor", "vit"},
    {"DeiTImageProcessor", "deit"},    {"DeiTImageProcessorFast", "deit"},
    {"DeiTImageProcessorPil", "deit"}, {"DeiTFeatureExtractor", "deit"},
};

absl::StatusOr<Processor> FindProcessor(const JsonObject& json, absl::string_view model_type) {
  for (absl::string_view key : {"image_processor_type", "feature_extractor_type"}) {
    if (!json.Has(key)) continue;
    ASSIGN_OR_RETURN(const std::string name, json.String(key));
    const auto* known =
        std::find_if(std::begin(kProcessorNames), std::end(kProcessorNames),
                     [&](const ProcessorName& known) { return known.name == name; });
    if (known == std::end(kProcessorNames)) {
      return absl::UnimplementedError(
          absl::StrCat(json.Name(key), " is ", json.Text(key),
                       "; ViTImageProcessor and DeiTImageProcessor are built, and their variants"));
    }
    model_type = known->model_type;
    break;
  }
  for (const Processor& processor : kProcessors) {
    if (processor.model_type == model_type) return processor;
  }
  return absl::InvalidArgumentError(absl::StrCat(json.Name("image_processor_type"), " is missing"));
}

bool IsObject(const JsonObject& json, absl::string_view key) {
  return json.Text(key).starts_with('{');
}

// A size as {"height": h, "width": w}, or as the number that both are.
absl::StatusOr<ImageSize> ReadSize(const JsonObject& json, absl::string_view key) {
  if (!IsObject(json, key)) {
    ASSIGN_OR_RETURN(const int32_t side, json.Int(key, 1, kMaxSide));
    return ImageSize{side, side};
  }
  ASSIGN_OR_RETURN(const JsonObject object, json.Object(key));
  ImageSize size;
  ASSIGN_OR_RETURN(size.height, object.Int("height", 1, kMaxSide));
  ASSIGN_OR_RETURN(size.width, object.Int("width", 1, kMaxSide));
  return size;
}

absl::Status ReadResize(const JsonObject& json, const Processor& processor,
                        ImageProcessorOptions& options) {
  options.size = processor.size;
  if (IsObject(json, "size")) {
    ASSIGN_OR_RETURN(const JsonObject size, json.Object("size"));
    for (absl::string_view key : {"longest_edge", "max_height", "max_width"}) {
      if (!size.Has(key)) continue;
      return absl::UnimplementedError(
          absl::StrCat(size.Name(key), " is set; height and width, or shortest_edge are built"));
    }
    if (size.Has("shortest_edge")) {
      ASSIGN_OR_RETURN(options.shortest_edge, size.Int("shortest_edge", 1, kMaxSide));
      options.size = {};
    }
  }
  if (json.Has("size") && options.shortest_edge == 0) {
    ASSIGN_OR_RETURN(options.size, ReadSize(json, "size"));
  }
  ASSIGN_OR_RETURN(const int32_t filter,
                   json.Int("resample", 0, static_cast<int32_t>(Resampling::kHamming),
                            static_cast<int32_t>(processor.resampling)));
  options.resampling = static_cast<Resampling>(filter);
  return absl::OkStatus();
}

absl::StatusOr<Channels> ReadChannels(const JsonObject& json, absl::string_view key,
                                      const Channels& fallback) {
  if (!json.Has(key)) return fallback;
  ASSIGN_OR_RETURN(const std::vector<float> values, json.Numbers(key));
  Channels channels;
  if (values.size() != channels.size()) {
    return absl::InvalidArgumentError(absl::StrCat(json.Name(key), " is ", json.Text(key),
                                                   "; expected a number for each of ",
                                                   channels.size(), " channels"));
  }
  std::copy(values.begin(), values.end(), channels.begin());
  return channels;
}

absl::Status ReadNormalization(const JsonObject& json, ImageProcessorOptions& options) {
  ASSIGN_OR_RETURN(options.mean, ReadChannels(json, "image_mean", kMean));
  ASSIGN_OR_RETURN(options.std, ReadChannels(json, "image_std", kStd));
  for (float std : options.std) {
    if (std > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        json.Name("image_std"), " is ", json.Text("image_std"), "; each must be greater than 0"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImageProcessor> ReadImageProcessor(absl::string_view preprocessor_config_json,
                                                  const ModelConfig& config) {
  ASSIGN_OR_RETURN(const JsonObject json, JsonObject::Parse(kFile, preprocessor_config_json));
  ASSIGN_OR_RETURN(const Processor processor, FindProcessor(json, config.model_type));
  ImageProcessorOptions options;
  ASSIGN_OR_RETURN(const bool resizes, json.Bool("do_resize", true));
  if (resizes) RETURN_IF_ERROR(ReadResize(json, processor, options));

  ASSIGN_OR_RETURN(const bool crops,
                   json.Bool("do_center_crop", processor.crop_size != ImageSize()));
  if (crops) {
    options.crop_size = processor.crop_size;
    if (json.Has("crop_size")) {
      ASSIGN_OR_RETURN(options.crop_size, ReadSize(json, "crop_size"));
    }
    if (options.crop_size == ImageSize()) {
      return absl::InvalidArgumentError(
          absl::StrCat(json.Name("crop_size"), " is missing, and do_center_crop is true"));
    }
  }
  ASSIGN_OR_RETURN(const bool pads, json.Bool("do_pad", false));
  if (pads) {
    return absl::UnimplementedError(
        absl::StrCat(json.Name("do_pad"), " is true; only false is built"));
  }

  ASSIGN_OR_RETURN(const bool rescales, json.Bool("do_rescale", true));
  if (rescales) {
    ASSIGN_OR_RETURN(options.rescale_factor,
                     json.PositiveNumber("rescale_factor", kMaxNumber, kRescaleFactor));
  }
  ASSIGN_OR_RETURN(const bool normalizes, json.Bool("do_normalize", true));
  if (normalizes) RETURN_IF_ERROR(ReadNormalization(json, options));

  absl::StatusOr<ImageProcessor> images =
      ImageProcessor::Create(options, {config.image_height, config.image_width},
                             {config.patch_height, config.patch_width});
  if (images.ok()) return images;
  return absl::Status(images.status().code(), absl::StrCat(kFile, ": ", images.status().message()));
}

}  // namespace attendant::engine
