// Our tokenizers against the reference library: the goldens of tests/goldens/tokenizers, which it
// made, and the cases that come with real tokenizers in the shared folder.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {

void PrintTo(const TextRange& range, std::ostream* out) { *out << range.begin << "-" << range.end; }

namespace {

using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::TestDataPath;
using ::simdjson::dom::element;

std::vector<int32_t> Integers(const element& json) {
  std::vector<int32_t> values;
  for (const int64_t value : json) values.push_back(static_cast<int32_t>(value));
  return values;
}

std::string Text(const element& json) { return std::string(std::string_view(json)); }

GgufVocabulary ParseGguf(const element& json) {
  GgufVocabulary vocabulary;
  vocabulary.model = "llama";
  for (const std::string_view token : json["tokens"]) vocabulary.tokens.emplace_back(token);
  for (const double score : json["scores"]) vocabulary.scores.push_back(static_cast<float>(score));
  vocabulary.token_types = Integers(json["token_types"]);
  vocabulary.bos_id = static_cast<int32_t>(int64_t(json["bos_id"]));
  vocabulary.eos_id = static_cast<int32_t>(int64_t(json["eos_id"]));
  vocabulary.unknown_id = static_cast<int32_t>(int64_t(json["unknown_id"]));
  return vocabulary;
}

void ExpectEncoding(const Encoding& actual, const element& expected) {
  EXPECT_EQ(actual.ids, Integers(expected["ids"]));
  EXPECT_EQ(actual.type_ids, Integers(expected["type_ids"]));
  std::vector<TextRange> offsets;
  for (const element range : expected["offsets"]) {
    offsets.push_back(
        {static_cast<int32_t>(int64_t(range.at(0))), static_cast<int32_t>(int64_t(range.at(1)))});
  }
  EXPECT_EQ(actual.offsets, offsets);
  const std::vector<int32_t> special = Integers(expected["special"]);
  EXPECT_EQ(actual.special_tokens_mask, std::vector<bool>(special.begin(), special.end()));
}

std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   bool skip_special_tokens) {
  StreamDecoder decoder(tokenizer, {}, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) absl::StrAppend(&text, decoder.Push(id));
  return absl::StrCat(text, decoder.Finish());
}

void CheckCases(const Tokenizer& tokenizer, const element& cases) {
  for (const element golden : cases) {
    const std::string text = Text(golden["text"]);
    const std::string pair = Text(golden["pair"]);
    SCOPED_TRACE(absl::StrCat("\"", text, "\" and \"", pair, "\""));
    ASSERT_OK_AND_ASSIGN(const Encoding plain,
                         tokenizer.Encode(text, /*add_special_tokens=*/false));
    ExpectEncoding(plain, golden["plain"]);
    ASSERT_OK_AND_ASSIGN(const Encoding both,
                         tokenizer.EncodePair(text, pair, /*add_special_tokens=*/true));
    ExpectEncoding(both, golden["both"]);
    for (const bool skip : {true, false}) {
      const std::string expected = Text(golden[skip ? "decoded" : "decoded_all"]);
      ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer.Decode(both.ids, skip));
      EXPECT_EQ(decoded, expected);
      EXPECT_EQ(Stream(tokenizer, both.ids, skip), expected);
    }
  }
}

class TokenizerGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerGoldenTest, EqualsTheReference) {
  const std::string json =
      ReadFileOrDie(TestDataPath(absl::StrCat("goldens/tokenizers/", GetParam(), ".json")));
  simdjson::dom::parser parser;
  const element golden = parser.parse(json);
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateTokenizer(simdjson::minify(golden["tokenizer"]), GetParam()));
  CheckCases(*tokenizer, golden["cases"]);

  element gguf;
  if (golden["gguf"].get(gguf) == simdjson::SUCCESS) {
    SCOPED_TRACE("as GGUF");
    ASSERT_OK_AND_ASSIGN(const auto same, CreateGgufTokenizer(ParseGguf(gguf), GetParam()));
    CheckCases(*same, golden["cases"]);
  }
}

// Random tokens, which no text would give: half characters, specials in the middle, runs of bytes.
TEST_P(TokenizerGoldenTest, StreamingEqualsDecodingForRandomTokens) {
  const std::string json =
      ReadFileOrDie(TestDataPath(absl::StrCat("goldens/tokenizers/", GetParam(), ".json")));
  simdjson::dom::parser parser;
  const element golden = parser.parse(json);
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateTokenizer(simdjson::minify(golden["tokenizer"]), GetParam()));
  uint32_t state = 1;
  for (int i = 0; i < 200; ++i) {
    std::vector<int32_t> ids;
    for (int length = i % 40; length > 0; --length) {
      state = state * 1664525u + 1013904223u;
      ids.push_back(
          static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(tokenizer->vocab_size())));
    }
    for (const bool skip : {true, false}) {
      ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer->Decode(ids, skip));
      EXPECT_EQ(Stream(*tokenizer, ids, skip), decoded);
      EXPECT_TRUE(simdjson::validate_utf8(decoded));
    }
  }
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(TestDataPath("goldens/tokenizers"))) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGoldenTest, ::testing::ValuesIn(GoldenNames()),
                         [](const auto& info) { return info.param; });

