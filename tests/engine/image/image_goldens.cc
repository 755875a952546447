#include "tests/engine/image/image_goldens.h"

#include <algorithm>
#include <cstring>

#include "absl/log/check.h"
#include "engine/checkpoint/safetensors_file.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::TestDataPath;

const SafetensorsFile& Expected() {
  static const auto* file = [] {
    auto opened = SafetensorsFile::Open(TestDataPath("goldens/images") / "expected.safetensors");
    CHECK_OK(opened.status());
    return new SafetensorsFile(*std::move(opened));
  }();
  return *file;
}

const SafetensorsFile::Tensor& Find(const std::string& name, absl::string_view dtype) {
  const SafetensorsFile::Tensor* tensor = Expected().Find(name);
  CHECK(tensor != nullptr) << name;
  CHECK_EQ(tensor->dtype, dtype) << name;
  return *tensor;
}

}  // namespace

std::vector<std::filesystem::path> GoldenImageFiles() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(TestDataPath("goldens/images/files"))) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string GoldenImageFile(const std::string& name) {
  return ReadFileOrDie(TestDataPath("goldens/images/files") / name);
}

std::vector<std::string> GoldenImageNames(const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : Expected().tensors()) {
    if (name.starts_with(prefix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Image GoldenImage(const std::string& name) {
  const SafetensorsFile::Tensor& tensor = Find(name, "U8");
  CHECK(tensor.shape.size() == 3 && tensor.shape[2] == Image::kChannels) << name;
  Image image({static_cast<int32_t>(tensor.shape[0]), static_cast<int32_t>(tensor.shape[1])});
  std::memcpy(image.pixels.data(), tensor.data.data(), image.pixels.size());
  return image;
}

std::vector<float> GoldenImageValues(const std::string& name) {
  const SafetensorsFile::Tensor& tensor = Find(name, "F32");
  std::vector<float> values(tensor.data.size() / sizeof(float));
  CHECK_OK(Expected().Read(name, tensor.shape, absl::MakeSpan(values)));
  return values;
}

}  // namespace attendant::engine
