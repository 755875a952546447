// Every case below tests/goldens/<model_type>/ of every architecture in the registry: what our
// engine computes against what transformers did. tests/goldens/README.md says how the cases were
// made and derives the bounds.

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/packed_cache.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/architecture.h"
#include "engine/model/model_weights.h"
#include "engine/model/pooling.h"
#include "engine/model/transformer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/model/expected_tensors.h"
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

// Whether there are all the parts, or the one tensor that holds them.
bool HasParts(const ArchitectureSpec& spec, WeightRole fused,
              std::initializer_list<WeightRole> parts) {
  const auto found =
      std::count_if(parts.begin(), parts.end(), [&](WeightRole role) { return spec.Has(role); });
  if (found != 0 && found != static_cast<int64_t>(parts.size())) return false;
  return found != 0 || spec.Has(fused);
}

void ExpectNeededWeights(const ArchitectureSpec& spec) {
  EXPECT_TRUE(HasParts(spec, WeightRole::kQueryKeyValue,
                       {WeightRole::kQuery, WeightRole::kKey, WeightRole::kValue}));
  for (WeightRole role : {WeightRole::kAttentionOutput, WeightRole::kAttentionNorm, WeightRole::kUp,
                          WeightRole::kDown, WeightRole::kFeedForwardNorm}) {
    EXPECT_TRUE(spec.Has(role));
  }
  const bool reads_images = spec.Has(WeightRole::kPatchEmbedding);
  EXPECT_NE(spec.Has(WeightRole::kTokenEmbedding), reads_images);
  EXPECT_EQ(spec.Has(WeightRole::kClassToken), reads_images);
  if (spec.position != PositionKind::kSinusoidal) {
    EXPECT_EQ(spec.Has(WeightRole::kPositionEmbedding), spec.position == PositionKind::kLearned);
  }
  if (spec.feed_forward != FeedForwardKind::kConfig) {
    EXPECT_EQ(spec.Has(WeightRole::kGate), spec.feed_forward == FeedForwardKind::kGated);
  }
  if (spec.norm_placement != NormPlacement::kConfig) {
    EXPECT_EQ(spec.Has(WeightRole::kFinalNorm), spec.norm_placement == NormPlacement::kPre);
  }
}

TEST(RegistryTest, EveryArchitectureNamesTheWeightsItNeeds) {
  for (absl::string_view model_type : KnownModelTypes()) {
    SCOPED_TRACE(model_type);
    ASSERT_OK_AND_ASSIGN(const ArchitectureSpec* spec, FindArchitecture(model_type));
    ExpectNeededWeights(*spec);
    if (spec->encoder == nullptr) continue;
    ExpectNeededWeights(*spec->encoder);
    EXPECT_EQ(spec->stack, Stack::kDecoder);
    EXPECT_EQ(spec->encoder->stack, Stack::kEncoder);
    EXPECT_TRUE(
        HasParts(*spec, WeightRole::kCrossQueryKeyValue,
                 {WeightRole::kCrossQuery, WeightRole::kCrossKey, WeightRole::kCrossValue}));
    EXPECT_TRUE(spec->Has(WeightRole::kCrossOutput));
    EXPECT_TRUE(spec->Has(WeightRole::kCrossNorm));
  }
}

// How far values are from those expected, over the root mean square of those.
struct Stray {
  double largest = 0;
  double rms = 0;
};

Stray Measure(absl::Span<const float> found, absl::Span<const float> expected) {
  CHECK_EQ(found.size(), expected.size());
  double largest = 0, error_square = 0, square = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(double{found[i]} - expected[i]);
    // std::max would lose a NaN.
    if (!(error <= largest)) largest = error;
    error_square += error * error;
    square += double{expected[i]} * expected[i];
  }
  return {largest / std::sqrt(square / static_cast<double>(expected.size())),
          std::sqrt(error_square / square)};
}

// Makes `worst` the larger of both, value by value; NaN is the largest.
void Worsen(const Stray& stray, Stray& worst) {
  if (!(stray.largest <= worst.largest)) worst.largest = stray.largest;
  if (!(stray.rms <= worst.rms)) worst.rms = stray.rms;
}

