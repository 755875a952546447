// The program `attendant`, run as a user runs it, against a fake server.

#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/pictures/text.h"
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

  // The same on a terminal of 80 columns, which is `out`.
  Result RunInTerminal(const std::string& arguments) const {
    std::ofstream(folder_ / "command")
        << "stty cols 80 rows 24; ATTENDANT_ADDRESS=" << server_.address()
        << " '" ATTENDANT_PROGRAM "' " << arguments;
    const std::string command =
        absl::StrCat("cd '", folder_.string(), "' && script -qec 'sh command' /dev/null > out");
    const int status = std::system(command.c_str());
    return {WEXITSTATUS(status), Read("out"), ""};
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
       {"encode", "generate", "translate", "attend", "fill-mask", "answer", "classify", "rank",
        "tokenize", "detokenize", "models", "health"}) {
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
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(RunInTerminal("generate to be or not").out,
              AllOf(HasSubstr("to be or not"), HasSubstr("4 tokens after"),
                    HasSubstr("the model ended it")));
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

TEST_F(CommandLineTest, EncodesImages) {
  std::ofstream(folder_ / "picture.png") << "pixels";
  EXPECT_EQ(Run("encode --image=picture.png").out, " 6.000000  2.000000  1.000000  picture.png\n");
  EXPECT_EQ(server_.last_encode().inputs(0).image(), "pixels");
  EXPECT_THAT(Run("encode --image=picture.png text").err,
              HasSubstr("--image and texts exclude each other"));
  EXPECT_THAT(Run("encode --image=nothing.png").err, HasSubstr("nothing.png: cannot be read"));
}

TEST_F(CommandLineTest, FillsMasks) {
  EXPECT_EQ(Run("fill-mask --top_k=2 'a [MASK] b'").out,
            "a [MASK] b\n"
            "   50.0 %  word0  ███████████████\n"
            "   25.0 %  word1  ███████▌\n");
  EXPECT_EQ(server_.last_fill_mask().top_k(), 2);
  EXPECT_THAT(Run("fill-mask '[MASK] [MASK]'").out, HasSubstr("  mask 2\n   50.0 %  word0"));
  // Two columns for each Chinese character.
  EXPECT_THAT(Run("fill-mask --targets=好,good '[MASK]'").out,
              HasSubstr("50.0 %  好    ███████████████\n   25.0 %  good  ███████▌\n"));
}

TEST_F(CommandLineTest, AnswersQuestionsAboutOneText) {
  EXPECT_EQ(Run("answer --context='Berlin is large.' --allow_no_answer 'Where?' 'Who?'").out,
            "Where?\n"
            "   87.5 %  Berlin  0-6  Berlin is large.\n"
            "   12.5 %  no answer in the text\n"
            "Who?\n"
            "   87.5 %  Berlin  0-6  Berlin is large.\n"
            "   12.5 %  no answer in the text\n");
  EXPECT_THAT(Run("answer --context_file=- 'Where?'", "Oslo is cold").out, HasSubstr("Oslo  0-4"));
  EXPECT_THAT(Run("answer 'Where?'").err, HasSubstr("--context or --context_file gives one"));
  EXPECT_EQ(Run("answer --context=a --top_k=3 --max_answer_tokens=7 --window_overlap_tokens=9 b")
                .exit_code,
            0);
  EXPECT_EQ(server_.last_answer().top_k(), 3);
  EXPECT_EQ(server_.last_answer().max_answer_tokens(), 7);
  EXPECT_EQ(server_.last_answer().window_overlap_tokens(), 9);
}

TEST_F(CommandLineTest, ReadsInputsOfTheContractFromJsonLines) {
  std::ofstream(folder_ / "in.jsonl") << R"({"question": "Who?", "context": "Ada wrote it."})"
                                         "\n"
                                      << R"({"question": "Where?", "context": "Paris again"})"
                                         "\n";
  const Result result = Run("answer --input=in.jsonl");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("Ada  0-3  Ada wrote it."), HasSubstr("Paris  0-5")));
  std::ofstream(folder_ / "in.jsonl") << "{\"question\": 1, \"contexts\": 2}\n";
  EXPECT_THAT(Run("answer --input=in.jsonl").err, HasSubstr("input 1: not JSON of a AnswerInput"));
  EXPECT_THAT(Run("answer --context=a --input=missing.txt").err,
              HasSubstr("missing.txt cannot be read"));
}

