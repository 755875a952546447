#include "engine/checkpoint/safetensors_file.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::IsOk;
using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string bytes;
  for (const T value : values) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return bytes;
}

// A whole file: length, header, data.
std::string File(const std::string& header, const std::string& data) {
  return Raw<uint64_t>({header.size()}) + header + data;
}

std::string Entry(absl::string_view dtype, absl::string_view shape, absl::string_view offsets) {
  return absl::StrCat(R"({"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)",
                      offsets, "}");
}

TEST(SafetensorsFileTest, ReadsTensorsWhateverTheirOrderInTheHeader) {
  const std::string file = File(
      R"({"b":)" + Entry("F32", "[2]", "[8,16]") + R"(,"a":)" + Entry("F32", "[1,2]", "[0,8]") +
          R"(,"none":)" + Entry("F32", "[0,3]", "[8,8]") + R"(,"scalar":)" +
          Entry("F32", "[]", "[16,20]") + R"(,"__metadata__":{"format":"pt"}}   )",
      Raw<float>({1, 2, 3, 4, 5}));
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile parsed, SafetensorsFile::Parse("x", AsBytes(file)));
  EXPECT_EQ(parsed.tensors().size(), 4);
  std::vector<float> values(2);
  ASSERT_OK(parsed.Read("a", {1, 2}, absl::MakeSpan(values)));
  EXPECT_THAT(values, ElementsAre(1, 2));
  ASSERT_OK(parsed.Read("b", {2}, absl::MakeSpan(values)));
  EXPECT_THAT(values, ElementsAre(3, 4));
  ASSERT_OK(parsed.Read("scalar", {}, absl::MakeSpan(values.data(), 1)));
  EXPECT_EQ(values[0], 5);
  ASSERT_OK(parsed.Read("none", {0, 3}, {}));
}

TEST(SafetensorsFileTest, WidensEveryDtypeFromUnalignedData) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"F32", Raw<float>({-3, 0, 7})},
      {"F64", Raw<double>({-3, 0, 7})},
      {"F16", Raw<uint16_t>({0xc200, 0x0000, 0x4700})},
      {"BF16", Raw<uint16_t>({0xc040, 0x0000, 0x40e0})},
      {"I8", Raw<int8_t>({-3, 0, 7})},
      {"I16", Raw<int16_t>({-3, 0, 7})},
      {"I32", Raw<int32_t>({-3, 0, 7})},
      {"I64", Raw<int64_t>({-3, 0, 7})},
  };
  for (const auto& [dtype, raw] : cases) {
    // A header of odd length leaves the data unaligned.
    std::string header = R"({"t":)" + Entry(dtype, "[3]", absl::StrCat("[0,", raw.size(), "]"));
    header += header.size() % 2 == 0 ? "}" : " }";
    const std::string file = File(header, raw);
    ASSERT_OK_AND_ASSIGN(const SafetensorsFile parsed, SafetensorsFile::Parse("x", AsBytes(file)));
    std::vector<float> values(3);
    ASSERT_OK(parsed.Read("t", {3}, absl::MakeSpan(values)));
    EXPECT_THAT(values, ElementsAre(-3, 0, 7)) << dtype;
  }
  for (const std::string dtype : {"U8", "BOOL"}) {
    const std::string file =
        File(R"({"t":)" + Entry(dtype, "[3]", "[0,3]") + "}", Raw<uint8_t>({0, 1, 1}));
    ASSERT_OK_AND_ASSIGN(const SafetensorsFile parsed, SafetensorsFile::Parse("x", AsBytes(file)));
    std::vector<float> values(3);
    ASSERT_OK(parsed.Read("t", {3}, absl::MakeSpan(values)));
    EXPECT_THAT(values, ElementsAre(0, 1, 1)) << dtype;
  }
}