void ExpectWithin(const Stray& found, const Stray& bound) {
  EXPECT_LE(found.largest, bound.largest);
  EXPECT_LE(found.rms, bound.rms);
}

constexpr HeadKind kHeadKinds[] = {HeadKind::kMaskedLanguageModel,
                                   HeadKind::kSequenceClassification,
                                   HeadKind::kTokenClassification, HeadKind::kQuestionAnswering};

class GoldenTest : public ::testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam().checkpoint));
    expected_ = std::make_unique<ExpectedTensors>(GetParam().folder);
    ASSERT_FALSE(expected_->Inputs().empty());
  }

  std::unique_ptr<Transformer> Load(DataType dtype, bool as_stored = false,
                                    PackedCache* cache = nullptr) {
    auto model = Transformer::Load(*checkpoint_,
                                   {.dtype = dtype,
                                    .as_stored = as_stored,
                                    .max_batch_tokens = 256,
                                    .max_logit_rows = 256,
                                    .strict_kernels = true},
                                   Context(), nullptr, cache);
    CHECK_OK(model.status());
    return *std::move(model);
  }

  // How far the reference itself strays when its products have bf16 operands; nothing for a tensor
  // that it does not have.
  Stray ReferenceStray(const char* tensor) {
    simdjson::dom::parser parser;
    const simdjson::dom::element facts = parser.load(GetParam().folder / "expected.json");
    Stray stray;
    if (facts["stray_over_rms"]["bf16_products"][tensor].get(stray.largest) ||
        facts["rms_stray_over_rms"]["bf16_products"][tensor].get(stray.rms)) {
      return {};
    }
    return stray;
  }

  void ExpectWithinReference(const auto& stray, double times) {
    const auto scaled = [&](const char* tensor) {
      const Stray reference = ReferenceStray(tensor);
      return Stray{times * reference.largest, times * reference.rms};
    };
    ASSERT_GT(scaled("hidden_states").rms, 0);
    ExpectWithin(stray.hidden_states, scaled("hidden_states"));
    ExpectWithin(stray.encoder_hidden_states, scaled("encoder_hidden_states"));
    ExpectWithin(stray.logits, scaled("logits"));
  }

  // The worst of all inputs; of a model without a head, the logits do not stray.
  struct ModelStray {
    Stray hidden_states;
    Stray encoder_hidden_states;
    Stray logits;
  };

  // All layers of one stack, which count as one tensor.
  static std::vector<float> AllStates(const Transformer& stack, const ModelRunner::Output& output) {
    EXPECT_EQ(output.hidden_states.size(), stack.config().num_hidden_layers + 1);
    std::vector<float> hidden_states;
    for (const std::vector<float>& states : output.hidden_states) {
      hidden_states.insert(hidden_states.end(), states.begin(), states.end());
    }
    return hidden_states;
  }

  // What the top stack reads: an encoder-decoder's is the target.
  std::string TopIds(Transformer& model, const std::string& input) {
    return input + (model.encoder() != nullptr ? ".decoder_input_ids" : ".input_ids");
  }
  std::vector<int32_t> SourceIds(Transformer& model, const std::string& input) {
    if (model.encoder() == nullptr) return {};
    return expected_->Ids(input + ".input_ids");
  }
  ModelRunner::Output Run(Transformer& model, const std::string& input) {
    if (expected_->Has(input + ".pixel_values")) {
      return ModelRunner::RunImage(model, expected_->Values(input + ".pixel_values"));
    }
    return ModelRunner::Run(model, expected_->Ids(TopIds(model, input)),
                            expected_->Ids(input + ".token_type_ids"), SourceIds(model, input));
  }
  std::vector<std::vector<float>> RunAll(Transformer& model, const std::string& input);
  ModelStray MeasureModel(DataType dtype, bool as_stored = false) {
    const auto model = Load(dtype, as_stored);
    ModelStray worst;
    for (const std::string& input : expected_->Inputs()) {
      const ModelRunner::Output output = Run(*model, input);
      Worsen(Measure(AllStates(*model, output), expected_->Values(input + ".hidden_states")),
             worst.hidden_states);
      if (Transformer* encoder = model->encoder(); encoder != nullptr) {
        const ModelRunner::Output encoded =
            ModelRunner::Run(*encoder, expected_->Ids(input + ".input_ids"));
        Worsen(Measure(AllStates(*encoder, encoded),
                       expected_->Values(input + ".encoder_hidden_states")),
               worst.encoder_hidden_states);
      }
      for (const HeadKind kind : kHeadKinds) {
        if (!model->has_head(kind)) continue;
        Worsen(Measure(HeadLogits(*model, kind, output.hidden_states.back()),
                       expected_->Values(input + ".logits")),
               worst.logits);
      }
      if (!model->has_language_model_head()) continue;
      Worsen(Measure(output.logits, expected_->Values(input + ".logits")), worst.logits);
    }
    return worst;
  }

  // What a head says of one input's last states.
  static std::vector<float> HeadLogits(Transformer& model, HeadKind kind,
                                       const std::vector<float>& states) {
    const int64_t hidden_size = model.config().hidden_size;
    const auto num_tokens = static_cast<int64_t>(states.size()) / hidden_size;
    std::vector<int32_t> rows(kind == HeadKind::kSequenceClassification ? 1 : num_tokens);
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<float> all;
    model.HeadLogits(kind, ConstMatrix(states.data(), num_tokens, hidden_size), rows,
                     [&](int64_t first, ConstMatrix logits) {
                       EXPECT_EQ(first * logits.cols, static_cast<int64_t>(all.size()));
                       for (int64_t i = 0; i < logits.rows; ++i) {
                         all.insert(all.end(), logits.row(i), logits.row(i) + logits.cols);
                       }
                     });
    return all;
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ExpectedTensors> expected_;
};

