// The attention maps inside the models of tests/goldens, against those that transformers gave
// (output_attentions), and their reductions against plain loops over these.

#include "engine/attend/model_attend_job.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/transformer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/expected_tensors.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kNoLimit = int64_t{1} << 40;

// A checkpoint below tests/goldens, and which of its maps.
struct GoldenCase {
  std::string folder;
  AttentionKind kind;
};

const GoldenCase kBert = {"bert/plain", AttentionKind::kEncoderSelf};
const GoldenCase kLlama = {"llama/plain", AttentionKind::kDecoderSelf};

KernelContext& Context() {
  static auto* context = new KernelContext(2, /*pin_threads=*/false);
  return *context;
}

// One tiny checkpoint and the maps of one kind of its input of 17 tokens.
class Golden {
 public:
  explicit Golden(const GoldenCase& which, int32_t max_batch_tokens = 64)
      : kind_(which.kind), folder_(TestDataPath(absl::StrCat("goldens/", which.folder))) {
    const ExpectedTensors expected(folder_);
    auto checkpoint = Checkpoint::Open(folder_);
    CHECK_OK(checkpoint.status());
    auto loaded = Transformer::Load(
        **checkpoint, {.max_batch_tokens = max_batch_tokens, .max_source_tokens = 64}, Context());
    CHECK_OK(loaded.status());
    model_ = *std::move(loaded);
    const bool has_pairs = model_->encoder() != nullptr;
    const bool is_decoder = model_->spec().stack == Stack::kDecoder;
    const ModelConfig& config = model_->config();
    const bool has_images = config.image_height > 0;
    if (has_images) {
      const ModelRunner::Piece piece =
          ModelRunner::OfImage(config, 0, expected.Values("image_0.pixel_values"));
      input_.source.token_ids = piece.ids;
      input_.source.positions.resize(piece.ids.size());
      std::iota(input_.source.positions.begin(), input_.source.positions.end(), 0);
      input_.source.sequences.push_back({.num_queries = input_.source.num_tokens()});
      input_.patches = piece.patches;
      input_.source.sequences.front().patches = input_.patches;
    } else if (has_pairs || !is_decoder) {
      input_.source = BatchOf(expected, "input_ids");
    }
    if (has_pairs) input_.target = BatchOf(expected, "decoder_input_ids");
    if (!has_pairs && is_decoder) input_.target = BatchOf(expected, "input_ids");
    maps_ = expected.Values(
        absl::StrCat(has_images ? "image_0." : "length_17.", TensorOf(kind_, has_pairs)));
    const Transformer& stack =
        has_pairs && kind_ == AttentionKind::kEncoderSelf ? *model_->encoder() : *model_;
    num_layers_ = stack.config().num_hidden_layers;
    num_heads_ = stack.config().num_attention_heads;
    num_queries_ = kind_ == AttentionKind::kEncoderSelf ? input_.source.num_tokens()
                                                        : input_.target.num_tokens();
    num_keys_ = kind_ == AttentionKind::kCross ? input_.source.num_tokens() : num_queries_;
    CHECK_EQ(maps_.size(), int64_t{num_layers_} * num_heads_ * num_queries_ * num_keys_);
  }

  Transformer& model() const { return *model_; }
  const MapInput& input() const { return input_; }
  int32_t num_layers() const { return num_layers_; }
  int32_t num_heads() const { return num_heads_; }
  int32_t num_queries() const { return num_queries_; }
  int32_t num_keys() const { return num_keys_; }
  float map(int32_t layer, int32_t head, int32_t query, int32_t key) const {
    return maps_[((int64_t{layer} * num_heads_ + head) * num_queries_ + query) * num_keys_ + key];
  }

