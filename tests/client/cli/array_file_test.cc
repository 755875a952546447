#include "client/cli/array_file.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file as numpy.save() writes it: version 1, this header, these bytes.
std::string Npy(const std::string& header, const std::string& data) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  return file + header + data;
}

TEST(ArrayFileTest, ReadsNpy) {
  const std::string one("\x00\x00\x80\x3f", 4), two("\x00\x00\x00\x40", 4);
  ASSERT_OK_AND_ASSIGN(
      const FloatTensor matrix,
      ParseNpy(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", one + two),
               "x"));
  EXPECT_THAT(matrix.shape, ElementsAre(1, 2));
  EXPECT_THAT(matrix.values, ElementsAre(1, 2));

  const std::string half("\x00\x3c\x00\xc0", 4);
  ASSERT_OK_AND_ASSIGN(
      const FloatTensor halves,
      ParseNpy(Npy("{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", half), "x"));
  EXPECT_THAT(halves.values, ElementsAre(1, -2));

  const std::string wide("\x00\x00\x00\x00\x00\x00\xf0\x3f", 8);
  ASSERT_OK_AND_ASSIGN(
      const FloatTensor scalar,
      ParseNpy(Npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", wide), "x"));
  EXPECT_THAT(scalar.shape, ElementsAre());
  EXPECT_THAT(scalar.values, ElementsAre(1));
}

TEST(ArrayFileTest, RefusesNpyThatCannotBe) {
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
  const std::pair<std::string, std::string> cases[] = {
      {"", "not a .npy file"},
      {"\x93NUMPY", "not a .npy file"},
      {Npy(good, "").substr(0, 20), "within its header"},
      {std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12), "within its header"},
      {Npy(good, "123"), "bytes"},
      {Npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", "1234"), "Fortran"},
      {Npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", "12345678"), "type '<i8'"},
      {Npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "1234"), "type '>f4'"},
      {Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", ""), "do not match"},
      {Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }", ""), "its shape has 'x'"},
      {Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1", ""), "lacks"},
      {Npy("{}", ""), "lacks"},
  };
  for (const auto& [content, reason] : cases) {
    EXPECT_THAT(ParseNpy(content, "q.npy"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(reason)));
    EXPECT_THAT(ParseNpy(content, "q.npy"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("q.npy: ")));
  }
}

TEST(ArrayFileTest, ReadsJson) {
  ASSERT_OK_AND_ASSIGN(const FloatTensor matrix,
                       ParseJsonArray("[[1, 2.5], [-3, 4e2], [0, 0]]", "x"));
  EXPECT_THAT(matrix.shape, ElementsAre(3, 2));
  EXPECT_THAT(matrix.values, ElementsAre(1, 2.5f, -3, 400, 0, 0));
}

TEST(ArrayFileTest, RefusesJsonThatIsNoArray) {
  for (const std::string content :
       {"", "{", "{\"a\": 1}", "[1, \"x\"]", "[[1, 2], [3]]", "[1, [2]]", "[[1], 2]", "[null]"}) {
    EXPECT_THAT(ParseJsonArray(content, "q.json"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("q.json: ")))
        << content;
  }
}

TEST(ArrayFileTest, ReadsWhatItWrites) {
  const std::string path = ::testing::TempDir() + "/array_file_test.npy";
  for (const FloatTensor& tensor :
       {FloatTensor{{2, 3}, {1, 2, 3, 4, 5, 6}}, FloatTensor{{1}, {-0.5f}}}) {
    ASSERT_OK(WriteNpyFile(tensor, path));
    ASSERT_OK_AND_ASSIGN(const FloatTensor read, ReadArrayFile(path));
    EXPECT_EQ(read.shape, tensor.shape);
    EXPECT_EQ(read.values, tensor.values);
  }
  EXPECT_THAT(WriteNpyFile({{1}, {0}}, "/no/such/folder/x.npy"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace attendant::client