TEST_P(GoldenTest, HiddenStatesAndLogitsInFloat) {
  const ModelStray stray = MeasureModel(DataType::kFloat32);
  ExpectWithin(stray.hidden_states, {2e-4, 2e-5});
  ExpectWithin(stray.encoder_hidden_states, {2e-4, 2e-5});
  ExpectWithin(stray.logits, {2e-4, 2e-5});
}

TEST_P(GoldenTest, HiddenStatesAndLogitsInBFloat16) {
  ExpectWithinReference(MeasureModel(DataType::kBFloat16), 2);
}

// Values are rounded to steps of a 127th of the largest of 32, which is some 2.2 standard
// deviations of them: an error of 2.2 / 127 / sqrt(12) = 0.0050 deviations, where bf16 makes one of
// about 0.0011. So this strays up to five times as far as bf16 does.
TEST_P(GoldenTest, HiddenStatesAndLogitsInInt8) {
  ExpectWithinReference(MeasureModel(DataType::kInt8), 2 * 5);
}

// The same for weights in the integers of a file, which the expected values were computed with.
TEST_P(GoldenTest, HiddenStatesAndLogitsAsStored) {
  if (!QuantizedType(*checkpoint_)) return;
  ExpectWithinReference(MeasureModel(DataType::kBFloat16, /*as_stored=*/true), 2 * 5);
}

// Of one input, everything that the model computes.
std::vector<std::vector<float>> GoldenTest::RunAll(Transformer& model, const std::string& input) {
  const ModelRunner::Output output = Run(model, input);
  std::vector<std::vector<float>> all = {AllStates(model, output), output.logits};
  for (const HeadKind kind : kHeadKinds) {
    if (model.has_head(kind)) all.push_back(HeadLogits(model, kind, output.hidden_states.back()));
  }
  return all;
}

