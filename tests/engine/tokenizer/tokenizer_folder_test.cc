// The tokenizers of folders against the reference: tests/goldens/tokenizer_folders, whose
// expectations transformers' own classes made; and folders that lack or contradict something.

#include "engine/tokenizer/tokenizer_folder.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/stream_decoder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::SharedDataPath;
using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::simdjson::dom::element;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Files by name, as a folder has them.
using Files = std::map<std::string, std::string, std::less<>>;

auto ReaderOf(const Files& files) {
  return [&files](absl::string_view name) -> absl::StatusOr<std::optional<std::string>> {
    const auto file = files.find(name);
    return file == files.end() ? std::nullopt : std::optional<std::string>(file->second);
  };
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Read(const Files& files, std::string model_type) {
  const auto read = ReaderOf(files);
  return ReadSourceTokenizer({"dir", std::move(model_type), read});
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTarget(const Files& files, std::string model_type) {
  const auto read = ReaderOf(files);
  return ReadTargetTokenizer({"dir", std::move(model_type), read});
}

Files FilesOf(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files[entry.path().filename().string()] = ReadFileOrDie(entry.path());
  return files;
}

Files GoldenFiles(absl::string_view name) {
  return FilesOf(TestDataPath(absl::StrCat("goldens/tokenizer_folders/", name)));
}

std::vector<int32_t> Integers(const element& json) {
  std::vector<int32_t> values;
  for (const int64_t value : json) values.push_back(static_cast<int32_t>(value));
  return values;
}

std::string Text(const element& json) { return std::string(std::string_view(json)); }

std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   bool skip_special_tokens) {
  StreamDecoder decoder(tokenizer, {}, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) absl::StrAppend(&text, decoder.Push(id));
  return absl::StrCat(text, decoder.Finish());
}

void ExpectDecoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   const element& golden) {
  for (const bool skip : {true, false}) {
    element expected;
    if (golden[skip ? "decoded" : "decoded_all"].get(expected) != simdjson::SUCCESS) continue;
    ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer.Decode(ids, skip));
    EXPECT_EQ(decoded, Text(expected));
    EXPECT_EQ(Stream(tokenizer, ids, skip), Text(expected));
  }
}

void ExpectOffsetsWithin(const Encoding& encoding, absl::string_view text) {
  for (const TextRange& range : encoding.offsets) {
    EXPECT_LE(0, range.begin);
    EXPECT_LE(range.begin, range.end);
    EXPECT_LE(range.end, static_cast<int64_t>(text.size()));
  }
}

class TokenizerFolderTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    files_ = GoldenFiles(GetParam());
    golden_ = parser_.parse(files_["expected.json"]);
    simdjson::dom::parser config;
    model_type_ = Text(config.parse(files_["config.json"])["model_type"]);
  }

  Files files_;
  simdjson::dom::parser parser_;
  element golden_;
  std::string model_type_;
};

TEST_P(TokenizerFolderTest, EqualsTheReference) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files_, model_type_));
  int count = 0;
  for (const element golden : golden_["cases"]) {
    const std::string text = Text(golden["text"]);
    const std::string pair = Text(golden["pair"]);
    SCOPED_TRACE(absl::StrCat("\"", text, "\" and \"", pair, "\""));
    ASSERT_OK_AND_ASSIGN(const Encoding single, tokenizer->Encode(text, true));
    EXPECT_EQ(single.ids, Integers(golden["ids"]));
    ExpectOffsetsWithin(single, text);
    ASSERT_OK_AND_ASSIGN(const Encoding both, tokenizer->EncodePair(text, pair, true));
    EXPECT_EQ(both.ids, Integers(golden["pair_ids"]));
    element type_ids;
    if (golden["type_ids"].get(type_ids) == simdjson::SUCCESS) {
      EXPECT_EQ(both.type_ids, Integers(type_ids));
    }
    ExpectDecoded(*tokenizer, Integers(golden["pair_ids"]), golden);
    ++count;
  }
  EXPECT_GE(count, 29);
}

