// Loading takes the memory of the packed weights, and of one tensor more: not that of the file, and
// not that of all weights in float.

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernel_context.h"
#include "engine/model/transformer.h"
#include "gtest/gtest.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/random_bert.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::AllocationsAreCounted;
using ::attendant::testing::BertShape;
using ::attendant::testing::HeapBytes;
using ::attendant::testing::PeakHeapBytes;
using ::attendant::testing::ResetPeakHeapBytes;
using ::attendant::testing::WriteBert;

class LoadingMemoryTest : public ::testing::TestWithParam<DataType> {
 protected:
  static constexpr BertShape kShape{.num_hidden_layers = 16, .hidden_size = 384};

  static void SetUpTestSuite() { WriteBert(kShape, Folder()); }
  static void TearDownTestSuite() { std::filesystem::remove_all(Folder()); }
  static std::filesystem::path Folder() {
    return std::filesystem::path(::testing::TempDir()) / absl::StrCat("loading_memory.", getpid());
  }
};

INSTANTIATE_TEST_SUITE_P(DataTypes, LoadingMemoryTest,
                         ::testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kInt8,
                                           DataType::kInt4),
                         [](const auto& info) { return std::string(DataTypeName(info.param)); });

TEST_P(LoadingMemoryTest, IsThatOfThePackedWeightsAndOneTensor) {
  if (!AllocationsAreCounted()) GTEST_SKIP() << "this build has another heap";
  KernelContext context(2, /*pin_threads=*/false);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(Folder()));
  const TransformerOptions options{.dtype = GetParam(), .max_batch_tokens = 16};
  // What is made once in a process is there afterwards.
  ASSERT_OK(Transformer::Load(*checkpoint, options, context));

  const int64_t before = HeapBytes();
  ResetPeakHeapBytes();
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Transformer> model,
                       Transformer::Load(*checkpoint, options, context));
  const int64_t peak = PeakHeapBytes() - before, kept = HeapBytes() - before;
  const int64_t packed = model->weight_bytes() + model->workspace_bytes();
  // Queries, keys and values, in float: the largest tensor.
  constexpr int64_t kTensorBytes = 3 * kShape.hidden_size * kShape.hidden_size * sizeof(float);
  // The code of products, descriptions and names.
  constexpr int64_t kCodeBytes = 3'000'000, kBesides = 500'000;
  EXPECT_GE(kept, model->weight_bytes());
  EXPECT_LE(kept, packed + kCodeBytes);
  EXPECT_LE(peak, kept + kTensorBytes + kBesides);
}

}  // namespace
}  // namespace attendant::engine
