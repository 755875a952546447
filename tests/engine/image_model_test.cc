// From photographs to classes: image files, preprocessing and model together.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/image_config.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/transformer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/model/expected_tensors.h"
#include "tests/engine/model/fake_checkpoint.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::testing::AllOf;
using ::testing::HasSubstr;

KernelContext& Context() {
  static auto* context = new KernelContext(1, /*pin_threads=*/false);
  return *context;
}

std::unique_ptr<Transformer> Load(const Checkpoint& checkpoint, DataType dtype) {
  auto model = Transformer::Load(
      checkpoint, {.dtype = dtype, .max_batch_tokens = 512, .strict_kernels = true}, Context());
  CHECK_OK(model.status());
  return *std::move(model);
}

// Logits of the checkpoint's classifier, by plain loops, over an image's states.
std::vector<float> Classify(const Checkpoint& checkpoint, const std::vector<float>& states) {
  const std::vector<int64_t> shape = *checkpoint.TensorShape("classifier.weight");
  std::vector<float> weight(shape[0] * shape[1]), logits(shape[0]);
  CHECK_OK(checkpoint.ReadTensor("classifier.weight", shape, absl::MakeSpan(weight)));
  CHECK_OK(checkpoint.ReadTensor("classifier.bias", {shape[0]}, absl::MakeSpan(logits)));
  for (int64_t label = 0; label < shape[0]; ++label) {
    for (int64_t i = 0; i < shape[1]; ++i) {
      logits[label] += weight[label * shape[1] + i] * states[i];
    }
  }
  return logits;
}

TEST(VitTinyTest, ClassifiesPhotographs) {
  const auto folder = SharedDataPath("models/vit-tiny-patch16-224");
  const auto vectors = SharedDataPath("vectors/models/vit-tiny-patch16-224.json");
  const auto photographs = SharedDataPath("vectors/images");
  if (!folder || !vectors || !photographs) GTEST_SKIP() << "no shared checkpoint of ViT";
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(*folder));
  const auto model = Load(*checkpoint, DataType::kFloat32);
  ASSERT_OK_AND_ASSIGN(
      const ImageProcessor images,
      ReadImageProcessor(ReadFileOrDie(*folder / "preprocessor_config.json"), model->config()));

  simdjson::dom::parser parser;
  int num_compared = 0;
  const auto compare = [&](const ModelRunner::Output& output, simdjson::dom::element expected) {
    const std::vector<float> logits = Classify(*checkpoint, output.hidden_states.back());
    size_t label = 0;
    for (const simdjson::dom::element value : expected["logits_first16"].get_array()) {
      EXPECT_NEAR(logits[label++], double{value}, 1e-3);
    }
    for (const simdjson::dom::element best : expected["top5"].get_array()) {
      EXPECT_NEAR(logits[int64_t{best.at(0)}], double{best.at(2)}, 1e-3);
    }
    ++num_compared;
  };
  for (const simdjson::dom::element item : parser.load(*vectors)["cases"].get_array()) {
    if (item["image"].error()) {
      // pixel_values[c, y, x]: 2x/223 - 1, 2y/223 - 1 and 2(x + y)/446 - 1.
      std::vector<float> pixels;
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < 224; ++y) {
          for (int x = 0; x < 224; ++x) {
            const double values[] = {x / 223.0, y / 223.0, (x + y) / 446.0};
            pixels.push_back(static_cast<float>(2 * values[c] - 1));
          }
        }
      }
      compare(ModelRunner::RunImage(*model, pixels), item);
      continue;
    }
    for (const char* key : {"image", "resized_rgb"}) {
      const auto name = std::string(std::string_view(item[key]));
      SCOPED_TRACE(name);
      ASSERT_OK_AND_ASSIGN(std::vector<float> patches,
                           images.Process(ReadFileOrDie(*photographs / name), 1 << 24));
      double sum = 0;
      for (const float value : patches) sum += value;
      EXPECT_NEAR(sum / static_cast<double>(patches.size()), double{item["pixel_values_mean"]},
                  2e-6);
      ModelRunner runner(*model, 197);
      compare(runner.Step({ModelRunner::OfPatches(model->config(), 0, std::move(patches))})[0],
              item);
    }
  }
  EXPECT_EQ(num_compared, 7);
}