TEST_F(CommandLineTest, ClassifiesTextsImagesAndTokens) {
  EXPECT_EQ(Run("classify 'so good'").out,
            "so good\n"
            "   75.0 %  texts   ██████████████████████▌\n"
            "   25.0 %  images  ███████▌\n");
  EXPECT_EQ(Run("classify --raw_scores 'so good'").out,
            "so good\n    0.750  texts \n    0.250  images\n");
  std::ofstream(folder_ / "cat.jpg") << "pixels";
  EXPECT_THAT(Run("classify --image=cat.jpg --top_k=2").out,
              StartsWith("cat.jpg\n   75.0 %  images"));
  EXPECT_EQ(server_.last_classify().inputs(0).image(), "pixels");
  EXPECT_EQ(server_.last_classify().top_k(), 2);
  EXPECT_THAT(Run("classify --aggregation=entity 'Ada sleeps'").out,
              HasSubstr("       4-10  sleeps  word 50.0 %\n"));
  EXPECT_THAT(Run("classify --aggregation=some x").err, HasSubstr("one of none, entity"));
}

TEST_F(CommandLineTest, RanksDocuments) {
  EXPECT_EQ(Run("rank query 'the long one' short").out,
            "document   score  \n"
            "       2  0.2000  short\n"
            "       1  0.0833  the long one\n");
  EXPECT_THAT(Run("rank --top_n=1 query", "a\nb\n").out, HasSubstr("1  1.0000  a\n"));
  EXPECT_EQ(server_.last_rank().top_n(), 1);
  EXPECT_EQ(server_.last_rank().query(), "query");
  EXPECT_THAT(Run("rank").err, HasSubstr("there is no query"));
}

TEST_F(CommandLineTest, NamesTheInputOfAHeadThatFailed) {
  for (const std::string arguments : {"fill-mask [MASK] bad", "answer --context=x good bad",
                                      "classify good bad", "rank query good bad"}) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_code, 1) << arguments;
    EXPECT_THAT(result.err,
                AllOf(HasSubstr("input 2: is a bad word\n"), HasSubstr("1 of 2 inputs failed")));
    EXPECT_THAT(result.out, Not(HasSubstr("bad")));
  }
}

TEST_F(CommandLineTest, SendsManyInputsInSeveralCalls) {
  std::string lines;
  for (int i = 0; i < 150; ++i) absl::StrAppend(&lines, "text ", i, "\r\n");
  const Result result = Run("classify --json", lines);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3);
  EXPECT_EQ(server_.last_classify().inputs_size(), 150 - 2 * 64);
  EXPECT_EQ(server_.last_classify().inputs(21).text(), "text 149");
  EXPECT_THAT(Run("classify").err, HasSubstr("there are no inputs"));
}

TEST_F(CommandLineTest, TranslatesInOrderWhateverComesFirst) {
  // The first sentence is answered after the one on the third line.
  const std::string text = "late one. Second one.\n\n  early three.  And four!\r\nno end";
  std::ofstream(folder_ / "text.txt", std::ios::binary) << text;
  const Result result = Run("translate text.txt");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, text);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(Run("translate -", text).out, text);
}

TEST_F(CommandLineTest, TranslatesLinesWhole) {
  EXPECT_EQ(Run("translate --nosplit -", "  One. Two.  \n").out, "  One. Two.  \n");
  EXPECT_EQ(server_.last_generate().text(), "One. Two.");
}

TEST_F(CommandLineTest, TranslatesMoreSentencesThanItHolds) {
  std::string text;
  for (int i = 0; i < 700; ++i) absl::StrAppend(&text, "Line ", i, ".\n");
  EXPECT_EQ(Run("translate --concurrency=2 -", text).out, text);
  EXPECT_THAT(Run("translate --concurrency=0 -").err, HasSubstr("--concurrency is 0"));
}

TEST_F(CommandLineTest, PutsSpacesBetweenSentencesThatHadNone) {
  // The fake server answers with the source itself, whose full-width marks need none.
  EXPECT_EQ(Run("translate -", "你好。再见。\n").out, "你好。再见。\n");
}

