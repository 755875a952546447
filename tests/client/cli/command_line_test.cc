// The program `attendant`, run as a user runs it, against a fake server.

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace attendant::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

struct Result {
  int exit_code;
  std::string out;
  std::string err;
};

class CommandLineTest : public ::testing::Test {
 protected:
  CommandLineTest() { std::filesystem::create_directories(folder_); }
  ~CommandLineTest() override { std::filesystem::remove_all(folder_); }

  // Runs `attendant ARGUMENTS`, which a shell reads, with `input` on standard input.
  Result Run(const std::string& arguments, const std::string& input = "") const {
    std::ofstream(folder_ / "in") << input;
    const std::string command =
        absl::StrCat("cd '", folder_.string(), "' && ATTENDANT_ADDRESS=", server_.address(),
                     " '" ATTENDANT_PROGRAM "' ", arguments, " < in > out 2> err");
    const int status = std::system(command.c_str());
    return {WEXITSTATUS(status), Read("out"), Read("err")};
  }

  std::string Read(const std::string& name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  FakeServer server_;
  const std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(CommandLineTest, ListsItsCommands) {
  const Result result = Run("help");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("encode "), HasSubstr("generate "), HasSubstr("--address")));
  EXPECT_EQ(Run("").out, result.out);
  EXPECT_EQ(Run("--help").out, result.out);
}

TEST_F(CommandLineTest, ExplainsEveryCommand) {
  for (const std::string name :
       {"encode", "generate", "attend", "tokenize", "detokenize", "models", "health"}) {
    const Result result = Run("help " + name);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out,
                AllOf(StartsWith("attendant " + name), HasSubstr("  attendant " + name)));
    EXPECT_EQ(Run(name + " --help").out, result.out);
  }
}

TEST_F(CommandLineTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Run("frobnicate").exit_code, 2);
  EXPECT_THAT(Run("frobnicate").err, HasSubstr("no command 'frobnicate'"));
  EXPECT_EQ(Run("models --top_k=3").exit_code, 2);
  EXPECT_THAT(Run("models --top_k=3").err, HasSubstr("--top_k=3 means nothing to `models`"));
  EXPECT_NE(Run("models --no_such_flag").exit_code, 0);
}

TEST_F(CommandLineTest, EncodesArgumentsAndLines) {
  EXPECT_EQ(Run("encode 'hello there' sky").out,
            "11.000000  4.000000  1.000000  hello there\n 3.000000  0.000000  1.000000  sky\n");
  EXPECT_EQ(Run("encode --values=1", "one\ntwo\n").out,
            " 3.000000 … 2 more  one\n 3.000000 … 2 more  two\n");
}

TEST_F(CommandLineTest, EncodesMoreLinesThanOneCallTakes) {
  std::string lines;
  for (int i = 0; i < 600; ++i) absl::StrAppend(&lines, "line ", i, "\n");
  const Result result = Run("encode", lines);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 600);
  EXPECT_THAT(result.out, EndsWith("line 599\n"));
}

TEST_F(CommandLineTest, ComparesTexts) {
  const Result result = Run("encode --similarity -- aaaa aaaaaaaa xyz");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  // Cosines of (4, 4, 1), (8, 8, 1) and (3, 0, 1).
  EXPECT_THAT(result.out, HasSubstr("  1.00  1.00  0.72\n"));
  EXPECT_THAT(result.out, HasSubstr("  1.00  1.00  0.70\n"));
}

TEST_F(CommandLineTest, SendsTheFlagsOfEncode) {
  EXPECT_EQ(Run("encode text --model=letters --pooling=last_token --normalize=false --dimensions=2 "
                "--prompt='query: ' "
                "--truncate=left --max_tokens=9")
                .exit_code,
            0);
  const v1::EncodeRequest& request = server_.last_encode();
  EXPECT_EQ(request.model(), "letters");
  EXPECT_EQ(request.pooling(), v1::POOLING_LAST_TOKEN);
  EXPECT_TRUE(request.has_normalize() && !request.normalize());
  EXPECT_EQ(request.dimensions(), 2);
  EXPECT_EQ(request.prompt(), "query: ");
  EXPECT_EQ(request.truncation().side(), v1::Truncation::SIDE_LEFT);
  EXPECT_EQ(request.truncation().max_tokens(), 9);

  EXPECT_EQ(Run("encode text").exit_code, 0);
  EXPECT_FALSE(server_.last_encode().has_normalize());
  EXPECT_FALSE(server_.last_encode().has_truncation());
}

TEST_F(CommandLineTest, NamesTheTextThatFailed) {
  const Result result = Run("encode good bad");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("good"));
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("text 2: is a bad word"), HasSubstr("1 of 2 texts failed")));
}

TEST_F(CommandLineTest, GeneratesAndSaysHow) {
  const Result result = Run("generate to be or not");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "to be or not \n");
  EXPECT_THAT(result.err, AllOf(StartsWith("4 tokens after"), HasSubstr("the model ended it")));
  EXPECT_EQ(Run("generate", "from a file").out, "from a file \n");
}

TEST_F(CommandLineTest, SendsTheFlagsOfGenerate) {
  EXPECT_EQ(Run("generate --temperature=0.5 --top_k=40 --top_p=0.9 --seed=7 --max_new_tokens=16 "
                "--stop='\\n,END' "
                "--stop_token_ids=1,2 --nocache_prefix text")
                .exit_code,
            0);
  const v1::GenerateRequest& request = server_.last_generate();
  EXPECT_EQ(request.sampling().temperature(), 0.5f);
  EXPECT_EQ(request.sampling().top_k(), 40);
  EXPECT_EQ(request.sampling().top_p(), 0.9f);
  EXPECT_EQ(request.sampling().seed(), 7);
  EXPECT_FALSE(request.sampling().has_min_p());
  EXPECT_EQ(request.stopping().max_new_tokens(), 16);
  EXPECT_THAT(request.stopping().stop(), ::testing::ElementsAre("\n", "END"));
  EXPECT_THAT(request.stopping().stop_token_ids(), ::testing::ElementsAre(1, 2));
  EXPECT_TRUE(request.has_cache_prefix() && !request.cache_prefix());
}

