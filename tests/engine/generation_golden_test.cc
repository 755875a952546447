// Greedy text and beam searches of whole engines against the reference library's generate():
// tests/goldens/generation/make.py says how they were made.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::TestDataPath;
using simdjson::dom::element;

std::vector<int32_t> Ids(element array) {
  std::vector<int32_t> ids;
  for (const element id : array.get_array()) ids.push_back(static_cast<int32_t>(int64_t{id}));
  return ids;
}

// The arguments of the reference's generate(), as fields of a request.
void SetFields(element settings, GenerateRequest& request) {
  for (const auto& [key, value] : settings.get_object()) {
    const auto number = [value = value] { return static_cast<int32_t>(int64_t{value}); };
    if (key == "num_beams") {
      request.num_beams = number();
    } else if (key == "num_return_sequences") {
      request.num_sequences = number();
    } else if (key == "length_penalty") {
      request.length_penalty = static_cast<float>(double{value});
    } else if (key == "early_stopping") {
      request.early_stopping = value.is_string() ? EarlyStopping::kNever
                               : bool{value}     ? EarlyStopping::kTrue
                                                 : EarlyStopping::kFalse;
    } else if (key == "max_new_tokens") {
      request.max_new_tokens = number();
    } else if (key == "min_new_tokens") {
      request.min_new_tokens = number();
    } else if (key == "no_repeat_ngram_size") {
      request.no_repeat_ngram_size = number();
    } else if (key == "repetition_penalty") {
      request.repetition_penalty = static_cast<float>(double{value});
    } else {
      ADD_FAILURE() << "unknown setting " << key;
    }
  }
}

class GenerationGoldenTest : public ::testing::TestWithParam<std::string> {};

// All cases of a checkpoint and a generation_config.json run at once, packed into the same steps:
// through a cache that holds a few of them, so that they share and wait.
TEST_P(GenerationGoldenTest, TheTextsAndScoresAreTheReferences) {
  simdjson::dom::parser parser;
  const element golden = parser.load(TestDataPath("goldens/generation/" + GetParam()).string());
  const std::string name_of_checkpoint{std::string_view(golden["checkpoint"])};
  std::optional<fs::path> checkpoint = TestDataPath("goldens/" + name_of_checkpoint);
  if (name_of_checkpoint.starts_with("models/")) checkpoint = SharedDataPath(name_of_checkpoint);
  if (!checkpoint.has_value()) GTEST_SKIP() << "no shared " << name_of_checkpoint;
  int num_cases = 0;
  for (const auto& [name, config] : golden["configs"].get_object()) {
    const fs::path folder = fs::path(::testing::TempDir()) /
                            absl::StrCat("generation_golden_", GetParam(), "_", std::string(name));
    fs::remove_all(folder);
    fs::copy(*checkpoint, folder);
    fs::permissions(folder, fs::perms::owner_all);
    fs::remove(folder / "generation_config.json");
    std::ofstream(folder / "generation_config.json") << simdjson::minify(config);
    EngineOptions options;
    options.num_threads = 1;
    options.kv_cache_bytes = 1 << 20;
    options.kv_cache_block_size = 4;
    ASSERT_OK_AND_ASSIGN(const auto engine, Engine::Create(options));
    ASSERT_OK(engine->LoadModel({.name = "model", .path = folder, .dtype = DataType::kFloat32}));

    std::vector<std::pair<element, std::shared_ptr<RecordingSink>>> started;
    for (const element item : golden["cases"].get_array()) {
      if (std::string_view(item["config"]) != name) continue;
      GenerateRequest request;
      request.model = "model";
      request.prompt = Ids(item["input_ids"]);
      request.logprobs = true;
      SetFields(item["request"], request);
      started.emplace_back(item, std::make_shared<RecordingSink>());
      engine->Generate(std::move(request), started.back().second);
    }
    for (const auto& [item, sink] : started) {
      SCOPED_TRACE(simdjson::minify(item));
      ASSERT_OK(sink->Wait());
      const auto hypotheses = item["hypotheses"].get_array();
      const auto scores = item["scores"].get_array();
      for (size_t i = 0; i < hypotheses.size(); ++i) {
        const int sequence = static_cast<int>(i);
        EXPECT_EQ(sink->ids(sequence), Ids(hypotheses.at(i)));
        if (scores.size() == 0) continue;
        const double score = scores.at(i);
        EXPECT_NEAR(*sink->finished(sequence).score, score, 1e-4 * (1 + std::abs(score)));
      }
      EXPECT_EQ(sink->num_finished(), hypotheses.size());
      ++num_cases;
    }
    fs::remove_all(folder);
  }
  EXPECT_EQ(num_cases, golden["cases"].get_array().size());
}

std::vector<std::string> Goldens() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(TestDataPath("goldens/generation"))) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().filename());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Goldens, GenerationGoldenTest, ::testing::ValuesIn(Goldens()),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return absl::StrReplaceAll(fs::path(info.param).stem().string(),
                                                      {{"-", "_"}, {".", "_"}});
                         });

}  // namespace
}  // namespace attendant::engine
