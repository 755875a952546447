#ifndef ATTENDANT_ENGINE_IMAGE_CONFIG_H_
#define ATTENDANT_ENGINE_IMAGE_CONFIG_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/image/image_processor.h"
#include "engine/model/model_config.h"

namespace attendant::engine {

// What the contents of a preprocessor_config.json do to images before the image model of `config`
// sees them. What the file leaves out is as in transformers' ViTImageProcessor or, if the file
// names that (or, naming none, model_type does), DeiTImageProcessor. INVALID_ARGUMENT names field,
// value and limit, and files that make images of another size than the model takes; UNIMPLEMENTED
// other processors and settings.
absl::StatusOr<ImageProcessor> ReadImageProcessor(absl::string_view preprocessor_config_json,
                                                  const ModelConfig& config);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_IMAGE_CONFIG_H_
