// A oneDNN that multiplies wrongly, as some releases did for some shapes, serves nobody.

#include <dlfcn.h>

#include <atomic>
#include <memory>

#include "engine/engine.h"
#include "engine/kernels/kernel_context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "oneapi/dnnl/dnnl.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace {

std::atomic<bool> multiplies_wrongly{false};

}  // namespace

// Before the library's: the first value of each result is off by a little.
extern "C" dnnl_status_t dnnl_primitive_execute(const_dnnl_primitive_t primitive,
                                                dnnl_stream_t stream, int num_arguments,
                                                const dnnl_exec_arg_t* arguments) {
  static const auto execute = reinterpret_cast<decltype(&dnnl_primitive_execute)>(
      dlsym(RTLD_NEXT, "dnnl_primitive_execute"));
  const dnnl_status_t status = execute(primitive, stream, num_arguments, arguments);
  for (int i = 0; multiplies_wrongly && i < num_arguments; ++i) {
    if (arguments[i].arg != DNNL_ARG_DST) continue;
    void* result = nullptr;
    dnnl_memory_get_data_handle(arguments[i].memory, &result);
    *static_cast<float*>(result) += 0.1f;
  }
  return status;
}

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FaultyLibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.num_threads = 1;
    options_.pin_threads = false;
  }
  void TearDown() override { multiplies_wrongly = false; }

  EngineOptions options_;
};

TEST_F(FaultyLibraryTest, TheEngineDoesNotStart) {
  multiplies_wrongly = true;
  EXPECT_THAT(Engine::Create(options_).status(),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("self-test: linear"), HasSubstr("f32"))));
}

TEST_F(FaultyLibraryTest, AModelInATypeThatIsMultipliedWronglyIsNotLoaded) {
  if (!CpuMultipliesBFloat16()) GTEST_SKIP() << "bfloat16 is float here, which was tested";
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Engine> engine, Engine::Create(options_));
  multiplies_wrongly = true;
  const ModelSource source = {
      .name = "model", .path = TestDataPath("goldens/bert/plain"), .dtype = DataType::kBFloat16};
  EXPECT_THAT(engine->LoadModel(source),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("self-test: linear"), HasSubstr("bf16"))));
  EXPECT_THAT(engine->ListModels(), IsEmpty());
  multiplies_wrongly = false;
  EXPECT_OK(engine->LoadModel(source)) << "and it can be, once that is over";
}

}  // namespace
}  // namespace attendant::engine