TEST(SafetensorsFileTest, RefusesToReadWhatItCannotWiden) {
  for (const std::string dtype : {"F8_E4M3", "F8_E5M2", "F4", "Q17"}) {
    const std::string file = File(R"({"t":)" + Entry(dtype, "[2]", "[0,2]") + "}", "ab");
    ASSERT_OK_AND_ASSIGN(const SafetensorsFile parsed,
                         SafetensorsFile::Parse("the_file", AsBytes(file)));
    std::vector<float> values(2);
    EXPECT_THAT(parsed.Read("t", {2}, absl::MakeSpan(values)),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr("the_file"), HasSubstr("tensor t"), HasSubstr(dtype))));
  }
}

TEST(SafetensorsFileTest, NamesFileTensorAndBothShapesWhenTheyDiffer) {
  const std::string file =
      File(R"({"t":)" + Entry("F32", "[1,2]", "[0,8]") + "}", Raw<float>({1, 2}));
  ASSERT_OK_AND_ASSIGN(const SafetensorsFile parsed,
                       SafetensorsFile::Parse("the_file", AsBytes(file)));
  std::vector<float> values(2);
  EXPECT_THAT(parsed.Read("t", {2, 1}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "the_file: tensor t has the shape [1, 2]; expected [2, 1]"));
  EXPECT_THAT(parsed.Read("u", {2}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kNotFound, "the_file: there is no tensor u"));
}

struct HostileCase {
  std::string what;
  std::string file;
  std::string message;  // what the error must say
};