TEST_F(CommandLineTest, NamesTheSentenceThatFailed) {
  const Result result = Run("translate -", "Good.\nbad.\nGood again.\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "Good.\nbad.\nGood again.\n");
  EXPECT_THAT(result.err, AllOf(StartsWith("line 2: INVALID_ARGUMENT: is a bad word\n  bad.\n"),
                                HasSubstr("1 of 3 sentences failed, and were left as they are")));
  EXPECT_EQ(Run("translate --json -", "Good.\nbad.\n").out,
            "{\"line\":1,\"source\":\"Good.\",\"text\":\"Good.\"}\n"
            "{\"line\":2,\"source\":\"bad.\",\"error\":\"is a bad word\"}\n");
}

TEST_F(CommandLineTest, StopsTranslatingAtAnErrorOfAllSentences) {
  const Result result = Run("translate --model=none -", "One.\nTwo.\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, AllOf(HasSubstr("NOT_FOUND"), HasSubstr("`attendant models`")));
}

TEST_F(CommandLineTest, WaitsForAServerThatIsFull) {
  EXPECT_EQ(Run("translate -", "busy").out, "busy");
  EXPECT_THAT(Run("translate --deadline=100ms -", "overloaded").err,
              HasSubstr("line 1: RESOURCE_EXHAUSTED"));
}

TEST_F(CommandLineTest, ShowsProgressOnATerminal) {
  std::ofstream(folder_ / "text.txt") << "One. Two.\nThree.\n";
  const Result result = RunInTerminal("translate text.txt > translated.txt");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(Read("translated.txt"), "One. Two.\nThree.\n");
  // Drawn at least once, and gone at the end.
  EXPECT_THAT(result.out,
              AllOf(HasSubstr(" sentences, "), HasSubstr(" left  "), EndsWith("\r\x1b[K")));
  EXPECT_THAT(RunInTerminal("translate - < text.txt > translated.txt").out,
              AllOf(HasSubstr(" sentences, "), Not(HasSubstr(" left  "))));
}

TEST_F(CommandLineTest, RefusesAFileThatCannotBeTranslated) {
  EXPECT_THAT(Run("translate nothing.txt").err, HasSubstr("nothing.txt: cannot be read"));
  EXPECT_THAT(Run("translate .").err, HasSubstr(".: cannot be read"));
  EXPECT_THAT(Run("translate").err, HasSubstr("or - for standard input"));
}

TEST_F(CommandLineTest, SendsTheFlagsOfBeamSearch) {
  EXPECT_EQ(Run("generate --num_beams=4 --num_sequences=2 --length_penalty=0.5 "
                "--early_stopping=true --decoder_prefix='Der ' --no_repeat_ngram_size=3 "
                "--source_language=en_XX --target_language=de_DE text")
                .exit_code,
            0);
  const v1::GenerateRequest& request = server_.last_generate();
  EXPECT_EQ(request.beam_search().num_beams(), 4);
  EXPECT_EQ(request.beam_search().length_penalty(), 0.5f);
  EXPECT_TRUE(request.beam_search().early_stopping());
  EXPECT_EQ(request.num_sequences(), 2);
  EXPECT_EQ(request.decoder_prefix().text(), "Der ");
  EXPECT_EQ(request.sampling().no_repeat_ngram_size(), 3);
  EXPECT_EQ(request.source_language(), "en_XX");
  EXPECT_EQ(request.target_language(), "de_DE");
  EXPECT_EQ(Run("generate text").exit_code, 0);
  EXPECT_FALSE(server_.last_generate().has_beam_search());
  EXPECT_FALSE(server_.last_generate().has_decoder_prefix());
}

TEST_F(CommandLineTest, DrawsWhatTheOutputAttendsTo) {
  const Result result = Run("generate --cross_attention abcd");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("abcd \n"));
  // A row for the one token, a column for each byte of the source.
  EXPECT_THAT(result.out, HasSubstr("       a   b   c   d\nabcd  25  25  25  25 \n"));
}

TEST_F(CommandLineTest, DrawsTheMapsOfAModel) {
  const Result result = Run("attend --text='a cat sat' --layers=0 --heads=0");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "letters  attention, 1 layer of 1 head; in percent\n"
            "layer 0 · head 0\n"
            "          c   s\n"
            "          a   a\n"
            "      a   t   t\n"
            "  a  67  24   9 \n"
            "cat  21  58  21 \n"
            "sat   9  24  67 \n");
  const v1::ModelAttention& request = server_.last_attend();
  EXPECT_THAT(request.layers(), ::testing::ElementsAre(0));
  EXPECT_EQ(request.text(), "a cat sat");

  // What a screen has no room for is not asked for.
  EXPECT_THAT(Run("attend --text='a cat'").err, HasSubstr("The last layer; --layers"));
  EXPECT_THAT(request.layers(), ::testing::ElementsAre(-1));
  EXPECT_EQ(request.reduction(), v1::ATTENTION_REDUCTION_MEAN_HEADS);
}