TEST_P(TokenizerFolderTest, LanguagesEqualTheReference) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files_, model_type_));
  element expected;
  if (golden_["languages"].get(expected) != simdjson::SUCCESS) {
    EXPECT_TRUE(tokenizer->languages() == nullptr || tokenizer->languages()->ids.empty());
    EXPECT_THAT(tokenizer->EncodeSource("a", "", "xx"),
                StatusIs(kInvalid, HasSubstr("target_language")));
    return;
  }
  ASSERT_NE(tokenizer->languages(), nullptr);
  std::map<std::string, int64_t> ids(tokenizer->languages()->ids.begin(),
                                     tokenizer->languages()->ids.end());
  std::map<std::string, int64_t> expected_ids;
  for (const auto& [code, id] : simdjson::dom::object(expected))
    expected_ids[std::string(code)] = int64_t(id);
  EXPECT_EQ(ids, expected_ids);
  for (const element source : golden_["sources"]) {
    ASSERT_OK_AND_ASSIGN(const Encoding encoding,
                         tokenizer->EncodeSource(Text(source["text"]), Text(source["source"]),
                                                 Text(source["target"])));
    EXPECT_EQ(encoding.ids, Integers(source["ids"])) << Text(source["text"]);
  }
  EXPECT_THAT(tokenizer->EncodeSource("a", "", "tlh"),
              StatusIs(kInvalid, HasSubstr("target_language is \"tlh\"; this model has")));
  EXPECT_THAT(tokenizer->EncodeSource("a", "tlh", ""),
              StatusIs(kInvalid, HasSubstr("source_language is")));
}

TEST_P(TokenizerFolderTest, TargetEqualsTheReference) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, ReadTarget(files_, model_type_));
  element cases;
  if (golden_["target_cases"].get(cases) != simdjson::SUCCESS) {
    EXPECT_EQ(tokenizer, nullptr);
    return;
  }
  ASSERT_NE(tokenizer, nullptr);
  for (const element golden : cases) {
    SCOPED_TRACE(Text(golden["text"]));
    ASSERT_OK_AND_ASSIGN(const Encoding encoding, tokenizer->Encode(Text(golden["text"]), true));
    EXPECT_EQ(encoding.ids, Integers(golden["ids"]));
    ExpectDecoded(*tokenizer, encoding.ids, golden);
  }
}

// Random tokens, which no text would give.
TEST_P(TokenizerFolderTest, StreamingEqualsDecodingForRandomTokens) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files_, model_type_));
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
       std::filesystem::directory_iterator(TestDataPath("goldens/tokenizer_folders"))) {
    if (std::filesystem::exists(entry.path() / "expected.json"))
      names.push_back(entry.path().filename().string());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFolderTest, ::testing::ValuesIn(GoldenNames()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(LanguagesTest, SayWhereTheTargetGoes) {
  const auto target = [](absl::string_view name) {
    const auto tokenizer = Read(GoldenFiles(name), name == "marian" ? "marian" : "");
    return (*tokenizer)->languages()->target;
  };
  EXPECT_EQ(target("marian"), Languages::Target::kInSource);
  EXPECT_EQ(target("mbart"), Languages::Target::kDecoderStart);
  EXPECT_EQ(target("mbart50"), Languages::Target::kFirstToken);
  EXPECT_EQ(target("m2m_100"), Languages::Target::kFirstToken);
  EXPECT_EQ(target("nllb_legacy"), Languages::Target::kFirstToken);
  ASSERT_OK_AND_ASSIGN(const auto m2m, Read(GoldenFiles("m2m_100"), "m2m_100"));
  EXPECT_EQ(m2m->languages()->default_source, "de");
  EXPECT_EQ(m2m->languages()->default_target, "fr");
  ASSERT_OK_AND_ASSIGN(const auto marian, Read(GoldenFiles("marian"), "marian"));
  EXPECT_EQ(marian->languages()->default_source, "");
  EXPECT_THAT(marian->EncodeSource("a", "fra", ""),
              StatusIs(kInvalid, HasSubstr("takes target_language alone")));
}

// A tokenizer.json keeps its languages, whichever family made it.
TEST(LanguagesTest, AreFoundInATokenizerJson) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(GoldenFiles("nllb"), "m2m_100"));
  ASSERT_OK_AND_ASSIGN(const Encoding plain, tokenizer->Encode("Hello", true));
  EXPECT_EQ(plain.ids.front(), tokenizer->languages()->ids.at("fra_Latn"));
}

