// The Python examples, run as printed, against a fake server.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace attendant::client {
namespace {

using ::testing::AllOf;
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

TEST_F(PythonTest, CallsTheHeads) {
  const auto run = [this](const std::string& arguments) {
    const auto [output, status] =
        Run(absl::StrCat("python3 heads.py ", arguments, " --address ", server_.address()));
    EXPECT_EQ(status, 0) << output;
    return output;
  };
  EXPECT_THAT(run("fill-mask 'a [MASK]'"), StartsWith("  50.0%  word0\n  25.0%  word1\n"));
  EXPECT_EQ(run("answer 'Who?' 'Ada wrote it'"), "  87.5%  Ada  (characters 0 to 3)\n");
  EXPECT_THAT(run("classify good bad"), AllOf(HasSubstr("input 2: is a bad word\n"),
                                              HasSubstr("  75.0%  texts\n  25.0%  images\n")));
  EXPECT_EQ(run("rank query longer a"), "  1.0000  a\n  0.1667  longer\n");
}

TEST_F(PythonTest, PrintsWhatATokenAttendsTo) {
  const auto [output, status] =
      Run(absl::StrCat("python3 attention_map.py 'a cat sat' --address ", server_.address()));
  EXPECT_EQ(status, 0) << output;
  // The last row comes first, as the fake server sends it.
  EXPECT_THAT(output, StartsWith("             sat  sat 45%  cat 32%  a 23%\n"));
}

TEST_F(PythonTest, TranslatesLinesInTheirOrder) {
  const std::string text = "late one\n\nearly two\n";
  std::ofstream(absl::StrCat(stubs_, "/text")) << text;
  const auto [output, status] = Run(absl::StrCat(
      "python3 translate.py ", stubs_, "/text --target de --address ", server_.address()));
  EXPECT_EQ(status, 0) << output;
  EXPECT_EQ(output, text);
}

TEST_F(PythonTest, SaysWhyACallFailed) {
  const auto [output, status] = Run("python3 encode.py 127.0.0.1:1");
  EXPECT_NE(status, 0);
  EXPECT_THAT(output, HasSubstr("UNAVAILABLE: "));
}

}  // namespace
}  // namespace attendant::client
