#include "engine/tokenizer/tokenizer.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/tokenizer/regex.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/token_trie.h"
#include "engine/tokenizer/unicode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::string_view kWordLevel =
    R"({"type":"WordLevel","vocab":{"<unk>":0,"a":1,"b":2},"unk_token":"<unk>"})";

// A tokenizer.json of `model`, and `more` members, each with a comma in front.
std::string Json(absl::string_view model, absl::string_view more = "") {
  return absl::StrCat(R"({"version":"1.0","model":)", model, more, "}");
}

struct BadJson {
  std::string name;
  std::string json;
  absl::StatusCode code;
  std::string message;
};

class BadTokenizerTest : public ::testing::TestWithParam<BadJson> {};

TEST_P(BadTokenizerTest, IsRefusedByName) {
  const auto tokenizer = CreateTokenizer(GetParam().json, "dir/tokenizer.json");
  EXPECT_THAT(tokenizer, StatusIs(GetParam().code, HasSubstr(GetParam().message)));
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("dir/tokenizer.json"));
}

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnknown = absl::StatusCode::kUnimplemented;

INSTANTIATE_TEST_SUITE_P(
    All, BadTokenizerTest,
    ::testing::Values(
        BadJson{"Empty", "", kInvalid, "is not JSON"},
        BadJson{"Array", "[]", kInvalid, "is not an object"},
        BadJson{"NoModel", "{}", kInvalid, "lacks \"model\""},
        BadJson{"Version", R"({"version":"2.0","model":{}})", kInvalid, "version \"2.0\""},
        BadJson{"UnknownModel", Json(R"({"type":"Foo"})"), kUnknown, "model.type \"Foo\""},
        BadJson{"UnknownPart",
                Json(kWordLevel,
                     R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Foo"}]})"),
                kUnknown, "pre_tokenizer.pretokenizers[0].type \"Foo\""},
        BadJson{"UnknownNormalizer", Json(kWordLevel, R"(,"normalizer":{"type":"Foo"})"), kUnknown,
                "normalizer.type"},
        BadJson{"UnknownDecoder", Json(kWordLevel, R"(,"decoder":{"type":"CTC"})"), kUnknown,
                "decoder.type \"CTC\""},
        BadJson{"NoType", Json(kWordLevel, R"(,"normalizer":{})"), kInvalid,
                "normalizer lacks \"type\""},
        BadJson{"Dropout", Json(R"({"type":"BPE","dropout":0.1,"vocab":{},"merges":[]})"), kUnknown,
                "model.dropout 0.1"},
        BadJson{"MergeOutOfVocabulary", Json(R"({"type":"BPE","vocab":{"a":0},"merges":["a b"]})"),
                kInvalid, "model.merges[0]: \"b\" is not in the vocabulary"},
        BadJson{"MergeOfThree", Json(R"({"type":"BPE","vocab":{"a":0},"merges":["a b c"]})"),
                kInvalid, "model.merges[0] \"a b c\""},
        BadJson{"NegativeId", Json(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})"), kInvalid,
                "model.vocab[\"a\"]"},
        BadJson{"HugeId", Json(R"({"type":"BPE","vocab":{"a":4000000000},"merges":[]})"), kInvalid,
                "16777215"},
        BadJson{"UnigramPair", Json(R"({"type":"Unigram","unk_id":0,"vocab":[["a",0],["b"]]})"),
                kInvalid, "model.vocab[1]"},
        BadJson{"UnigramUnknown", Json(R"({"type":"Unigram","unk_id":1,"vocab":[["a",0]]})"),
                kInvalid, "model.unk_id"},
        BadJson{"Charsmap",
                Json(kWordLevel,
                     R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAB"})"),
                kInvalid, "normalizer.precompiled_charsmap"},
        BadJson{"CharsmapSize",
                Json(kWordLevel,
                     R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////w=="})"),
                kInvalid, "has a trie of 4294967295 bytes in 4 bytes"},
        BadJson{
            "Pattern",
            Json(
                kWordLevel,
                R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated","invert":false})"),
            kInvalid, "pre_tokenizer.pattern: regular expression \"(a\""},
        BadJson{
            "Behavior",
            Json(
                kWordLevel,
                R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Foo","invert":false})"),
            kInvalid, "pre_tokenizer.behavior \"Foo\""},
        BadJson{
            "Template",
            Json(
                kWordLevel,
                R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}}],"pair":[],"special_tokens":{}})"),
            kInvalid, "post_processor.single[0].SpecialToken"},
        BadJson{
            "SpecialOutsideVocabulary",
            Json(
                kWordLevel,
                R"(,"post_processor":{"type":"BertProcessing","cls":["[CLS]",7],"sep":["[SEP]",2]})"),
            kInvalid, "post_processor adds token id 7, outside the vocabulary of 3"},
        BadJson{"AddedToken", Json(kWordLevel, R"(,"added_tokens":[{"id":3,"content":"x"}])"),
                kInvalid, "added_tokens[0] lacks \"single_word\""}),
    [](const auto& info) { return info.param.name; });

