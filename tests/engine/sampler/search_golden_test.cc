// Beam search and logits processors against the reference library's, over tables that stand for a
// model: tests/goldens/beam_search/make.py says how they were made.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/safetensors_file.h"
#include "engine/kernels/softmax.h"
#include "engine/sampler/beam_search.h"
#include "engine/sampler/logits_processors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::TestDataPath;
using simdjson::dom::element;

constexpr int32_t kVocabSize = 23;
constexpr int32_t kPeriod = 5;

std::vector<float> Values(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Tensor* tensor = file.Find(name);
  CHECK(tensor != nullptr) << name;
  std::vector<float> values(tensor->data.size() / sizeof(float));
  CHECK_OK(file.Read(name, tensor->shape, absl::MakeSpan(values)));
  return values;
}

SafetensorsFile OpenGolden(const char* name) {
  auto file = SafetensorsFile::Open(TestDataPath(absl::StrCat("goldens/beam_search/", name)));
  CHECK_OK(file.status());
  return *std::move(file);
}

std::vector<int32_t> Ids(element array) {
  std::vector<int32_t> ids;
  for (const element id : simdjson::dom::array(array)) ids.push_back(int32_t(int64_t(id)));
  return ids;
}

std::vector<int32_t> Ids(absl::Span<const ScoredToken> tokens) {
  std::vector<int32_t> ids;
  for (const ScoredToken& token : tokens) ids.push_back(token.id);
  return ids;
}

// The arguments of the reference's generate(), as our options.
struct Settings {
  BeamSearchParams search;
  int32_t num_sequences = 1;
  LogitsProcessorOptions processors;
};

Settings ReadSettings(element json, int64_t prompt_tokens) {
  Settings settings;
  LogitsProcessorOptions& processors = settings.processors;
  processors.prompt_tokens = prompt_tokens;
  for (const auto& [key, value] : simdjson::dom::object(json)) {
    if (key == "num_beams") {
      settings.search.num_beams = int32_t(int64_t(value));
    } else if (key == "num_return_sequences") {
      settings.num_sequences = int32_t(int64_t(value));
    } else if (key == "length_penalty") {
      settings.search.length_penalty = float(double(value));
    } else if (key == "early_stopping") {
      settings.search.early_stopping = value.is_string() ? EarlyStopping::kNever
                                       : bool(value)     ? EarlyStopping::kTrue
                                                         : EarlyStopping::kFalse;
    } else if (key == "max_new_tokens") {
      processors.max_new_tokens = int32_t(int64_t(value));
    } else if (key == "min_new_tokens") {
      processors.min_new_tokens = int32_t(int64_t(value));
    } else if (key == "eos_token_id") {
      processors.end_tokens = Ids(value);
    } else if (key == "no_repeat_ngram_size") {
      processors.sampling.no_repeat_ngram_size = int32_t(int64_t(value));
    } else if (key == "repetition_penalty") {
      processors.sampling.repetition_penalty = float(double(value));
    } else if (key == "forced_bos_token_id") {
      processors.constraints.forced_bos_token_id = int32_t(int64_t(value));
    } else if (key == "forced_eos_token_id") {
      processors.constraints.forced_eos_token_ids = {int32_t(int64_t(value))};
    } else if (key == "suppress_tokens") {
      processors.constraints.suppress_tokens = Ids(value);
    } else if (key == "begin_suppress_tokens") {
      processors.constraints.begin_suppress_tokens = Ids(value);
    } else if (key == "bad_words_ids") {
      for (const element word : simdjson::dom::array(value))
        processors.constraints.bad_words.push_back(Ids(word));
    } else {
      ADD_FAILURE() << "unknown setting " << key;
    }
  }
  return settings;
}

// The table's logits behind `tokens`.
std::vector<float> TableLogits(absl::Span<const float> last, absl::Span<const float> previous,
                               absl::Span<const int32_t> tokens) {
  const size_t position = tokens.size() - 1;
  const auto row =
      last.subspan((position % kPeriod * kVocabSize + tokens.back()) * kVocabSize, kVocabSize);
  std::vector<float> logits(row.begin(), row.end());
  if (position == 0) return logits;
  const float* before = previous.data() + size_t{kVocabSize} * tokens[position - 1];
  for (int32_t id = 0; id < kVocabSize; ++id) logits[id] += before[id];
  return logits;
}

