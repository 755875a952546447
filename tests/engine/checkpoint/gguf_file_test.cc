#include "engine/checkpoint/gguf_file.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/checkpoint/gguf_builder.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::IsOk;
using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;

TEST(GgufFileTest, ReadsEveryTypeOfMetadata) {
  GgufBuilder builder;
  builder.Value("u8", GgufBuilder::kUint8, Raw<uint8_t>(200))
      .Value("i8", GgufBuilder::kInt8, Raw<int8_t>(-3))
      .Value("u16", GgufBuilder::kUint16, Raw<uint16_t>(60000))
      .Value("i16", GgufBuilder::kInt16, Raw<int16_t>(-300))
      .Value("u32", GgufBuilder::kUint32, Raw<uint32_t>(4000000000))
      .Value("i32", GgufBuilder::kInt32, Raw<int32_t>(-70000))
      .Value("u64", GgufBuilder::kUint64, Raw<uint64_t>(1))
      .Value("i64", GgufBuilder::kInt64, Raw<int64_t>(-5000000000))
      .Value("f32", GgufBuilder::kFloat32, Raw<float>(1.5))
      .Value("f64", GgufBuilder::kFloat64, Raw<double>(2.25))
      .Value("yes", GgufBuilder::kBool, Raw<uint8_t>(1))
      .String("text", std::string("a\0b", 3))
      .Strings("texts", {"", "x", "yz"})
      .Value("shorts", GgufBuilder::kArray,
             Raw<uint32_t>(GgufBuilder::kInt16) + Raw<uint64_t>(2) + Raw<int16_t>(-1) +
                 Raw<int16_t>(2))
      .Value("floats", GgufBuilder::kArray,
             Raw<uint32_t>(GgufBuilder::kFloat32) + Raw<uint64_t>(2) + Raw<float>(0.5) +
                 Raw<float>(-0.5))
      .Value("nested", GgufBuilder::kArray,
             Raw<uint32_t>(GgufBuilder::kArray) + Raw<uint64_t>(1) +
                 Raw<uint32_t>(GgufBuilder::kString) + Raw<uint64_t>(1) + RawString("deep"))
      .Value("last", GgufBuilder::kUint64, Raw<uint64_t>(UINT64_MAX));
  const std::string bytes = builder.Build();
  ASSERT_OK_AND_ASSIGN(const GgufFile file, GgufFile::Parse("x", AsBytes(bytes)));
  EXPECT_THAT(*file.GetInteger("u8"), Optional(200));
  EXPECT_THAT(*file.GetInteger("i8"), Optional(-3));
  EXPECT_THAT(*file.GetInteger("u16"), Optional(60000));
  EXPECT_THAT(*file.GetInteger("i16"), Optional(-300));
  EXPECT_THAT(*file.GetInteger("u32"), Optional(4000000000));
  EXPECT_THAT(*file.GetInteger("i32"), Optional(-70000));
  EXPECT_THAT(*file.GetInteger("u64"), Optional(1));
  EXPECT_THAT(*file.GetInteger("i64"), Optional(-5000000000));
  EXPECT_THAT(*file.GetFloat("f32"), Optional(1.5));
  EXPECT_THAT(*file.GetFloat("f64"), Optional(2.25));
  EXPECT_THAT(*file.GetBool("yes"), Optional(true));
  EXPECT_THAT(*file.GetString("text"), Optional(std::string("a\0b", 3)));
  EXPECT_THAT(*file.GetStrings("texts"), Optional(ElementsAre("", "x", "yz")));
  EXPECT_THAT(*file.GetIntegers("shorts"), Optional(ElementsAre(-1, 2)));
  EXPECT_THAT(*file.GetFloats("floats"), Optional(ElementsAre(0.5, -0.5)));
  EXPECT_EQ(*file.GetInteger("absent"), std::nullopt);

  EXPECT_THAT(file.GetInteger("text"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "x: text is of type string; expected an integer below 2^63"));
  EXPECT_THAT(file.GetInteger("last"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetFloat("u8"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetBool("u8"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetString("u8"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetStrings("shorts"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("array of int16")));
  EXPECT_THAT(file.GetIntegers("floats"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetIntegers("u8"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(file.GetFloats("nested"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(GgufFileTest, GivesTensorsOutermostExtentFirst) {
  for (const uint32_t version : {2, 3}) {
    GgufBuilder builder;
    builder.version = version;
    builder.FloatTensor("a", {3, 2}, {1, 2, 3, 4, 5, 6}).FloatTensor("b", {}, {7});
    const std::string bytes = builder.Build();
    ASSERT_OK_AND_ASSIGN(const GgufFile file, GgufFile::Parse("x", AsBytes(bytes)));
    const GgufFile::Tensor* tensor = file.Find("a");
    ASSERT_NE(tensor, nullptr);
    EXPECT_THAT(tensor->shape, ElementsAre(2, 3));
    EXPECT_EQ(tensor->data.size(), 24);
    EXPECT_EQ(file.Find("b")->data.size(), 4);
    EXPECT_EQ(file.Find("c"), nullptr);
  }
}

TEST(GgufFileTest, FollowsTheAlignmentOfItsMetadata) {
  GgufBuilder builder;
  builder.Integer("general.alignment", 8).Entry("a", {2}, 0, 8);
  const std::string bytes = builder.Build() + std::string(8, 'x') + Raw<float>(1) + Raw<float>(2);
  // The builder pads to 32; an alignment of 8 may put the data earlier.
  ASSERT_OK_AND_ASSIGN(const GgufFile file, GgufFile::Parse("x", AsBytes(bytes)));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.Find("a")->data.data()) -
                reinterpret_cast<uintptr_t>(bytes.data()),
            (4 + 4 + 8 + 8 + (8 + 17 + 4 + 4) + (8 + 1 + 4 + 8 + 4 + 8) + 7) / 8 * 8 + 8);
}

std::string Array(uint32_t element_type, uint64_t count) { return Raw(element_type) + Raw(count); }

TEST(GgufFileTest, RefusesHostileFiles) {
  const auto with = [](auto change) {
    GgufBuilder builder;
    change(builder);
    return builder.Build();
  };
  std::string nested;
  for (int i = 0; i < 6; ++i) nested += Array(GgufBuilder::kArray, 1);
  const struct {
    std::string what;
    std::string file;
    std::string message;
    absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  } cases[] = {
      {"empty", "", "neither a folder nor a GGUF file"},
      {"other magic", with([](auto& b) { b.magic = "GGML"; }), "nor a GGUF file"},
      {"version 1", with([](auto& b) { b.version = 1; }), "GGUF version 1",
       absl::StatusCode::kUnimplemented},
      {"version 4", with([](auto& b) { b.version = 4; }), "GGUF version 4",
       absl::StatusCode::kUnimplemented},
      {"big-endian", with([](auto& b) { b.version = 3 << 24; }), "big-endian",
       absl::StatusCode::kUnimplemented},
      {"no counts", std::string("GGUF") + Raw<uint32_t>(3), "the tensor count takes 8 bytes"},
      {"greatest metadata count", with([](auto& b) { b.num_values = UINT64_MAX; }),
       "a metadata count of 18446744073709551615"},
      {"greatest tensor count", with([](auto& b) { b.num_tensors = UINT64_MAX; }),
       "a tensor count of 18446744073709551615"},
      {"one value too few", with([](auto& b) { b.Integer("k", 1).num_values = 2; }),
       "a metadata key is empty"},
      {"key beyond the file", with([](auto& b) {
                                b.Integer("k", 1);
                                b.num_values = 1;
                              }).replace(24, 8, Raw<uint64_t>(UINT64_MAX)),
       "a metadata key takes 18446744073709551615 bytes"},
      {"unknown value type", with([](auto& b) { b.Value("k", 13, Raw<uint64_t>(0)); }),
       "k: 13 is not a type"},
      {"string beyond the file",
       with([](auto& b) { b.Value("k", GgufBuilder::kString, Raw<uint64_t>(uint64_t{1} << 40)); }),
       "k takes"},
      {"key twice", with([](auto& b) { b.Integer("k", 1).Integer("k", 1); }),
       "the key k is given twice"},
      {"array beyond the file", with([](auto& b) {
         b.Value("k", GgufBuilder::kArray, Array(GgufBuilder::kUint64, 1 << 20));
       }),
       "k: an array of 1048576 uint64 values"},
      {"array whose bytes overflow", with([](auto& b) {
         b.Value("k", GgufBuilder::kArray, Array(GgufBuilder::kUint64, uint64_t{1} << 61));
       }),
       "k: an array of"},
      {"array of many strings", with([](auto& b) {
         b.Value("k", GgufBuilder::kArray, Array(GgufBuilder::kString, UINT64_MAX));
       }),
       "k: an array of"},
      {"nested arrays", with([&](auto& b) { b.Value("k", GgufBuilder::kArray, nested); }),
       "nested more than 4 deep"},
      {"alignment 0", with([](auto& b) { b.Integer("general.alignment", 0); }),
       "general.alignment is 0"},
      {"alignment 24", with([](auto& b) { b.Integer("general.alignment", 24); }),
       "general.alignment is 24"},
      {"alignment of 2^31", with([](auto& b) { b.Integer("general.alignment", 1u << 31); }),
       "general.alignment is 2147483648"},
      {"alignment is a string", with([](auto& b) { b.String("general.alignment", "32"); }),
       "general.alignment is of type string"},
      {"no name", with([](auto& b) { b.Entry("", {1}, 0, 0).Data("abcd"); }),
       "a tensor name is empty"},
      {"five axes", with([](auto& b) { b.Entry("t", {1, 1, 1, 1, 1}, 0, 0).Data("abcd"); }),
       "tensor t has 5 axes"},
      {"unknown tensor type", with([](auto& b) { b.Entry("t", {1}, 99, 0).Data("abcd"); }),
       "tensor t has the ggml type 99", absl::StatusCode::kUnimplemented},
      {"negative extent", with([](auto& b) { b.Entry("t", {UINT64_MAX}, 0, 0).Data("abcd"); }),
       "negative or too large"},
      {"shape overflows",
       with([](auto& b) { b.Entry("t", {1u << 31, 1u << 31, 4}, 0, 0).Data("abcd"); }),
       "negative or too large"},
      {"bytes overflow",
       with([](auto& b) { b.Entry("t", {uint64_t{1} << 62}, 0, 0).Data("abcd"); }),
       "negative or too large"},
      {"rows of broken blocks", with([](auto& b) { b.Entry("t", {33, 2}, 2, 0).Data("abcd"); }),
       "tensor t has rows of 33 values; Q4_0 takes multiples of 32"},
      {"offset unaligned", with([](auto& b) { b.Entry("t", {1}, 0, 4).Data("abcdefgh"); }),
       "tensor t is at offset 4, no multiple of the alignment 32"},
      {"offset outside", with([](auto& b) { b.Entry("t", {1}, 0, 64).Data("abcd"); }),
       "takes 4 bytes at offset 64, but the file holds 32"},
      {"greatest offset", with([](auto& b) { b.Entry("t", {1}, 0, UINT64_MAX - 31).Data("abcd"); }),
       "but the file holds 32 bytes"},
      {"data too short", with([](auto& b) { b.Entry("t", {9}, 0, 0).Data("abcd"); }),
       "tensor t (F32 [9]) takes 36 bytes"},
      {"no data at all", with([](auto& b) { b.Entry("t", {9}, 0, 0); }),
       "but the file holds 0 bytes"},
      {"name twice", with([](auto& b) { b.FloatTensor("t", {1}, {1}).FloatTensor("t", {1}, {1}); }),
       "tensor t is given twice"},
      {"overlap", with([](auto& b) {
         b.Entry("t", {16}, 0, 0).Entry("u", {8}, 0, 32).Data(std::string(64, 'x'));
       }),
       "the tensors t and u overlap"},
      {"one name beyond the file",
       with([](auto& b) { b.Integer("k", 1).num_tensors = 1; }) + std::string(64, '\xff'),
       "malformed GGUF"},
  };
  for (const auto& hostile : cases) {
    EXPECT_THAT(GgufFile::Parse("the_file", AsBytes(hostile.file)),
                StatusIs(hostile.code, AllOf(HasSubstr("the_file"), HasSubstr(hostile.message))))
        << hostile.what;
  }
}

TEST(GgufFileTest, RefusesEveryTruncationOfAGoodFile) {
  GgufBuilder builder;
  builder.String("name", "value")
      .Strings("list", {"a", "b"})
      .FloatTensor("t", {8}, {1, 2, 3, 4, 5, 6, 7, 8});
  const std::string file = builder.Build();
  ASSERT_OK(GgufFile::Parse("x", AsBytes(file)));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THAT(GgufFile::Parse("x", AsBytes(file).subspan(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
}

}  // namespace
}  // namespace attendant::engine