TEST(TokenizerTest, DepthIsBounded) {
  std::string json = Json(kWordLevel, R"(,"normalizer":)");
  json.pop_back();
  for (int i = 0; i < 100000; ++i) json += R"({"type":"Sequence","normalizers":[)";
  EXPECT_THAT(CreateTokenizer(json, "deep"), StatusIs(kInvalid));
}

TEST(TokenizerTest, TextThatIsNotUtf8IsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(Json(kWordLevel), "json"));
  EXPECT_THAT(tokenizer->Encode("a\xff", true), StatusIs(kInvalid, HasSubstr("text is not UTF-8")));
  EXPECT_THAT(tokenizer->EncodePair("a", "\xed\xa0\x80", true),
              StatusIs(kInvalid, HasSubstr("text_pair is not UTF-8")));
}

TEST(TokenizerTest, DecodeNamesTheFirstIdOutsideTheVocabulary) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(Json(kWordLevel), "json"));
  EXPECT_THAT(tokenizer->Decode({1, 3, 4}, true), StatusIs(kInvalid, HasSubstr("token id 3")));
  EXPECT_THAT(tokenizer->Decode({-1}, true), StatusIs(kInvalid, HasSubstr("token id -1")));
  EXPECT_EQ(*tokenizer->Decode({1, 2}, true), "a b");
}

TEST(TokenizerTest, NormalizationMayNotExplode) {
  const std::string json =
      Json(kWordLevel,
           absl::StrCat(R"(,"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":")",
                        std::string(100000, 'b'), R"("})"));
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(json, "json"));
  EXPECT_THAT(tokenizer->Encode(std::string(1000, 'a'), true),
              StatusIs(kInvalid, HasSubstr("longer than 36096 bytes")));
}

TEST(RegexTest, CatastrophicPatternsComeToAnEnd) {
  const std::string text(100000, 'a');
  for (const char* pattern : {"(a*)*[bc]", "(?:a|a)*[bc]"}) {
    ASSERT_OK_AND_ASSIGN(const auto regex, Regex::Create(pattern));
    std::vector<ByteRange> matches;
    EXPECT_THAT(regex->FindAll(text, absl::Now() + absl::Milliseconds(200), matches),
                StatusIs(kInvalid, HasSubstr(pattern)));
  }
}

TEST(RegexTest, DialectOfOnigurumaIsRewritten) {
  EXPECT_EQ(*OnigurumaToPcre2(R"(\s+(?!\S))"), R"([\p{wspace}]+(?![^\p{wspace}]))");
  EXPECT_EQ(*OnigurumaToPcre2(R"(\p{N}{1,3}+)"), R"((?:\p{N}{1,3})+)");
  EXPECT_EQ(*OnigurumaToPcre2(R"(\p{Han})"), R"(\p{sc:Han})");
  EXPECT_EQ(*OnigurumaToPcre2(R"((?m:.)\h)"), R"((?s:.)[0-9a-fA-F])");
  EXPECT_THAT(OnigurumaToPcre2("(?~ab)"), StatusIs(kUnknown));
  EXPECT_THAT(OnigurumaToPcre2(R"(\p{Foo})"), StatusIs(kUnknown, HasSubstr("Foo")));
  EXPECT_THAT(OnigurumaToPcre2("[a"), StatusIs(kInvalid));
  EXPECT_THAT(OnigurumaToPcre2("a\\"), StatusIs(kInvalid));
}

// Ten megabytes without a space, in each model: a heap, a trie and a bounded cache, and no step
// that is quadratic.
TEST(TokenizerTest, LongWordsTakeLinearTime) {
  const std::string models[] = {
      R"({"type":"BPE","vocab":{"a":0,"b":1,"aa":2,"aaaa":3,"ab":4},"merges":["a a","aa aa","a b"]})",
      R"({"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##a":2,"##aaab":3,"##aa":4},"unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":1000000000})",
      R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["aa",-1.5],["aaaa",-2]]})",
  };
  const std::string text(2'000'000, 'a');
  for (const std::string& model : models) {
    ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(Json(model), "json"));
    const absl::Time start = absl::Now();
    ASSERT_OK_AND_ASSIGN(const Encoding encoding, tokenizer->Encode(text, true));
    EXPECT_LT(absl::Now() - start, absl::Seconds(20))
        << model;  // a quadratic step would take hours
    EXPECT_EQ(encoding.offsets.back().end, static_cast<int32_t>(text.size()));
  }
}

