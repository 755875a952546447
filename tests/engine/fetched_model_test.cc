// Real models from text to text, as a server's users have them. tests/goldens/README.md says what
// they are compared with.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/checkpoint/safetensors_file.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::FetchedModelPath;
using ::attendant::testing::TestDataPath;

template <typename T>
std::vector<T> Values(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Tensor* tensor = file.Find(name);
  CHECK(tensor != nullptr) << name;
  std::vector<T> values(tensor->data.size() / sizeof(T));
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

class FetchedModelTest : public ::testing::Test {
 protected:
  void LoadOrSkip(const std::string& name, DataType dtype) {
    const auto path = FetchedModelPath(name);
    if (!path.has_value()) GTEST_SKIP() << name << " is absent; deploy/models/fetch fetches it";
    EngineOptions options;
    options.kv_cache_bytes = 256 << 20;
    ASSERT_OK_AND_ASSIGN(engine_, Engine::Create(options));
    ASSERT_OK(engine_->LoadModel({.name = "model", .path = *path, .dtype = dtype}));
  }

  std::unique_ptr<Engine> engine_;
};

// All prompts at once, with chunks and batches as they come.
TEST_F(FetchedModelTest, SmolLm2ContinuesTextAsTheReferenceDoes) {
  LoadOrSkip("SmolLM2-135M-Instruct.gguf", DataType::kFloat32);
  if (IsSkipped()) return;
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile expected,
                       SafetensorsFile::Open(TestDataPath("goldens/smollm2/expected.safetensors")));
  simdjson::dom::parser parser;
  const simdjson::dom::object prompts =
      parser.load(TestDataPath("goldens/smollm2/expected.json")).get_object();
  std::vector<std::pair<std::string, std::shared_ptr<RecordingSink>>> started;
  for (const auto& [name, prompt] : prompts) {
    const auto ids = Values<int64_t>(expected, absl::StrCat(std::string(name), ".greedy_ids"));
    GenerateRequest request;
    request.model = "model";
    request.prompt = std::string(std::string_view(prompt["text"]));
    request.max_new_tokens = static_cast<int32_t>(ids.size());
    request.ignore_eos = true;
    request.temperature = 0;
    auto sink = std::make_shared<RecordingSink>();
    engine_->Generate(std::move(request), sink);
    started.emplace_back(std::string(name), std::move(sink));
  }
  for (const auto& [name, sink] : started) {
    ASSERT_OK(sink->Wait());
    const auto ids = Values<int64_t>(expected, absl::StrCat(name, ".greedy_ids"));
    EXPECT_EQ(sink->ids(), std::vector<int32_t>(ids.begin(), ids.end())) << name;
    const std::string text{std::string_view(prompts[name]["greedy_text"])};
    // We leave special tokens out; the reference's text has them.
    if (!absl::StrContains(text, "<|")) {
      EXPECT_EQ(sink->text(), text) << name;
    }
  }
}

TEST_F(FetchedModelTest, MiniLmEncodesTextAsTheReferenceDoes) {
  for (const auto& [dtype, least] :
       {std::pair(DataType::kFloat32, 0.99999), std::pair(DataType::kBFloat16, 0.999)}) {
    LoadOrSkip("all-MiniLM-L6-v2", dtype);
    if (IsSkipped()) return;
    simdjson::dom::parser parser;
    EncodeRequest request;
    request.model = "model";
    for (const simdjson::dom::element sentence :
         parser.load(TestDataPath("goldens/minilm/sentences.json")).get_array()) {
      request.inputs.push_back(std::string(std::string_view(sentence)));
    }
    const size_t num_sentences = request.inputs.size();
    absl::Notification done;
    absl::StatusOr<EncodeResult> result;
    engine_->Encode(std::move(request), [&](absl::StatusOr<EncodeResult> answer) {
      result = std::move(answer);
      done.Notify();
    });
    done.WaitForNotification();
    ASSERT_OK(result);

    ASSERT_OK_AND_ASSIGN(
        const SafetensorsFile file,
        SafetensorsFile::Open(TestDataPath("goldens/minilm/expected.safetensors")));
    const auto expected = Values<float>(file, "embeddings");
    std::vector<float> given(result->embeddings.data.size() / sizeof(float));
    std::memcpy(given.data(), result->embeddings.data.data(), result->embeddings.data.size());
    ASSERT_EQ(given.size(), expected.size());
    const size_t size = expected.size() / num_sentences;
    double worst = 1;
    for (size_t row = 0; row < num_sentences; ++row) {
      double dot = 0, a = 0, b = 0;
      for (size_t i = row * size; i < (row + 1) * size; ++i) {
        dot += double{given[i]} * expected[i];
        a += double{given[i]} * given[i];
        b += double{expected[i]} * expected[i];
      }
      worst = std::min(worst, dot / std::sqrt(a * b));
      EXPECT_NEAR(a, 1, 1e-4) << "the model folder asks for normalized vectors";
    }
    EXPECT_GE(worst, least) << DataTypeName(dtype);
  }
}

}  // namespace
}  // namespace attendant::engine
