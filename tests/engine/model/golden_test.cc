// Every case below tests/goldens/<model_type>/ of every architecture in the registry: what our
// engine computes against what transformers did. tests/goldens/README.md says how the cases were
// made and derives the bounds.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/safetensors_file.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/architecture.h"
#include "engine/model/pooling.h"
#include "engine/model/transformer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::TestDataPath;

KernelContext& Context() {
  static auto* context = new KernelContext(1, /*pin_threads=*/false);
  return *context;
}

struct Golden {
  std::string name;
  fs::path checkpoint;  // a folder, or a GGUF file in it
  fs::path folder;      // of expected.safetensors
};

std::vector<fs::path> Sorted(const fs::path& folder) {
  std::vector<fs::path> paths;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Golden> GoldensOf(absl::string_view model_type) {
  std::vector<Golden> goldens;
  for (const fs::path& folder : Sorted(TestDataPath(absl::StrCat("goldens/", model_type)))) {
    if (!fs::exists(folder / "expected.safetensors")) continue;
    const std::string name = absl::StrCat(model_type, "_", folder.filename().string());
    goldens.push_back({name, folder, folder});
    for (const fs::path& file : Sorted(folder)) {
      if (file.extension() != ".gguf") continue;
      goldens.push_back({absl::StrCat(name, "_", file.stem().string(), "_file"), file, folder});
    }
  }
  return goldens;
}

std::vector<Golden> AllGoldens() {
  std::vector<Golden> all;
  for (absl::string_view model_type : KnownModelTypes()) {
    for (Golden& golden : GoldensOf(model_type)) all.push_back(std::move(golden));
  }
  return all;
}

TEST(RegistryTest, EveryArchitectureHasAGolden) {
  for (absl::string_view model_type : KnownModelTypes()) {
    EXPECT_FALSE(GoldensOf(model_type).empty()) << "tests/goldens/" << model_type;
  }
}

TEST(RegistryTest, EveryArchitectureNamesTheWeightsItNeeds) {
  for (absl::string_view model_type : KnownModelTypes()) {
    SCOPED_TRACE(model_type);
    ASSERT_OK_AND_ASSIGN(const ArchitectureSpec* spec, FindArchitecture(model_type));
    const bool fused = spec->Has(WeightRole::kQueryKeyValue);
    for (WeightRole role : {WeightRole::kQuery, WeightRole::kKey, WeightRole::kValue}) {
      EXPECT_NE(spec->Has(role), fused);
    }
    for (WeightRole role :
         {WeightRole::kTokenEmbedding, WeightRole::kAttentionOutput, WeightRole::kAttentionNorm,
          WeightRole::kUp, WeightRole::kDown, WeightRole::kFeedForwardNorm}) {
      EXPECT_TRUE(spec->Has(role));
    }
    EXPECT_EQ(spec->Has(WeightRole::kPositionEmbedding), spec->position == PositionKind::kLearned);
    EXPECT_EQ(spec->Has(WeightRole::kGate), spec->feed_forward == FeedForwardKind::kGated);
    EXPECT_EQ(spec->Has(WeightRole::kFinalNorm), spec->norm_placement == NormPlacement::kPre);
  }
}

// What the reference gave, by name.
class Expected {
 public:
  explicit Expected(const fs::path& folder) {
    auto file = SafetensorsFile::Open(folder / "expected.safetensors");
    CHECK_OK(file.status());
    file_ = std::make_unique<SafetensorsFile>(*std::move(file));
    facts_ = parser_.load(folder / "expected.json");
  }

  // "length_17", for every input.
  std::vector<std::string> Inputs() const {
    std::vector<std::string> inputs;
    for (const auto& [name, tensor] : file_->tensors()) {
      if (name.ends_with(".input_ids")) inputs.push_back(name.substr(0, name.find('.')));
    }
    return inputs;
  }

  // Empty if absent.
  std::vector<int32_t> Ids(const std::string& name) const {
    const SafetensorsFile::Tensor* tensor = file_->Find(name);
    if (tensor == nullptr) return {};
    CHECK_EQ(tensor->dtype, "I64");
    std::vector<int64_t> wide(tensor->data.size() / sizeof(int64_t));
    std::memcpy(wide.data(), tensor->data.data(), tensor->data.size());
    return {wide.begin(), wide.end()};
  }
  std::vector<float> Values(const std::string& name) const {
    const SafetensorsFile::Tensor* tensor = file_->Find(name);
    CHECK(tensor != nullptr) << name;
    std::vector<float> values(tensor->data.size() / sizeof(float));
    CHECK_OK(file_->Read(name, tensor->shape, absl::MakeSpan(values)));
    return values;
  }

  // How far the reference itself strays when its products are of bf16 operands; 0 for a tensor that
  // it does not have.
  double Bf16Stray(const char* tensor) const {
    double stray = 0;
    if (facts_["stray_over_rms"]["bf16_products"][tensor].get(stray)) return 0;
    return stray;
  }

 private:
  std::unique_ptr<SafetensorsFile> file_;
  simdjson::dom::parser parser_;
  simdjson::dom::element facts_;
};

// The largest difference, over the root mean square of what is expected.
double Stray(absl::Span<const float> found, absl::Span<const float> expected) {
  CHECK_EQ(found.size(), expected.size());
  double largest = 0;
  double square = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(double{found[i]} - expected[i]));
    square += double{expected[i]} * expected[i];
  }
  return largest / std::sqrt(square / static_cast<double>(expected.size()));
}