TEST(StreamDecoderTest, GivesWholeCharactersOnly) {
  const std::string json = Json(
      R"({"type":"BPE","vocab":{"<0xE2>":0,"<0x82>":1,"<0xAC>":2,"▁a":3},"merges":[],"byte_fallback":true})",
      R"(,"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})");
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(json, "json"));
  StreamDecoder decoder(*tokenizer, {}, true);
  std::vector<std::string> given;
  for (const int32_t id : {3, 0, 1, 2, 3, 0}) given.push_back(decoder.Push(id));
  given.push_back(decoder.Finish());
  EXPECT_THAT(given, ElementsAre("a", "", "", "", "€ a", "", "\uFFFD"));
}

TEST(StreamDecoderTest, ContextGivesTheFirstWordItsSpace) {
  const std::string json =
      Json(R"({"type":"BPE","vocab":{"▁a":0,"b":1},"merges":[]})",
           R"(,"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"})");
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateTokenizer(json, "json"));
  StreamDecoder without(*tokenizer, {}, true);
  EXPECT_EQ(without.Push(0), "a");
  StreamDecoder with(*tokenizer, {0, 1}, true);
  EXPECT_EQ(with.Push(0), " a");
}

TEST(TokenTrieTest, FindsEveryPrefix) {
  const TokenTrie trie({{"abc", 0}, {"a", 1}, {"ab", 2}, {"b", 3}, {"abcde", 4}});
  std::vector<int32_t> found;
  trie.VisitPrefixes("abcdx", [&](size_t, int32_t value) { found.push_back(value); });
  EXPECT_THAT(found, ElementsAre(1, 2, 0));
}

TEST(UnicodeTest, LossyConversionReplacesMaximalParts) {
  const auto convert = [](std::string bytes) {
    std::string text;
    unicode::TakeLossy(bytes, /*at_end=*/true, text);
    return text;
  };
  EXPECT_EQ(convert("a\xe2\x82z"), "a\uFFFDz");
  EXPECT_EQ(convert("\xf0\x9f\x98\x80"), "\U0001F600");
  EXPECT_EQ(convert("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(convert("\xc0\xaf\xff"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(convert("\xe2\x82"), "\uFFFD");
}

GgufVocabulary SmallGguf() {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  vocabulary.tokens = {"<|end|>", "a", "b", "ab", "1", "Ġ"};
  vocabulary.token_types = {3, 1, 1, 1, 1, 1};
  vocabulary.merges = {"a b"};
  return vocabulary;
}

TEST(GgufTokenizerTest, DigitsAreSingleAndControlTokensAreSpecial) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, CreateGgufTokenizer(SmallGguf(), "gguf"));
  ASSERT_OK_AND_ASSIGN(const Encoding encoding, tokenizer->Encode("ab 11<|end|>", true));
  EXPECT_THAT(encoding.ids, ElementsAre(3, 5, 4, 4, 0));
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_EQ(*tokenizer->Decode(encoding.ids, true), "ab 11");
}

TEST(GgufTokenizerTest, UnknownKindsAreNamed) {
  GgufVocabulary vocabulary = SmallGguf();
  vocabulary.pre = "foo";
  EXPECT_THAT(CreateGgufTokenizer(vocabulary, "gguf"),
              StatusIs(kUnknown, HasSubstr("pre \"foo\"")));
  vocabulary.model = "t5";
  EXPECT_THAT(CreateGgufTokenizer(vocabulary, "gguf"),
              StatusIs(kUnknown, HasSubstr("model \"t5\"")));
  vocabulary.model = "llama";
  EXPECT_THAT(CreateGgufTokenizer(vocabulary, "gguf"), StatusIs(kInvalid, HasSubstr("scores")));
}

TEST(TokenizerKindTest, ABytePairTokenizerOverBytesSaysSo) {
  const std::string model = R"("model":{"type":"BPE","vocab":{"Ġ":0},"merges":[]})";
  ASSERT_OK_AND_ASSIGN(const auto characters, CreateTokenizer("{" + model + "}", "test"));
  EXPECT_EQ(characters->kind(), "BPE");
  ASSERT_OK_AND_ASSIGN(
      const auto bytes,
      CreateTokenizer("{" + model + R"(,"decoder":{"type":"ByteLevel"}})", "test"));
  EXPECT_EQ(bytes->kind(), "ByteLevelBPE");
}

}  // namespace
}  // namespace attendant::engine
