#ifndef ATTENDANT_TESTS_ENGINE_MODEL_EXPECTED_TENSORS_H_
#define ATTENDANT_TESTS_ENGINE_MODEL_EXPECTED_TENSORS_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors_file.h"

namespace attendant::engine {

// What a reference gave: expected.safetensors of a folder below tests/goldens, whose tensors are
// named <input>.<name>. A file that is not as it should be ends the test program.
class ExpectedTensors {
 public:
  explicit ExpectedTensors(const std::filesystem::path& folder);

  // The inputs, by the names of their `hidden_states`.
  std::vector<std::string> Inputs() const;

  // An I64 tensor; empty if there is none.
  std::vector<int32_t> Ids(const std::string& name) const;

  bool Has(const std::string& name) const;

  // An F32 tensor, which must be there.
  std::vector<float> Values(const std::string& name) const;

 private:
  std::unique_ptr<SafetensorsFile> file_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_MODEL_EXPECTED_TENSORS_H_
