#include "engine/embedding_output.h"

#include <cstring>
#include <vector>

#include "engine/base/float_conversion.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

TEST(ConvertEmbeddingsTest, FloatsOfEverySize) {
  const std::vector<float> values = {0.5f, -1.0f, 0.333333f, 0.0f};
  const ConstMatrix matrix(values.data(), 2, 2);
  const Tensor f32 = ConvertEmbeddings(matrix, DataType::kFloat32);
  EXPECT_THAT(f32.shape, ElementsAre(2, 2));
  EXPECT_EQ(Values<float>(f32), values);
  EXPECT_THAT(Values<uint16_t>(ConvertEmbeddings(matrix, DataType::kFloat16)),
              ElementsAre(0x3800, 0xbc00, FloatToFloat16(0.333333f), 0));
  EXPECT_THAT(Values<uint16_t>(ConvertEmbeddings(matrix, DataType::kBFloat16)),
              ElementsAre(0x3f00, 0xbf80, FloatToBFloat16(0.333333f), 0));
}

TEST(ConvertEmbeddingsTest, Int8IsSymmetricAround127) {
  const std::vector<float> values = {1.0f, -1.0f, 0.5f, 1.00001f, -2.0f, 0.004f};
  EXPECT_THAT(Values<int8_t>(ConvertEmbeddings(ConstMatrix(values.data(), 1, 6), DataType::kInt8)),
              ElementsAre(127, -127, 64, 127, -127, 1));
}

TEST(ConvertEmbeddingsTest, BinaryPacksSignsMostSignificantFirst) {
  const std::vector<float> values = {1,  -1, 0,  0.1f, -0.1f, -1, -1, 1, /*row 2*/ -1,
                                     -1, -1, -1, -1,   -1,    -1, 1};
  const Tensor tensor = ConvertEmbeddings(ConstMatrix(values.data(), 2, 8), DataType::kBinary);
  EXPECT_THAT(tensor.shape, ElementsAre(2, 8));
  EXPECT_THAT(Values<uint8_t>(tensor), ElementsAre(0b10010001, 0b00000001));
}

TEST(CheckEmbeddingTypeTest, SaysWhatATypeNeeds) {
  EXPECT_OK(CheckEmbeddingType(DataType::kFloat32, 3, false));
  EXPECT_OK(CheckEmbeddingType(DataType::kInt8, 3, true));
  EXPECT_OK(CheckEmbeddingType(DataType::kBinary, 16, false));
  EXPECT_THAT(CheckEmbeddingType(DataType::kInt8, 3, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("normalized")));
  EXPECT_THAT(CheckEmbeddingType(DataType::kBinary, 12, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("12")));
  EXPECT_THAT(CheckEmbeddingType(DataType::kInt64, 8, false),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("i64")));
}

}  // namespace
}  // namespace attendant::engine