TEST(SafetensorsFileTest, RefusesHostileHeaders) {
  const std::string data = Raw<float>({1, 2, 3, 4});
  const auto one = [&](const std::string& entry) { return File(R"({"t":)" + entry + "}", data); };
  const std::string good = Entry("F32", "[4]", "[0,16]");
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += R"({"t":)";
  const HostileCase cases[] = {
      {"empty", "", "the file has 0 bytes"},
      {"truncated length", std::string(3, 0), "the file has 3 bytes"},
      {"truncated header", one(good).substr(0, 30), "only 22 bytes follow"},
      {"truncated data", one(good).substr(0, one(good).size() - 1), "within the 15 bytes of data"},
      {"length beyond the limit", Raw<uint64_t>({100'000'001}) + "{}", "the limit is 100000000"},
      {"greatest length", Raw<uint64_t>({UINT64_MAX}) + "{}", "the limit is 100000000"},
      {"no header", Raw<uint64_t>({0}), "does not begin with {"},
      {"array", File("[1]", ""), "does not begin with {"},
      {"leading space", File(" {}", ""), "does not begin with {"},
      {"broken JSON", File(R"({"t":)", ""), "malformed safetensors header"},
      {"two documents", File("{} {}", ""), "malformed safetensors header"},
      {"invalid UTF-8", File("{\"\xff\":1}", ""), "malformed safetensors header"},
      {"deep JSON", File(deep, ""), "malformed safetensors header"},
      {"deep but balanced", File(R"({"t":[[[[[[[[[[[[]]]]]]]]]]]]})", ""), "DEPTH_ERROR"},
      {"entry is a number", one("3"), "tensor t: expected a JSON object"},
      {"dtype missing", one(R"({"shape":[4],"data_offsets":[0,16]})"), "\"dtype\" is missing"},
      {"shape missing", one(R"({"dtype":"F32","data_offsets":[0,16]})"), "\"shape\" is missing"},
      {"offsets missing", one(R"({"dtype":"F32","shape":[4]})"), "\"data_offsets\" is missing"},
      {"dtype twice", one(R"({"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]})"),
       "\"dtype\" is given twice"},
      {"dtype is a number", one(R"({"dtype":1,"shape":[4],"data_offsets":[0,16]})"),
       "\"dtype\" is not a string"},
      {"negative extent", one(Entry("F32", "[-4]", "[0,16]")), "not a size"},
      {"fractional extent", one(Entry("F32", "[4.0]", "[0,16]")), "not a size"},
      {"extent beyond int64", one(Entry("F32", "[18446744073709551615]", "[0,16]")), "not a size"},
      {"shape overflows", one(Entry("F32", "[4294967296,4294967296]", "[0,16]")), "too large"},
      {"bytes overflow", one(Entry("F32", "[4611686018427387908]", "[0,16]")),
       "takes 4611686018427387908 x 4"},
      {"shape too small", one(Entry("F32", "[3]", "[0,16]")), "span 16 bytes; F32 [3] takes 3 x 4"},
      {"shape too large", one(Entry("F32", "[2,3]", "[0,16]")), "F32 [2, 3] takes 6 x 4"},
      {"dtype too wide", one(Entry("F64", "[4]", "[0,16]")), "F64 [4] takes 4 x 8"},
      {"odd bytes", one(Entry("F32", "[3]", "[0,15]")), "span 15 bytes"},
      {"negative offset", one(Entry("F32", "[4]", "[-1,15]")), "not a pair of offsets"},
      {"three offsets", one(Entry("F32", "[4]", "[0,8,16]")), "not a pair of offsets"},
      {"offsets reversed", one(Entry("F32", "[4]", "[16,0]")), "data_offsets [16, 0]"},
      {"offset outside", one(Entry("F32", "[4]", "[16,32]")), "within the 16 bytes of data"},
      {"greatest offset", one(Entry("F32", "[4]", "[0,18446744073709551615]")),
       "within the 16 bytes of data"},
      {"unknown dtype outside", one(Entry("Q17", "[4]", "[0,17]")), "within the 16 bytes of data"},
      {"unknown dtype, shape beyond its bytes", one(Entry("Q17", "[1000]", "[0,16]")),
       "too few for 1000 values of any dtype"},
      {"hole before", one(Entry("F32", "[3]", "[4,16]")), "leaving a hole"},
      {"hole after", one(Entry("F32", "[3]", "[0,12]")), "take 12 bytes, but 16 follow"},
      {"hole between",
       File(R"({"a":)" + Entry("F32", "[1]", "[0,4]") + R"(,"b":)" + Entry("F32", "[2]", "[8,16]") +
                "}",
            data),
       "tensor b: its data begins at 8, leaving a hole"},
      {"overlap",
       File(R"({"a":)" + Entry("F32", "[3]", "[0,12]") + R"(,"b":)" +
                Entry("F32", "[2]", "[8,16]") + "}",
            data),
       "tensor b: its data begins at 8, inside the tensor before it"},
      {"same data twice", File(R"({"a":)" + good + R"(,"b":)" + good + "}", data),
       "inside the tensor before it"},
      {"name twice",
       File(R"({"a":)" + Entry("F32", "[2]", "[0,8]") + R"(,"a":)" + Entry("F32", "[2]", "[8,16]") +
                "}",
            data),
       "tensor a: is given twice"},
      {"metadata is a list", File(R"({"__metadata__":[]})", ""), "__metadata__"},
      {"metadata holds a number", File(R"({"__metadata__":{"a":1}})", ""), "a is not a string"},
      {"metadata twice", File(R"({"__metadata__":{},"__metadata__":{}})", ""), "given twice"},
      {"hostile name", File("{\"" + std::string(5000, 'n') + "\":3}", ""), "... (5000 bytes)"},
  };
  for (const HostileCase& hostile : cases) {
    EXPECT_THAT(SafetensorsFile::Parse("the_file", AsBytes(hostile.file)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("the_file"), HasSubstr(hostile.message))))
        << hostile.what;
  }
}

TEST(SafetensorsFileTest, RefusesEveryTruncationOfAGoodFile) {
  const std::string file =
      File(R"({"t":)" + Entry("F32", "[4]", "[0,16]") + "}", Raw<float>({1, 2, 3, 4}));
  ASSERT_OK(SafetensorsFile::Parse("x", AsBytes(file)));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_THAT(SafetensorsFile::Parse("x", AsBytes(file).subspan(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
}

}  // namespace
}  // namespace attendant::engine
