#ifndef ATTENDANT_TESTS_ENGINE_IMAGE_IMAGE_GOLDENS_H_
#define ATTENDANT_TESTS_ENGINE_IMAGE_IMAGE_GOLDENS_H_

#include <filesystem>
#include <string>
#include <vector>

#include "engine/image/image.h"

namespace attendant::engine {

// tests/goldens/images: files of every kind, and what Pillow and transformers make of them.

// The files, sorted.
std::vector<std::filesystem::path> GoldenImageFiles();

// The bytes of one of them: "grey_8.png".
std::string GoldenImageFile(const std::string& name);

// The tensors whose names begin with `prefix`, sorted.
std::vector<std::string> GoldenImageNames(const std::string& prefix);

// One that is an image. A missing one ends the test program.
Image GoldenImage(const std::string& name);

// One of floats.
std::vector<float> GoldenImageValues(const std::string& name);

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_IMAGE_IMAGE_GOLDENS_H_
