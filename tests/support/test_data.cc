#include "tests/support/test_data.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/log/check.h"

namespace attendant::testing {
namespace {

std::optional<std::filesystem::path> IfExists(std::filesystem::path path) {
  if (std::filesystem::exists(path)) return path;
  return std::nullopt;
}

}  // namespace

std::filesystem::path TestDataPath(absl::string_view relative) {
  return std::filesystem::path(ATTENDANT_SOURCE_DIR) / "tests" / std::string(relative);
}

std::optional<std::filesystem::path> SharedDataPath(absl::string_view relative) {
  const char* shared = std::getenv("ATTENDANT_SHARED_DIR");
  const auto root = shared != nullptr
                        ? std::filesystem::path(shared)
                        : std::filesystem::path(ATTENDANT_SOURCE_DIR) / ".." / "shared";
  return IfExists(root / std::string(relative));
}

std::optional<std::filesystem::path> FetchedModelPath(absl::string_view name) {
  if (const char* models = std::getenv("ATTENDANT_MODELS_DIR")) {
    return IfExists(std::filesystem::path(models) / std::string(name));
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr) return std::nullopt;
  return IfExists(std::filesystem::path(home) / ".cache/attendant/models" / std::string(name));
}

std::string ReadFileOrDie(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.is_open()) << "cannot read " << path;
  std::ostringstream contents;
  contents << file.rdbuf();
  return std::move(contents).str();
}

}  // namespace attendant::testing
