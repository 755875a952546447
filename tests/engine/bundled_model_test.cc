// The model that the repository carries, held to the accuracy that its README states.

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::TestDataPath;

class BundledModelTest : public ::testing::TestWithParam<DataType> {};

INSTANTIATE_TEST_SUITE_P(DataTypes, BundledModelTest,
                         ::testing::Values(DataType::kFloat32, DataType::kBFloat16),
                         [](const auto& info) { return std::string(DataTypeName(info.param)); });

// 2,000 wordings of days that training never saw, all of them at once.
TEST_P(BundledModelTest, WritesDatesAsIso8601) {
  const std::string folder = TestDataPath("../deploy/models/iso-dates");
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create({}));
  ASSERT_OK(engine->LoadModel({.name = "dates", .path = folder, .dtype = GetParam()}));

  std::ifstream file(folder + "/held_out.tsv");
  std::vector<std::pair<std::string, std::shared_ptr<RecordingSink>>> answers;
  for (std::string line; std::getline(file, line);) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(line, '\t');
    GenerateRequest request;
    request.model = "dates";
    request.prompt = pair.first;
    auto sink = std::make_shared<RecordingSink>();
    engine->Generate(std::move(request), sink);
    answers.emplace_back(pair.second, std::move(sink));
  }
  ASSERT_EQ(answers.size(), 2000);

  int num_right = 0;
  for (const auto& [expected, sink] : answers) {
    ASSERT_OK(sink->Wait());
    num_right += sink->text() == expected ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 1980) << "99 %";
}

}  // namespace
}  // namespace attendant::engine
