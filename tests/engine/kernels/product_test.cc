#include "engine/kernels/product.h"

#include "absl/strings/str_cat.h"
#include "engine/kernels/reference.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_testing.h"

namespace attendant::engine {
namespace {

TEST(ProductTest, EqualsPlainLoopsForAwkwardShapes) {
  ForEachTarget([] {
    for (const int64_t m : {0, 1, 7, 33}) {
      for (const int64_t k : {1, 15, 300}) {
        for (const int64_t n : {1, 17, 256, 513}) {
          SCOPED_TRACE(absl::StrCat(m, " x ", k, " x ", n));
          const TestMatrix a(m, k, 1, 3), b(k, n, 2, 5);
          TestMatrix got(m, n, 3, 2), want(m, n, 3, 2);
          Multiply(TestContext(), a, b, got);
          reference::Multiply(a, b, want);
          EXPECT_TRUE(AllNear(got, want, SumTolerance(k)));
          EXPECT_TRUE(got.GapsUntouched());
        }
      }
    }
  });
}

}  // namespace
}  // namespace attendant::engine
