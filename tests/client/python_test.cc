// The Python examples, run as printed, against a fake server.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace attendant::client {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class PythonTest : public ::testing::Test {
 protected:
  PythonTest() { EXPECT_EQ(Run(absl::StrCat("./make_stubs ", stubs_)).second, 0); }
  ~PythonTest() override { std::filesystem::remove_all(stubs_); }

  // Output, errors included, and exit status of a command in client/python.
  std::pair<std::string, int> Run(const std::string& command) const {
    std::string output;
    const std::string line =
        absl::StrCat("cd '" ATTENDANT_SOURCE_DIR "/client/python' && PYTHONPATH=", stubs_,
                     " PYTHONDONTWRITEBYTECODE=1 ", command, " 2>&1");
    FILE* pipe = popen(line.c_str(), "r");
    char buffer[1024];
    while (fgets(buffer, sizeof(buffer), pipe) != nullptr) output += buffer;
    return {output, pclose(pipe)};
  }

  FakeServer server_;
  const std::string stubs_ = absl::StrCat(::testing::TempDir(), "/python_test.", getpid());
};

TEST_F(PythonTest, Encodes) {
  const auto [output, status] = Run(absl::StrCat("python3 encode.py ", server_.address()));
  EXPECT_EQ(status, 0) << output;
  EXPECT_THAT(output, HasSubstr("  A man is eating a piece of bread.\n"));
}

TEST_F(PythonTest, Generates) {
  const auto [output, status] =
      Run(absl::StrCat("python3 generate.py 'Who is there?' ", server_.address()));
  EXPECT_EQ(status, 0) << output;
  EXPECT_THAT(output, HasSubstr("Who is there?"));
  EXPECT_THAT(output, HasSubstr("tokens, FINISH_REASON_EOS)"));
}

TEST_F(PythonTest, MakesTheFirstCall) {
  const auto [output, status] = Run(absl::StrCat("python3 first_call.py ", server_.address()));
  EXPECT_EQ(status, 0) << output;
  // The dot product of (21, 7, 1) and (33, 12, 1): bytes, vowels, 1.
  EXPECT_THAT(output, StartsWith("similarity 778.0\n"));
  EXPECT_THAT(output, HasSubstr("What is the capital of France?"));
}

TEST_F(PythonTest, SaysWhyACallFailed) {
  const auto [output, status] = Run("python3 encode.py 127.0.0.1:1");
  EXPECT_NE(status, 0);
  EXPECT_THAT(output, HasSubstr("UNAVAILABLE: "));
}

}  // namespace
}  // namespace attendant::client