TEST(TokenizerFolderErrorsTest, NameTheFile) {
  struct Case {
    const char* golden;
    const char* model_type;
    const char* file;
    std::optional<std::string> contents;  // nothing: the file is absent
    const char* message;
  };
  const Case cases[] = {
      {"marian", "marian", "vocab.json", std::nullopt, "dir/vocab.json is absent"},
      {"marian", "marian", "source.spm", std::nullopt, "dir/source.spm is absent"},
      {"marian", "marian", "source.spm", "", "dir/source.spm: has 0 unknown pieces"},
      {"marian", "marian", "vocab.json", "[", "dir/source.spm: vocab.json is not JSON"},
      {"marian", "marian", "vocab.json", "{\"</s>\":0}", "lacks \"<unk>\""},
      {"marian", "marian", "vocab.json", "{\"<unk>\":0,\"a\":1e9}", "is not an integer"},
      {"m2m_100", "m2m_100", "vocab.json", std::nullopt, "vocab.json is absent"},
      {"m2m_100", "m2m_100", "tokenizer_config.json", R"({"src_lang":"xx"})",
       "source_language is \"xx\"; this model has 100 languages"},
      {"m2m_100", "m2m_100", "tokenizer_config.json", R"({"language_codes":"m4"})", "m4"},
      {"m2m_100", "m2m_100", "tokenizer_config.json", "{",
       "dir/tokenizer_config.json: is not JSON"},
      {"t5", "t5", "tokenizer_config.json", R"({"extra_ids":-1})", "extra_ids"},
      {"t5", "t5", "tokenizer_config.json", R"({"eos_token":"<eos>"})", "\"<eos>\""},
      {"albert", "albert", "tokenizer_config.json", R"({"do_lower_case":3})", "do_lower_case"},
      {"mbart", "mbart", "tokenizer_config.json", R"({"tgt_lang":"xx_XX"})", "tgt_lang is"},
      {"mpnet", "mpnet", "vocab.txt", "a\nb\n", "dir/vocab.txt: lacks one of <s>"},
      {"xlm-roberta", "xlm-roberta", "tokenizer_config.json",
       R"({"added_tokens_decoder":{"x":{}}})", "is not named by a token id"},
      {"xlm-roberta", "xlm-roberta", "tokenizer_config.json",
       R"({"added_tokens_decoder":{"7":{"content":"<mask>","lstrip":true,"rstrip":false,)"
       R"("normalized":false,"single_word":false,"special":true}}})",
       "added_tokens_decoder has \"<mask>\" as 7; the vocabulary"},
      {"nllb", "m2m_100", "tokenizer.json", "{}", "dir/tokenizer.json: "},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(absl::StrCat(bad.golden, "/", bad.file, ": ", bad.message));
    Files files = GoldenFiles(bad.golden);
    files.erase(bad.file);
    if (bad.contents.has_value()) files[bad.file] = *bad.contents;
    EXPECT_THAT(Read(files, bad.model_type), StatusIs(kInvalid, HasSubstr(bad.message)));
  }
  Files files = GoldenFiles("marian");
  files.erase("target.spm");
  EXPECT_THAT(ReadTarget(files, "marian"),
              StatusIs(kInvalid, HasSubstr("dir/target.spm is absent")));
}

TEST(TokenizerFolderTest, AFolderWithoutATokenizerHasNone) {
  for (const char* model_type : {"marian", "t5", "bart", "bert", ""}) {
    ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read({}, model_type));
    EXPECT_EQ(tokenizer, nullptr) << model_type;
    ASSERT_OK_AND_ASSIGN(const auto target, ReadTarget({}, model_type));
    EXPECT_EQ(target, nullptr) << model_type;
  }
}