class GoldenTest : public ::testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam().checkpoint));
    expected_ = std::make_unique<Expected>(GetParam().folder);
    ASSERT_FALSE(expected_->Inputs().empty());
  }

  std::unique_ptr<Transformer> Load(DataType dtype) {
    auto model = Transformer::Load(
        *checkpoint_,
        {.dtype = dtype, .max_batch_tokens = 256, .max_logit_rows = 256, .strict_kernels = true},
        Context());
    CHECK_OK(model.status());
    return *std::move(model);
  }

  void ExpectHiddenStatesAndLogits(DataType dtype, double hidden_bound, double logits_bound) {
    const auto model = Load(dtype);
    double worst_hidden = 0;
    double worst_logits = 0;
    for (const std::string& input : expected_->Inputs()) {
      SCOPED_TRACE(input);
      const ModelRunner::Output output = ModelRunner::Run(
          *model, expected_->Ids(input + ".input_ids"), expected_->Ids(input + ".token_type_ids"));
      const std::vector<float> hidden = expected_->Values(input + ".hidden_states");
      const size_t num_layers = output.hidden_states.size();
      ASSERT_EQ(num_layers, model->config().num_hidden_layers + 1);
      const size_t size = hidden.size() / num_layers;
      // Over all layers at once, as the bound was measured.
      std::vector<float> found;
      for (const auto& states : output.hidden_states) {
        ASSERT_EQ(states.size(), size);
        found.insert(found.end(), states.begin(), states.end());
      }
      worst_hidden = std::max(worst_hidden, Stray(found, hidden));
      if (!model->has_language_model_head()) continue;
      const double logits = Stray(output.logits, expected_->Values(input + ".logits"));
      worst_logits = std::max(worst_logits, logits);
    }
    EXPECT_LE(worst_hidden, hidden_bound);
    EXPECT_LE(worst_logits, logits_bound);
    RecordProperty("worst_hidden", absl::StrCat(worst_hidden));
    RecordProperty("worst_logits", absl::StrCat(worst_logits));
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Expected> expected_;
};

TEST_P(GoldenTest, HiddenStatesAndLogitsInFloat) {
  ExpectHiddenStatesAndLogits(DataType::kFloat32, 2e-4, 2e-4);
}

TEST_P(GoldenTest, HiddenStatesAndLogitsInBFloat16) {
  ExpectHiddenStatesAndLogits(DataType::kBFloat16, 2 * expected_->Bf16Stray("hidden_states"),
                              2 * expected_->Bf16Stray("logits"));
}

TEST_P(GoldenTest, GreedyTokensInFloat) {
  const auto model = Load(DataType::kFloat32);
  if (model->spec().stack == Stack::kEncoder) return;
  for (const std::string& input : expected_->Inputs()) {
    SCOPED_TRACE(input);
    const std::vector<int32_t> greedy = expected_->Ids(input + ".greedy_ids");
    ASSERT_EQ(greedy.size(), 64u);
    EXPECT_EQ(ModelRunner::Greedy(*model, expected_->Ids(input + ".input_ids"), 64), greedy);
  }
}

TEST_P(GoldenTest, PooledVectorsInFloat) {
  const auto model = Load(DataType::kFloat32);
  const int64_t hidden_size = model->config().hidden_size;
  for (const std::string& input : expected_->Inputs()) {
    const ModelRunner::Output output = ModelRunner::Run(
        *model, expected_->Ids(input + ".input_ids"), expected_->Ids(input + ".token_type_ids"));
    const std::vector<float>& states = output.hidden_states.back();
    const ConstMatrix tokens(states.data(), static_cast<int64_t>(states.size()) / hidden_size,
                             hidden_size);
    const struct {
      PoolingKind kind;
      const char* name;
    } kKinds[] = {{PoolingKind::kMean, ".pooled_mean"},
                  {PoolingKind::kCls, ".pooled_cls"},
                  {PoolingKind::kMax, ".pooled_max"},
                  {PoolingKind::kLastToken, ".pooled_last_token"}};
    for (const auto& [kind, name] : kKinds) {
      std::vector<float> pooled(hidden_size);
      Pool(kind, tokens, Matrix(pooled.data(), 1, hidden_size));
      EXPECT_LE(Stray(pooled, expected_->Values(input + name)), 2e-4) << input << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, GoldenTest, ::testing::ValuesIn(AllGoldens()),
                         [](const ::testing::TestParamInfo<Golden>& info) {
                           return absl::StrReplaceAll(info.param.name, {{"-", "_"}, {".", "_"}});
                         });

}  // namespace
}  // namespace attendant::engine