TEST_P(GoldenTest, FromThePackedCacheItIsTheSameModel) {
  struct Type {
    DataType dtype;
    bool as_stored = false;
  };
  std::vector<Type> types = {
      {DataType::kFloat32}, {DataType::kBFloat16}, {DataType::kInt8}, {DataType::kInt4}};
  if (QuantizedType(*checkpoint_)) types.push_back({DataType::kBFloat16, /*as_stored=*/true});
  const fs::path path =
      fs::temp_directory_path() / absl::StrCat("golden_", getpid(), "_", GetParam().name);
  const std::string input = expected_->Inputs().back();
  for (const Type& type : types) {
    SCOPED_TRACE(absl::StrCat(DataTypeName(type.dtype), type.as_stored ? ", as stored" : ""));
    const PackedFile::Origin origin = {
        {"type", absl::StrCat(DataTypeName(type.dtype), " ", type.as_stored)}};
    PackedCache empty(path, origin);
    const auto packed = Load(type.dtype, type.as_stored, &empty);
    ASSERT_FALSE(empty.has_matrices());
    empty.Finish();
    PackedCache full(path, origin);
    ASSERT_TRUE(full.has_matrices());
    const auto taken = Load(type.dtype, type.as_stored, &full);
    EXPECT_TRUE(full.has_matrices());
    EXPECT_EQ(taken->weight_bytes(), packed->weight_bytes());
    EXPECT_EQ(taken->num_parameters(), packed->num_parameters());
    EXPECT_EQ(RunAll(*taken, input), RunAll(*packed, input));
  }
  fs::remove(path);
}

TEST_P(GoldenTest, GreedyTokensInFloat) {
  const auto model = Load(DataType::kFloat32);
  if (model->spec().stack == Stack::kEncoder) return;
  for (const std::string& input : expected_->Inputs()) {
    SCOPED_TRACE(input);
    const std::vector<int32_t> greedy = expected_->Ids(input + ".greedy_ids");
    ASSERT_EQ(greedy.size(), 64u);
    const std::vector<int32_t> prompt =
        model->encoder() != nullptr ? std::vector<int32_t>{expected_->Ids(TopIds(*model, input))[0]}
                                    : expected_->Ids(input + ".input_ids");
    EXPECT_EQ(ModelRunner::Greedy(*model, prompt, 64, SourceIds(*model, input)), greedy);
  }
}

// What the last token gave to its source, against the mean over the heads of the last layer's map.
TEST_P(GoldenTest, SourceWeightsInFloat) {
  const auto model = Load(DataType::kFloat32);
  if (model->encoder() == nullptr) return;
  const std::vector<int32_t> target = expected_->Ids("length_17.decoder_input_ids");
  const std::vector<float> maps = expected_->Values("length_17.cross_attentions");
  const std::vector<float> got =
      ModelRunner::Run(*model, target, {}, SourceIds(*model, "length_17")).source_weights;
  ASSERT_EQ(got.size(), 17u);
  const int64_t heads = model->config().num_attention_heads;
  const int64_t last_layer = model->config().num_hidden_layers - 1;
  const auto num_queries = static_cast<int64_t>(target.size());
  for (int64_t key = 0; key < 17; ++key) {
    double mean = 0;
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t row = ((last_layer * heads + head) * num_queries + num_queries - 1);
      mean += maps[row * 17 + key] / static_cast<double>(heads);
    }
    EXPECT_NEAR(got[key], mean, 1e-5);
  }
}

TEST_P(GoldenTest, PooledVectorsInFloat) {
  const auto loaded = Load(DataType::kFloat32);
  Transformer* const model = loaded->encoder() != nullptr ? loaded->encoder() : loaded.get();
  const int64_t hidden_size = model->config().hidden_size;
  for (const std::string& input : expected_->Inputs()) {
    const ModelRunner::Output output = Run(*model, input);
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
      SCOPED_TRACE(input + name);
      ExpectWithin(Measure(pooled, expected_->Values(input + name)), {2e-4, 2e-5});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, GoldenTest, ::testing::ValuesIn(AllGoldens()),
                         [](const ::testing::TestParamInfo<Golden>& info) {
                           return absl::StrReplaceAll(info.param.name, {{"-", "_"}, {".", "_"}});
                         });

}  // namespace
}  // namespace attendant::engine
