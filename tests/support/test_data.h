#ifndef ATTENDANT_TESTS_SUPPORT_TEST_DATA_H_
#define ATTENDANT_TESTS_SUPPORT_TEST_DATA_H_

#include <filesystem>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace attendant::testing {

// A file or folder below tests/ in the source tree.
std::filesystem::path TestDataPath(absl::string_view relative);

// The folder of real checkpoints and vectors beside the repository (../shared, or
// $ATTENDANT_SHARED_DIR); nothing where it is absent, and then the test says so with GTEST_SKIP.
std::optional<std::filesystem::path> SharedDataPath(absl::string_view relative);

// A model that deploy/models/fetch has fetched ($ATTENDANT_MODELS_DIR, else
// ~/.cache/attendant/models); nothing where it is absent.
std::optional<std::filesystem::path> FetchedModelPath(absl::string_view name);

std::string ReadFileOrDie(const std::filesystem::path& path);

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_SUPPORT_TEST_DATA_H_