TEST_F(CommandLineTest, SendsTheFlagsOfAttend) {
  EXPECT_EQ(Run("attend --model=letters --text=a --target_text='b c' --kind=cross "
                "--layers=0,4-6,-2 --heads=1 --reduction=top_k --top_k=1 --query_range=0:2 "
                "--key_range=0:1 --truncate=right")
                .exit_code,
            0);
  const v1::ModelAttention& request = server_.last_attend();
  EXPECT_EQ(request.target_text(), "b c");
  EXPECT_EQ(request.kind(), v1::ATTENTION_KIND_CROSS);
  EXPECT_THAT(request.layers(), ::testing::ElementsAre(0, 4, 5, 6, -2));
  EXPECT_THAT(request.heads(), ::testing::ElementsAre(1));
  EXPECT_EQ(request.reduction(), v1::ATTENTION_REDUCTION_TOP_K);
  EXPECT_EQ(request.top_k(), 1);
  EXPECT_EQ(request.query_range().end(), 2);
  EXPECT_EQ(request.truncation().side(), v1::Truncation::SIDE_RIGHT);
  EXPECT_THAT(Run("attend --text=a --layers=x").err, HasSubstr("--layers: 'x' is neither"));
  EXPECT_THAT(Run("attend --text=a --kind=some").err, HasSubstr("encoder, decoder, cross"));
  EXPECT_THAT(Run("attend --text=a --query_range=3").err, HasSubstr("BEGIN:END"));
  EXPECT_THAT(Run("attend --text=a --reduction=some").err, HasSubstr("mean_heads"));
}

TEST_F(CommandLineTest, WritesTheMapsOfAModel) {
  const Result result = Run("attend --text='a </script> b' --html=maps.html");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::string page = Read("maps.html");
  EXPECT_THAT(page, AllOf(HasSubstr("[\"layer 0\",\"layer 1\",\"layer 2\"]"),
                          HasSubstr("\\u003c/script\\u003e")));
  EXPECT_THAT(Run("attend --text=a --html=/no/such/folder/maps.html").err,
              HasSubstr("/no/such/folder/maps.html: cannot be written"));
  EXPECT_THAT(Run("attend --text=a --json").out, HasSubstr("\"layer\":2,\"heads\":[0,1]"));
}

TEST_F(CommandLineTest, FitsTheTerminal) {
  const auto widest = [](const std::string& text) {
    size_t most = 0;
    for (const absl::string_view line : absl::StrSplit(text, '\n'))
      most = std::max<size_t>(most, WidthOf(line));
    return most;
  };
  std::string words;
  for (int i = 0; i < 90; ++i) absl::StrAppend(&words, "好 ");
  const Result narrow =
      RunInTerminal(absl::StrCat("attend --color=never --layers=0 --heads=0 --text='", words, "'"));
  EXPECT_EQ(narrow.exit_code, 0);
  EXPECT_LE(widest(narrow.out), 81);  // with the carriage return
  EXPECT_THAT(narrow.out, AllOf(HasSubstr("…"), HasSubstr("26 more queries")));
  // Colours on a terminal, unless its user wants none.
  EXPECT_THAT(RunInTerminal("attend --text='a b'").out, HasSubstr("\x1b[48;5;"));
  setenv("NO_COLOR", "1", 1);
  EXPECT_THAT(RunInTerminal("attend --text='a b'").out, Not(HasSubstr("\x1b[")));
  unsetenv("NO_COLOR");
}

TEST_F(CommandLineTest, DrawsAttentionIntoAPngFile) {
  if (!ATTENDANT_PICTURES) GTEST_SKIP() << "built without Cairo";
  const Result result = Run("attend --text='a 好' --png=map.png");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(Read("map.png"), StartsWith("\x89PNG"));
  EXPECT_EQ(Run("generate --cross_attention --png=map2.png abc").exit_code, 0);
  EXPECT_THAT(Read("map2.png"), StartsWith("\x89PNG"));
}

TEST_F(CommandLineTest, DrawsAttentionInColors) {
  const std::string dark = Run("attend --text='a b' --color=always").out;
  EXPECT_THAT(dark, HasSubstr("\x1b[48;5;"));
  setenv("COLORTERM", "truecolor", 1);
  EXPECT_THAT(Run("attend --text='a b' --color=always").out, HasSubstr("\x1b[48;2;"));
  unsetenv("COLORTERM");
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
        "fill-mask [MASK] --json", "answer --context=a b --json", "classify a --json",
        "rank a b --json", "attend --json"}) {
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
  // A C1 control, a mark that writes backwards, and a byte that is not UTF-8.
  const std::string text = Run("classify \"$(printf 'a\\302\\233b\\342\\200\\256c')\"").out;
  EXPECT_THAT(text, StartsWith("a\\u009bb\\u202ec\n"));
}

TEST_F(CommandLineTest, ColorsOnlyATerminal) {
  EXPECT_THAT(Run("encode a b --similarity").out, Not(HasSubstr("\x1b[")));
  EXPECT_THAT(Run("encode a b --similarity --color=always").out, HasSubstr("\x1b["));
}

}  // namespace
}  // namespace attendant::client