// Images of a step do not see each other, whatever the number of threads and the order.
TEST(ImageModelTest, AnImageIsTheSameAloneAndInABatch) {
  for (const char* name : {"goldens/vit/bare", "goldens/deit/with_teacher"}) {
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(TestDataPath(name)));
    const ExpectedTensors expected(TestDataPath(name));
    const auto model = Load(*checkpoint, DataType::kFloat32);
    std::vector<ModelRunner::Piece> pieces;
    std::vector<ModelRunner::Output> alone;
    for (const std::string& input : expected.Inputs()) {
      const std::vector<float> pixels = expected.Values(input + ".pixel_values");
      pieces.push_back(
          ModelRunner::OfImage(model->config(), static_cast<int>(pieces.size()), pixels));
      alone.push_back(ModelRunner::RunImage(*model, pixels));
    }
    ModelRunner runner(*model, 512);
    const std::vector<ModelRunner::Output> packed = runner.Step(pieces);
    for (size_t i = 0; i < packed.size(); ++i) {
      for (size_t layer = 0; layer < packed[i].hidden_states.size(); ++layer) {
        const std::vector<float>& together = packed[i].hidden_states[layer];
        for (size_t at = 0; at < together.size(); ++at) {
          ASSERT_NEAR(together[at], alone[i].hidden_states[layer][at], 1e-5);
        }
      }
    }
  }
}

FakeCheckpoint CopyOf(const Checkpoint& checkpoint) {
  FakeCheckpoint copy;
  copy.config = checkpoint.config_json();
  for (const std::string& name : checkpoint.TensorNames()) {
    FakeCheckpoint::FakeTensor& tensor = copy.tensors[name];
    tensor.shape = *checkpoint.TensorShape(name);
    tensor.values.resize(NumElements(tensor.shape));
    CHECK_OK(checkpoint.ReadTensor(name, tensor.shape, absl::MakeSpan(tensor.values)));
  }
  return copy;
}

// Positions are learned for one size of images, and not interpolated for another.
TEST(ImageModelTest, RefusesPositionsOfAnotherSize) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(TestDataPath("goldens/vit/classifier")));
  FakeCheckpoint larger = CopyOf(*checkpoint);
  EXPECT_OK(Transformer::Load(larger, {}, Context()));
  larger.SetConfig("image_size", "[16, 20]");
  EXPECT_THAT(Transformer::Load(larger, {}, Context()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("position_embeddings"), HasSubstr("[1, 21, 36]"))));
}

TEST(ImageModelTest, RefusesSizesThatCannotBe) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(TestDataPath("goldens/vit/classifier")));
  const struct {
    const char* key;
    const char* value;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"image_size", "0", absl::StatusCode::kInvalidArgument, "image_size is 0"},
      {"image_size", "[12]", absl::StatusCode::kInvalidArgument, "image_size is [12]"},
      {"image_size", "[12, 20.5]", absl::StatusCode::kInvalidArgument, "image_size"},
      {"image_size", "[3, 20]", absl::StatusCode::kInvalidArgument, "patch_size is 4 x 4"},
      {"patch_size", "100000", absl::StatusCode::kInvalidArgument, "patch_size is 100000"},
      {"num_channels", "1", absl::StatusCode::kUnimplemented, "num_channels is 1"},
  };
  for (const auto& [key, value, code, message] : kCases) {
    FakeCheckpoint wrong = CopyOf(*checkpoint);
    wrong.SetConfig(key, value);
    EXPECT_THAT(Transformer::Load(wrong, {}, Context()), StatusIs(code, HasSubstr(message)))
        << key << " = " << value;
  }
}

}  // namespace
}  // namespace attendant::engine