TEST_F(CommandLineTest, KeepsTheTextBeforeAnError) {
  const Result result = Run("generate please break now");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "please break \n");
  EXPECT_THAT(result.err, HasSubstr("INTERNAL: lost the thread"));
}

TEST_F(CommandLineTest, DrawsAttentionAndChecksIt) {
  // The fake server returns the query, which is not the answer.
  const Result wrong = Run("attend --check --noweights");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.out, HasSubstr("output [2, 8, 16]: "));
  EXPECT_THAT(wrong.err, HasSubstr("above --tolerance=1.0e-04"));

  // With one key, its value is the answer: here, the query itself.
  std::ofstream(folder_ / "x.json") << "[[[1.5, -2.0]]]";
  const Result right =
      Run("attend --query=x.json --key=x.json --value=x.json --check --output=y.npy");
  EXPECT_EQ(right.exit_code, 0) << right.err;
  EXPECT_THAT(right.out, AllOf(HasSubstr("output [1, 1, 2]: 1.5000 -2.0000\n"),
                               HasSubstr("double precision: 0.0")));
  EXPECT_THAT(Run("attend --query=y.npy --key=x.json --value=x.json --json").out,
              HasSubstr("\"output\":[[[1.5,-2]]]"));
}

TEST_F(CommandLineTest, RefusesTensorsThatCannotBe) {
  EXPECT_THAT(Run("attend --query=missing.npy").err, HasSubstr("missing.npy: cannot be read"));
  std::ofstream(folder_ / "x.json") << "[[1, 2], [3]]";
  EXPECT_THAT(Run("attend --query=x.json").err,
              HasSubstr("x.json: its lists are not equally long"));
  EXPECT_THAT(Run("attend --heads=0").err, HasSubstr("--heads is 0"));
}

TEST_F(CommandLineTest, TokenizesAndBack) {
  const Result result = Run("tokenize hi");
  EXPECT_THAT(result.out, HasSubstr("0  104  h      0-1    h\n1  105  i      1-2    i\n"));
  EXPECT_EQ(Run("detokenize 104 105,33").out, "hi!\n");
  EXPECT_EQ(Run("detokenize", "104 105").out, "hi\n");
  EXPECT_THAT(Run("detokenize 104 x").err, HasSubstr("'x' is not a token id"));
  EXPECT_EQ(Run("detokenize").exit_code, 1);
}

TEST_F(CommandLineTest, ListsModels) {
  const Result result = Run("models");
  EXPECT_THAT(
      result.out,
      HasSubstr("letters *  bert   bfloat16      22.7 M   45.4 MB         512  Encode Tokenize\n"));
  EXPECT_THAT(Run("models words").out, HasSubstr("parameters   134,515,008\n"));
  EXPECT_THAT(Run("models words").out,
              HasSubstr("layers       6 of 12 heads, 4 for keys and values\n"));
  const Result missing = Run("models nothing");
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr("`attendant models` lists the models"));
}

TEST_F(CommandLineTest, PrintsJsonOnOneLine) {
  for (const std::string arguments :
       {"encode hi --json", "encode hi ho --similarity --json", "tokenize hi --json",
        "detokenize 104 --json", "models --json", "models words --json", "health --json",
        "attend --json"}) {
    EXPECT_THAT(Run(arguments).out, MatchesRegex("\\{[^\n]*\\}\n")) << arguments;
  }
  EXPECT_THAT(Run("generate hi --json").out,
              MatchesRegex("\\{\"started\"[^\n]*\n\\{\"chunk\"[^\n]*\n\\{\"finished\"[^\n]*\n"));
  EXPECT_THAT(Run("encode hi --json").out, HasSubstr("\"embeddings\":[[2,1,1]]"));
}

TEST_F(CommandLineTest, TellsHealthByItsExitCode) {
  EXPECT_EQ(Run("health").exit_code, 0);
  EXPECT_EQ(Run("health").out, "serving\n");
  EXPECT_EQ(Run("health draining").exit_code, 1);
  EXPECT_EQ(Run("health draining --json").out, "{\"serving\":false}\n");
}

TEST_F(CommandLineTest, SaysWhatToDoAboutErrors) {
  const Result nobody = Run("models --address=127.0.0.1:1");
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("Is a server running at 127.0.0.1:1?"));
  EXPECT_THAT(Run("encode hi --model=none").err, HasSubstr("model 'none': loaded: letters, words"));
  EXPECT_THAT(Run("generate overloaded").err, HasSubstr("try again in 1.5s"));
  EXPECT_THAT(Run("generate hang --deadline=100ms").err, HasSubstr("A longer --deadline"));
}

TEST_F(CommandLineTest, KeepsControlCharactersFromTheTerminal) {
  EXPECT_THAT(Run("encode \"$(printf 'a\\033[2Jb')\"").out,
              AllOf(HasSubstr("a\\x1b[2Jb"), Not(HasSubstr("\x1b"))));
}

TEST_F(CommandLineTest, ColorsOnlyATerminal) {
  EXPECT_THAT(Run("encode a b --similarity").out, Not(HasSubstr("\x1b[")));
  EXPECT_THAT(Run("encode a b --similarity --color=always").out, HasSubstr("\x1b["));
}

}  // namespace
}  // namespace attendant::client