TEST(SearchGoldenTest, TheHypothesesAndScoresAreTheReferences) {
  const SafetensorsFile tables = OpenGolden("tables.safetensors");
  simdjson::dom::parser parser;
  const simdjson::dom::array searches =
      parser.load(TestDataPath("goldens/beam_search/searches.json").string());
  int num_searches = 0, num_ended_early = 0;
  for (const element golden : searches) {
    SCOPED_TRACE(simdjson::minify(golden));
    const std::string table = absl::StrCat("table_", int64_t(golden["table"]));
    const std::vector<float> last = Values(tables, table + ".last");
    const std::vector<float> previous = Values(tables, table + ".previous");
    const std::vector<int32_t> prompt = Ids(golden["prompt"]);
    const Settings settings = ReadSettings(golden["settings"], static_cast<int64_t>(prompt.size()));
    const LogitsProcessors processors(settings.processors);
    BeamSearch search({.params = settings.search,
                       .end_tokens = settings.processors.end_tokens,
                       .max_new_tokens = settings.processors.max_new_tokens});
    ProcessorScratch scratch;
    int32_t num_steps = 0;
    for (; !search.is_done(); ++num_steps) {
      for (size_t beam = 0; beam < search.live().size(); ++beam) {
        std::vector<int32_t> tokens = prompt;
        for (const ScoredToken& token : search.live()[beam].tokens) tokens.push_back(token.id);
        std::vector<float> row = TableLogits(last, previous, tokens);
        const float normalizer = LogSumExp(row);
        for (float& logit : row) logit -= normalizer;
        const std::vector<float> raw = row;
        processors.Apply(tokens, absl::MakeSpan(row), scratch);
        search.Score(static_cast<int32_t>(beam), row, raw);
      }
      ASSERT_OK(search.Advance());
    }
    num_ended_early += num_steps < settings.processors.max_new_tokens;

    const simdjson::dom::array hypotheses = golden["hypotheses"];
    const simdjson::dom::array scores = golden["scores"];
    ASSERT_EQ(hypotheses.size(), settings.num_sequences);
    ASSERT_GE(search.hypotheses().size(), hypotheses.size());
    for (size_t i = 0; i < hypotheses.size(); ++i) {
      EXPECT_EQ(Ids(search.hypotheses()[i].tokens), Ids(hypotheses.at(i)));
      const double score = scores.at(i);
      EXPECT_NEAR(search.hypotheses()[i].score, score, 2e-6 * (1 + std::abs(score)));
    }
    ++num_searches;
  }
  EXPECT_GE(num_searches, 200);
  EXPECT_GT(num_ended_early, 30) << "the goldens do not test when a search ends";
}

TEST(SearchGoldenTest, TheProcessorsAreTheReferencesInItsOrder) {
  const SafetensorsFile tensors = OpenGolden("processed.safetensors");
  simdjson::dom::parser parser;
  const simdjson::dom::array cases =
      parser.load(TestDataPath("goldens/beam_search/processed.json").string());
  int num_cases = 0;
  for (const element golden : cases) {
    SCOPED_TRACE(simdjson::minify(golden));
    const std::string name = absl::StrCat("case_", num_cases++);
    const LogitsProcessors processors(
        ReadSettings(golden["settings"], int64_t(golden["prompt_tokens"])).processors);
    const std::vector<float> raw = Values(tensors, name + ".logits");
    std::vector<float> processed = raw;
    const std::vector<int32_t> tokens = Ids(golden["tokens"]);
    ProcessorScratch scratch;
    processors.Apply(tokens, absl::MakeSpan(processed), scratch);
    EXPECT_EQ(processed, Values(tensors, name + ".processed"));
    if (!processors.Applies(tokens)) {
      EXPECT_EQ(processed, raw);
    }
  }
  EXPECT_GE(num_cases, 50);
}

}  // namespace
}  // namespace attendant::engine
