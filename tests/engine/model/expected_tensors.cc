#include "tests/engine/model/expected_tensors.h"

#include <cstring>

#include "absl/log/check.h"

namespace attendant::engine {

ExpectedTensors::ExpectedTensors(const std::filesystem::path& folder) {
  auto file = SafetensorsFile::Open(folder / "expected.safetensors");
  CHECK_OK(file.status());
  file_ = std::make_unique<SafetensorsFile>(*std::move(file));
}

std::vector<std::string> ExpectedTensors::Inputs() const {
  std::vector<std::string> inputs;
  for (const auto& [name, tensor] : file_->tensors()) {
    if (name.ends_with(".hidden_states")) inputs.push_back(name.substr(0, name.find('.')));
  }
  return inputs;
}

std::vector<int32_t> ExpectedTensors::Ids(const std::string& name) const {
  const SafetensorsFile::Tensor* tensor = file_->Find(name);
  if (tensor == nullptr) return {};
  CHECK_EQ(tensor->dtype, "I64") << name;
  std::vector<int64_t> ids(tensor->data.size() / sizeof(int64_t));
  std::memcpy(ids.data(), tensor->data.data(), tensor->data.size());
  return {ids.begin(), ids.end()};
}

bool ExpectedTensors::Has(const std::string& name) const { return file_->Find(name) != nullptr; }

std::vector<float> ExpectedTensors::Values(const std::string& name) const {
  const SafetensorsFile::Tensor* tensor = file_->Find(name);
  CHECK(tensor != nullptr) << name;
  CHECK_EQ(tensor->dtype, "F32") << name;
  std::vector<float> values(tensor->data.size() / sizeof(float));
  CHECK_OK(file_->Read(name, tensor->shape, absl::MakeSpan(values)));
  return values;
}

}  // namespace attendant::engine