  // Everything.
  MapSelection All(AttentionReduction reduction = AttentionReduction::kNone) const {
    MapSelection all;
    all.kind = kind_;
    all.layers.resize(num_layers_);
    std::iota(all.layers.begin(), all.layers.end(), 0);
    all.heads.resize(num_heads_);
    std::iota(all.heads.begin(), all.heads.end(), 0);
    all.queries = {0, num_queries_};
    all.keys = {0, num_keys_};
    all.reduction = reduction;
    return all;
  }

  static const char* TensorOf(AttentionKind kind, bool has_pairs) {
    if (!has_pairs) return "attentions";
    if (kind == AttentionKind::kEncoderSelf) return "encoder_attentions";
    return kind == AttentionKind::kCross ? "cross_attentions" : "decoder_attentions";
  }

 private:
  static Batch BatchOf(const ExpectedTensors& expected, absl::string_view ids) {
    Batch batch;
    batch.token_ids = expected.Ids(absl::StrCat("length_17.", ids));
    batch.type_ids = expected.Ids("length_17.token_type_ids");
    batch.positions.resize(batch.num_tokens());
    std::iota(batch.positions.begin(), batch.positions.end(), 0);
    batch.sequences.push_back({.num_queries = batch.num_tokens()});
    return batch;
  }

  const AttentionKind kind_;
  const std::filesystem::path folder_;
  std::unique_ptr<Transformer> model_;
  MapInput input_;
  std::vector<float> maps_;
  int32_t num_layers_, num_heads_, num_queries_, num_keys_;
};

// One row of what came: of a layer, a head (-1: of none) and a query.
struct RowName {
  int32_t layer, head, query;
  auto operator<=>(const RowName&) const = default;
};
struct Row {
  std::vector<float> weights;
  std::vector<int32_t> keys;
};

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

std::map<RowName, Row> RowsOf(const Golden& golden, const MapSelection& selection) {
  auto job = ModelAttendJob::Create(golden.input(), selection, {}, nullptr, kNoLimit);
  CHECK_OK(job.status());
  (*job)->Bind(golden.model());
  std::map<RowName, Row> rows;
  while (!(*job)->done()) {
    auto block = (*job)->Next(Context());
    CHECK_OK(block.status());
    if (!block->has_value()) continue;
    EXPECT_EQ((*block)->attention, selection.kind);
    EXPECT_LE((*block)->tensor.data.size(), kMaxAttendBlockBytes);
    const std::vector<float> weights = Values<float>((*block)->tensor);
    const std::vector<int32_t> keys = Values<int32_t>((*block)->keys);
    const bool has_heads = (*block)->head_end > (*block)->head_begin;
    const int64_t width = (*block)->tensor.shape.back();
    size_t next = 0;
    for (int32_t head = has_heads ? (*block)->head_begin : -1;
         head < (has_heads ? (*block)->head_end : 0); ++head) {
      for (int32_t query = (*block)->query_begin; query < (*block)->query_end; ++query) {
        Row row;
        row.weights.assign(weights.begin() + next, weights.begin() + next + width);
        if (!keys.empty()) row.keys.assign(keys.begin() + next, keys.begin() + next + width);
        next += width;
        const bool is_new = rows.emplace(RowName{(*block)->layer, head, query}, row).second;
        EXPECT_TRUE(is_new) << "a row came twice";
      }
    }
    EXPECT_EQ(next, weights.size());
  }
  return rows;
}

// Every case of every architecture in the registry whose maps the reference gave.
std::vector<GoldenCase> AllGoldens() {
  std::vector<GoldenCase> all;
  for (const absl::string_view model_type : KnownModelTypes()) {
    const std::filesystem::path folder = TestDataPath(absl::StrCat("goldens/", model_type));
    if (!std::filesystem::is_directory(folder)) continue;
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (!std::filesystem::exists(entry.path() / "expected.safetensors")) continue;
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    const ArchitectureSpec& spec = **FindArchitecture(model_type);
    for (const std::string& name : names) {
      const std::string path = absl::StrCat(model_type, "/", name);
      if (spec.encoder != nullptr || spec.stack == Stack::kEncoder) {
        all.push_back({path, AttentionKind::kEncoderSelf});
      }
      if (spec.stack == Stack::kDecoder) all.push_back({path, AttentionKind::kDecoderSelf});
      if (spec.encoder != nullptr) all.push_back({path, AttentionKind::kCross});
    }
  }
  return all;
}

class MapsTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(MapsTest, AreThoseOfTheReference) {
  const Golden golden(GetParam());
  const std::map<RowName, Row> rows = RowsOf(golden, golden.All());
  ASSERT_EQ(rows.size(), golden.num_layers() * golden.num_heads() * golden.num_queries());
  for (const auto& [name, row] : rows) {
    ASSERT_EQ(row.weights.size(), golden.num_keys());
    double sum = 0;
    for (int32_t key = 0; key < golden.num_keys(); ++key) {
      EXPECT_NEAR(row.weights[key], golden.map(name.layer, name.head, name.query, key), 1e-5);
      sum += row.weights[key];
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

TEST_P(MapsTest, OfChosenLayersHeadsAndRangesAreThatPartOfAll) {
  const Golden golden(GetParam());
  MapSelection selection = golden.All();
  const int32_t last_head = golden.num_heads() - 1;
  const int32_t last_layer = golden.num_layers() - 1;
  selection.layers = {last_layer};
  selection.heads = {0, last_head};
  selection.queries = {1, golden.num_queries() - 1};
  selection.keys = {2, golden.num_keys() - 1};
  const std::map<RowName, Row> rows = RowsOf(golden, selection);
  ASSERT_EQ(rows.size(), 2 * (golden.num_queries() - 2));
  for (const auto& [name, row] : rows) {
    EXPECT_EQ(name.layer, last_layer);
    EXPECT_TRUE(name.head == 0 || name.head == last_head);
    ASSERT_EQ(row.weights.size(), golden.num_keys() - 3);
    for (int32_t i = 0; i < row.weights.size(); ++i) {
      EXPECT_NEAR(row.weights[i], golden.map(last_layer, name.head, name.query, 2 + i), 1e-5);
    }
  }
}

TEST_P(MapsTest, MeanOverHeads) {
  const Golden golden(GetParam());
  MapSelection selection = golden.All(AttentionReduction::kMeanHeads);
  const int32_t last_head = golden.num_heads() - 1;
  selection.heads = {0, last_head};
  selection.keys = {1, golden.num_keys()};
  const std::map<RowName, Row> rows = RowsOf(golden, selection);
  ASSERT_EQ(rows.size(), golden.num_layers() * golden.num_queries());
  for (const auto& [name, row] : rows) {
    EXPECT_EQ(name.head, -1);
    for (int32_t key = 1; key < golden.num_keys(); ++key) {
      const double mean = (double{golden.map(name.layer, 0, name.query, key)} +
                           golden.map(name.layer, last_head, name.query, key)) /
                          2;
      EXPECT_NEAR(row.weights[key - 1], mean, 1e-5);
    }
  }
}

TEST_P(MapsTest, MeanOverLayers) {
  const Golden golden(GetParam());
  MapSelection selection = golden.All(AttentionReduction::kMeanLayers);
  const int32_t last_layer = golden.num_layers() - 1;
  if (last_layer > 0) selection.layers = {0, last_layer};
  selection.heads = {0, 1};
  selection.queries = {1, golden.num_queries() - 1};
  const std::map<RowName, Row> rows = RowsOf(golden, selection);
  ASSERT_EQ(rows.size(), 2 * (golden.num_queries() - 2));
  for (const auto& [name, row] : rows) {
    EXPECT_EQ(name.layer, last_layer) << "the last of them";
    for (int32_t key = 0; key < golden.num_keys(); ++key) {
      const double mean = (double{golden.map(0, name.head, name.query, key)} +
                           golden.map(last_layer, name.head, name.query, key)) /
                          2;
      EXPECT_NEAR(row.weights[key], mean, 1e-5);
    }
  }
}

// Abnar and Zuidema's formula, in double and plain loops, on the reference's maps.
std::vector<double> RollOut(const Golden& golden, const MapSelection& selection) {
  const int32_t n = golden.num_keys();
  std::vector<double> product;
  for (const int32_t layer : selection.layers) {
    std::vector<double> mixed(n * n);
    for (int32_t query = 0; query < n; ++query) {
      double sum = 0;
      for (int32_t key = 0; key < n; ++key) {
        double mean = query == key ? 1 : 0;
        for (const int32_t head : selection.heads) {
          mean += golden.map(layer, head, query, key) / static_cast<double>(selection.heads.size());
        }
        mixed[query * n + key] = mean;
        sum += mean;
      }
      for (int32_t key = 0; key < n; ++key) mixed[query * n + key] /= sum;
    }
    if (product.empty()) {
      product = mixed;
      continue;
    }
    std::vector<double> next(n * n, 0.0);
    for (int32_t i = 0; i < n; ++i) {
      for (int32_t j = 0; j < n; ++j) {
        for (int32_t k = 0; k < n; ++k) next[i * n + j] += mixed[i * n + k] * product[k * n + j];
      }
    }
    product = next;
  }
  return product;
}

TEST_P(MapsTest, RollOutThroughAllLayersAndThroughSome) {
  const Golden golden(GetParam());
  if (golden.All().kind == AttentionKind::kCross) GTEST_SKIP() << "it is of self-attention";
  const std::vector<int32_t> all = golden.All().layers;
  for (const std::vector<int32_t>& layers :
       std::vector<std::vector<int32_t>>{all, {all.front()}, {all.back()}}) {
    MapSelection selection = golden.All(AttentionReduction::kRollout);
    selection.layers = layers;
    selection.queries = {1, golden.num_queries()};
    const std::vector<double> want = RollOut(golden, selection);
    const std::map<RowName, Row> rows = RowsOf(golden, selection);
    ASSERT_EQ(rows.size(), golden.num_queries() - 1);
    for (const auto& [name, row] : rows) {
      double sum = 0;
      for (int32_t key = 0; key < golden.num_keys(); ++key) {
        EXPECT_NEAR(row.weights[key], want[name.query * golden.num_keys() + key], 1e-5);
        sum += row.weights[key];
      }
      EXPECT_NEAR(sum, 1, 1e-5);
    }
  }
}

TEST_P(MapsTest, TopKeysAreTheLargestInOrder) {
  const Golden golden(GetParam());
  MapSelection selection = golden.All(AttentionReduction::kTopK);
  selection.keys = {1, golden.num_keys()};
  selection.top_k = 3;
  const std::map<RowName, Row> rows = RowsOf(golden, selection);
  ASSERT_EQ(rows.size(), golden.num_layers() * golden.num_heads() * golden.num_queries());
  for (const auto& [name, row] : rows) {
    ASSERT_EQ(row.weights.size(), 3);
    ASSERT_EQ(row.keys.size(), 3);
    EXPECT_TRUE(std::is_sorted(row.weights.rbegin(), row.weights.rend()));
    std::vector<float> all;
    for (int32_t key = 1; key < golden.num_keys(); ++key) {
      all.push_back(golden.map(name.layer, name.head, name.query, key));
    }
    std::sort(all.rbegin(), all.rend());
    for (int i = 0; i < 3; ++i) {
      EXPECT_GE(row.keys[i], 1);
      EXPECT_NEAR(row.weights[i], golden.map(name.layer, name.head, name.query, row.keys[i]), 1e-5);
      EXPECT_NEAR(row.weights[i], all[i], 1e-5);
    }
    std::vector<int32_t> keys = row.keys;
    std::sort(keys.begin(), keys.end());
    EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, MapsTest, ::testing::ValuesIn(AllGoldens()),
                         [](const auto& info) {
                           std::string name = info.param.folder;
                           for (char& c : name) {
                             if (!absl::ascii_isalnum(c)) c = '_';
                           }
                           switch (info.param.kind) {
                             case AttentionKind::kEncoderSelf:
                               return name + "_encoder";
                             case AttentionKind::kDecoderSelf:
                               return name + "_decoder";
                             default:
                               return name + "_cross";
                           }
                         });

// A decoder's tokens come in pieces where a step takes fewer.
TEST(ModelAttendJobTest, ADecoderInPiecesGivesTheSameMaps) {
  const Golden whole(kLlama), pieces(kLlama, /*max_batch_tokens=*/5);
  const std::map<RowName, Row> want = RowsOf(whole, whole.All()),
                               got = RowsOf(pieces, pieces.All());
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, row] : want) {
    for (size_t key = 0; key < row.weights.size(); ++key) {
      EXPECT_NEAR(got.at(name).weights[key], row.weights[key], 1e-6);
    }
  }
}

TEST(ModelAttendJobTest, StepsOfOthersChangeNothing) {
  const Golden golden(kBert);
  const std::map<RowName, Row> want = RowsOf(golden, golden.All());
  auto one = *ModelAttendJob::Create(golden.input(), golden.All(), {}, nullptr, kNoLimit);
  MapInput reversed = golden.input();
  std::reverse(reversed.source.token_ids.begin(), reversed.source.token_ids.end());
  auto other = *ModelAttendJob::Create(reversed, golden.All(), {}, nullptr, kNoLimit);
  one->Bind(golden.model());
  other->Bind(golden.model());
  while (!one->done()) {
    ASSERT_OK_AND_ASSIGN(const std::optional<AttendBlock> block, one->Next(Context()));
    if (!other->done()) {
      ASSERT_OK(other->Next(Context()).status());
    }
    golden.model().Forward(reversed.source, nullptr);
    if (!block.has_value()) continue;
    const std::vector<float> weights = Values<float>(block->tensor);
    const RowName first{block->layer, block->head_begin, block->query_begin};
    EXPECT_THAT(std::vector<float>(weights.begin(), weights.begin() + golden.num_keys()),
                ::testing::ElementsAreArray(want.at(first).weights));
  }
}

TEST(ModelAttendJobTest, ShapesAndTheLimitCountWhatEachReductionMakes) {
  const Golden golden(kBert);
  const int64_t n = golden.num_keys(), heads = golden.num_heads(), layers = golden.num_layers();
  struct Case {
    AttentionReduction reduction;
    std::vector<int64_t> shape;
    int64_t bytes;
  };
  for (const Case& c :
       std::vector<Case>{{AttentionReduction::kNone, {heads, n, n}, layers * heads * n * n * 4},
                         {AttentionReduction::kMeanHeads, {n, n}, layers * n * n * 4},
                         {AttentionReduction::kMeanLayers, {heads, n, n}, 2 * heads * n * n * 4},
                         {AttentionReduction::kRollout, {n, n}, 3 * n * n * 4},
                         {AttentionReduction::kTopK, {heads, n, 3}, layers * heads * n * 3 * 8}}) {
    MapSelection selection = golden.All(c.reduction);
    selection.top_k = 3;
    const auto fits = ModelAttendJob::Create(golden.input(), selection, {}, nullptr, c.bytes);
    ASSERT_OK(fits.status());
    EXPECT_EQ((*fits)->started().weights_shape, c.shape);
    EXPECT_THAT(ModelAttendJob::Create(golden.input(), selection, {}, nullptr, c.bytes - 1),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(absl::StrCat("take ", c.bytes, " bytes")),
                               HasSubstr(absl::StrCat("allows ", c.bytes - 1)),
                               HasSubstr("--max_map_bytes"))));
  }
}

}  // namespace
}  // namespace attendant::engine