// {"text": ..., KEY: ids} a line, of the folder vectors/tokenizers.
void CheckVectors(const Tokenizer& tokenizer, const std::string& cases, const char* key) {
  simdjson::dom::parser parser;
  int count = 0;
  for (const absl::string_view line : absl::StrSplit(cases, '\n', absl::SkipEmpty())) {
    const element golden = parser.parse(std::string(line));
    const std::string text = Text(golden["text"]);
    SCOPED_TRACE(absl::StrCat("\"", text, "\""));
    ASSERT_OK_AND_ASSIGN(const Encoding encoding,
                         tokenizer.Encode(text, /*add_special_tokens=*/false));
    EXPECT_EQ(encoding.ids, Integers(golden[key]));
    ++count;
  }
  EXPECT_GE(count, 46);
}

struct VectorsCase {
  const char* tokenizer;  // a tokenizer.json below the shared folder
  const char* cases;
  const char* key;
};

class TokenizerVectorsTest : public ::testing::TestWithParam<VectorsCase> {};

TEST_P(TokenizerVectorsTest, EqualsTheCases) {
  const auto tokenizer_path = SharedDataPath(GetParam().tokenizer);
  const auto cases_path = SharedDataPath(GetParam().cases);
  if (!tokenizer_path.has_value() || !cases_path.has_value())
    GTEST_SKIP() << GetParam().cases << " is absent";
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateTokenizer(ReadFileOrDie(*tokenizer_path), GetParam().tokenizer));
  CheckVectors(*tokenizer, ReadFileOrDie(*cases_path), GetParam().key);
}

INSTANTIATE_TEST_SUITE_P(
    Shared, TokenizerVectorsTest,
    ::testing::Values(
        VectorsCase{"vectors/tokenizers/bert-base-uncased/tokenizer.json",
                    "vectors/tokenizers/bert-base-uncased/cases_llamacpp_no_special.jsonl", "ids"},
        VectorsCase{"vectors/tokenizers/gpt2/tokenizer.json",
                    "vectors/tokenizers/gpt2/cases_llamacpp_no_special.jsonl", "ids"},
        // Cases of SentencePiece itself, which trims and joins spaces where tokenizer.json does
        // not, have those of tokenizer.json beside them.
        VectorsCase{"models/stories260K/tokenizer.json",
                    "vectors/tokenizers/stories260K-spm-bpe/cases.jsonl",
                    "ids_tokenizer_json_no_bos"}));

// What SentencePiece itself made of the texts. Three of them mix newlines with spaces, which
// tokenizer.json has no step to join; for those the reference library differs from SentencePiece in
// the same way.
TEST(TokenizerVectorsTest, UnigramEqualsSentencePieceButForSpacesBesideNewlines) {
  const auto folder = SharedDataPath("vectors/tokenizers/spm-unigram-1k");
  if (!folder.has_value()) GTEST_SKIP() << "spm-unigram-1k is absent";
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateTokenizer(ReadFileOrDie(*folder / "tokenizer.json"), "unigram"));
  simdjson::dom::parser parser;
  int total = 0;
  int differing = 0;
  const std::string cases = ReadFileOrDie(*folder / "cases.jsonl");
  for (const absl::string_view line : absl::StrSplit(cases, '\n', absl::SkipEmpty())) {
    const element golden = parser.parse(std::string(line));
    const std::string text = Text(golden["text"]);
    ASSERT_OK_AND_ASSIGN(const Encoding encoding,
                         tokenizer->Encode(text, /*add_special_tokens=*/false));
    ++total;
    if (encoding.ids == Integers(golden["ids"])) continue;
    ++differing;
    EXPECT_THAT(text, ::testing::AllOf(::testing::HasSubstr("\n"), ::testing::HasSubstr(" ")));
  }
  EXPECT_EQ(total, 58);
  EXPECT_EQ(differing, 3);
}

TEST(VocabularyFilesTest, VocabTxtMakesTheSameTokenizerAsTokenizerJson) {
  const auto folder = SharedDataPath("vectors/tokenizers/bert-base-uncased");
  if (!folder.has_value()) GTEST_SKIP() << "bert-base-uncased is absent";
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateWordPieceTokenizer(ReadFileOrDie(*folder / "vocab.txt"),
                                                WordPieceOptions(), "vocab.txt"));
  CheckVectors(*tokenizer, ReadFileOrDie(*folder / "cases_llamacpp_no_special.jsonl"), "ids");
}

TEST(VocabularyFilesTest, VocabJsonAndMergesTxtMakeTheSameTokenizerAsTokenizerJson) {
  const auto folder = SharedDataPath("vectors/tokenizers/gpt2");
  if (!folder.has_value()) GTEST_SKIP() << "gpt2 is absent";
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       CreateByteLevelBpeTokenizer(ReadFileOrDie(*folder / "vocab.json"),
                                                   ReadFileOrDie(*folder / "merges.txt"), "gpt2"));
  CheckVectors(*tokenizer, ReadFileOrDie(*folder / "cases_llamacpp_no_special.jsonl"), "ids");
}

}  // namespace
}  // namespace attendant::engine