// The golden of tokenizers/roberta.json, whose parts are RoBERTa's, from vocab.json and merges.txt.
TEST(TokenizerFolderTest, RobertaFromVocabularyAndMergesEqualsItsTokenizerJson) {
  simdjson::dom::parser parser;
  const std::string json = ReadFileOrDie(TestDataPath("goldens/tokenizers/roberta.json"));
  const element golden = parser.parse(json);
  Files files;
  files["vocab.json"] = simdjson::minify(golden["tokenizer"]["model"]["vocab"]);
  files["merges.txt"] = "#version: 0.2\n";
  for (const element merge : golden["tokenizer"]["model"]["merges"]) {
    absl::StrAppend(&files["merges.txt"], Text(merge.at(0)), " ", Text(merge.at(1)), "\n");
  }
  // Its mask token is not in the vocabulary.
  files["tokenizer_config.json"] =
      R"({"add_prefix_space":true,"added_tokens_decoder":{"420":{"content":"<mask>","lstrip":true,)"
      R"("rstrip":false,"normalized":false,"single_word":false,"special":true}}})";
  ASSERT_OK_AND_ASSIGN(const auto reference,
                       CreateTokenizer(simdjson::minify(golden["tokenizer"]), "roberta"));
  for (const char* model_type : {"roberta", "bart"}) {
    ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files, model_type));
    for (const element text : golden["cases"]) {
      SCOPED_TRACE(Text(text["text"]));
      ASSERT_OK_AND_ASSIGN(const Encoding found,
                           tokenizer->EncodePair(Text(text["text"]), Text(text["pair"]), true));
      ASSERT_OK_AND_ASSIGN(const Encoding expected,
                           reference->EncodePair(Text(text["text"]), Text(text["pair"]), true));
      EXPECT_EQ(found.ids, expected.ids);
      EXPECT_EQ(found.offsets, expected.offsets);
      EXPECT_EQ(found.type_ids, expected.type_ids);
    }
  }
}

TEST(TokenizerFolderTest, TransformersHaveATargetTokenizerOfTheirOwn) {
  Files files;
  files["tokenizer.json"] = files["target_tokenizer.json"] = GoldenFiles("nllb")["tokenizer.json"];
  ASSERT_OK_AND_ASSIGN(const auto target, ReadTarget(files, "transformer"));
  ASSERT_NE(target, nullptr);
  files["target_tokenizer.json"] = "{}";
  EXPECT_THAT(ReadTarget(files, "transformer"),
              StatusIs(kInvalid, HasSubstr("dir/target_tokenizer.json: ")));
}

// What SentencePiece itself made of texts, by models of the shared folder.
void ExpectSentencePieceCases(const Tokenizer& tokenizer, const std::string& cases,
                              const char* key) {
  simdjson::dom::parser parser;
  int count = 0;
  for (const absl::string_view line : absl::StrSplit(cases, '\n', absl::SkipEmpty())) {
    const element golden = parser.parse(std::string(line));
    ASSERT_OK_AND_ASSIGN(const Encoding encoding,
                         tokenizer.Encode(Text(golden["text"]), /*add_special_tokens=*/false));
    EXPECT_EQ(encoding.ids, Integers(golden[key])) << Text(golden["text"]);
    ++count;
  }
  EXPECT_EQ(count, 58);
}

TEST(SentencePieceVectorsTest, UnigramEqualsSentencePiece) {
  const auto folder = SharedDataPath("vectors/tokenizers/spm-unigram-1k");
  if (!folder.has_value()) GTEST_SKIP() << "spm-unigram-1k is absent";
  Files files = {{"tokenizer.model", ReadFileOrDie(*folder / "spiece.model")}};
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files, ""));
  ExpectSentencePieceCases(*tokenizer, ReadFileOrDie(*folder / "cases.jsonl"), "ids");
}

TEST(SentencePieceVectorsTest, BpeWithByteFallbackEqualsSentencePiece) {
  const auto model = SharedDataPath("models/stories260K/tokenizer.model");
  const auto cases = SharedDataPath("vectors/tokenizers/stories260K-spm-bpe/cases.jsonl");
  if (!model.has_value() || !cases.has_value()) GTEST_SKIP() << "stories260K is absent";
  Files files = {{"tokenizer.model", ReadFileOrDie(*model)}};
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Read(files, "llama"));
  ExpectSentencePieceCases(*tokenizer, ReadFileOrDie(*cases), "ids_sentencepiece");
}

}  // namespace
}  // namespace attendant::engine
