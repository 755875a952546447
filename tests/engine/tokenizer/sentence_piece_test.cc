#include "engine/tokenizer/sentence_piece.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/sentence_pieces.h"
#include "engine/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

// Protocol Buffers' wire format.
std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value > 0x7F; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string Field(int number, uint64_t value) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3), Varint(value));
}
std::string Field(int number, absl::string_view bytes) {
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3 | 2), Varint(bytes.size()), bytes);
}
std::string FloatField(int number, float value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return absl::StrCat(Varint(static_cast<uint64_t>(number) << 3 | 5), bytes);
}

using Kind = SentencePieces::Kind;

std::string Piece(absl::string_view text, float score, Kind kind = Kind::kNormal) {
  return Field(
      1, absl::StrCat(Field(1, text), FloatField(2, score), Field(3, static_cast<uint64_t>(kind))));
}
std::string Unknown() { return Piece("<unk>", 0, Kind::kUnknown); }
std::string Trainer(int model_type, absl::string_view more = "") {
  return Field(2, absl::StrCat(Field(3, static_cast<uint64_t>(model_type)), more));
}
std::string BytePieces() {
  std::string pieces;
  for (int byte = 0; byte < 256; ++byte)
    absl::StrAppend(&pieces, Piece(absl::StrFormat("<0x%02X>", byte), 0, Kind::kByte));
  return pieces;
}
constexpr int kUnigram = 1;
constexpr int kBytePair = 2;

absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const std::string& file) {
  auto pieces = SentencePieces::Parse(file);
  if (!pieces.ok()) return pieces.status();
  Vocabulary vocabulary;
  for (const SentencePieces::Piece& piece : (*pieces)->pieces()) {
    absl::Status status = vocabulary.Add(piece.text, vocabulary.end_id());
    if (!status.ok()) return status;
  }
  TokenizerParts parts;
  parts.normalizer = CreateSentencePieceNormalizer(*pieces);
  parts.decoder = CreateSentencePiecesDecoder(*pieces, {});
  auto model = CreateSentencePieceModel(*pieces, std::move(vocabulary), "<unk>");
  if (!model.ok()) return model.status();
  parts.model = *std::move(model);
  return PipelineTokenizer::Create(std::move(parts), "test");
}

std::vector<std::string> TokensOf(const std::string& file, absl::string_view text) {
  const auto tokenizer = Create(file);
  EXPECT_OK(tokenizer);
  const auto encoding = (*tokenizer)->Encode(text, /*add_special_tokens=*/false);
  EXPECT_OK(encoding);
  std::vector<std::string> tokens;
  for (const int32_t id : encoding->ids) tokens.push_back(*(*tokenizer)->IdToToken(id));
  return tokens;
}

std::string Decode(const std::string& file, const std::vector<std::string>& tokens) {
  const auto tokenizer = Create(file);
  EXPECT_OK(tokenizer);
  std::vector<int32_t> ids;
  for (const std::string& token : tokens) ids.push_back(*(*tokenizer)->TokenToId(token));
  return *(*tokenizer)->Decode(ids, /*skip_special_tokens=*/false);
}

const std::string& Hello() {
  static const auto* const file = new std::string(absl::StrCat(
      Unknown(), Piece("\u2581", -3), Piece("\u2581he", -1), Piece("he", -2), Piece("h", -4),
      Piece("e", -4), Piece("l", -4), Piece("ll", -2.5F), Piece("o", -4), Trainer(kUnigram)));
  return *file;
}

TEST(SentencePieceTest, SpacesAreJoinedAndStrippedAndOffsetsSaySo) {
  EXPECT_THAT(TokensOf(Hello(), "  he   llo "), ElementsAre("\u2581he", "\u2581", "ll", "o"));
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Create(Hello()));
  ASSERT_OK_AND_ASSIGN(const Encoding encoding, tokenizer->Encode("  he   llo ", false));
  EXPECT_THAT(encoding.offsets,
              ElementsAre(TextRange{2, 4}, TextRange{4, 7}, TextRange{7, 9}, TextRange{9, 10}));
  EXPECT_THAT(TokensOf(Hello(), "   "), ElementsAre());
  EXPECT_THAT(TokensOf(Hello(), ""), ElementsAre());
}

TEST(SentencePieceTest, UnknownCharactersInARowAreOneToken) {
  EXPECT_THAT(TokensOf(Hello(), "he\u65e5\u672co"), ElementsAre("\u2581he", "<unk>", "o"));
}

TEST(SentencePieceTest, BytesStandForUnknownCharacters) {
  const std::string file =
      absl::StrCat(Unknown(), Piece("\u2581", -1), BytePieces(), Trainer(kBytePair, Field(35, 1)));
  EXPECT_THAT(TokensOf(file, "\u00e9"), ElementsAre("\u2581", "<0xC3>", "<0xA9>"));
  EXPECT_EQ(Decode(file, {"\u2581", "<0xC3>", "<0xA9>"}), "\u00e9");
  // Half a character, a byte that starts none, and one of too many.
  EXPECT_EQ(Decode(file, {"<0xC3>", "<0x41>"}), "\uFFFDA");
  EXPECT_EQ(Decode(file, {"<0xE6>", "<0x97>"}), "\uFFFD\uFFFD");
  EXPECT_EQ(Decode(file, {"<0xFF>", "<0x80>", "<0x41>"}), "\uFFFD\uFFFDA");
}

TEST(SentencePieceTest, WhatTheUserDefinedIsNeverCut) {
  for (const int algorithm : {kUnigram, kBytePair}) {
    const std::string file =
        absl::StrCat(Unknown(), Piece("\u2581", -3), Piece("a", -1), Piece("b", -1),
                     Piece("ab", -2), Piece("aba", 0, Kind::kUserDefined), Trainer(algorithm));
    EXPECT_THAT(TokensOf(file, "abab"), ElementsAre("\u2581", "aba", "b")) << algorithm;
  }
}

TEST(SentencePieceTest, UnusedPiecesServeOnTheWayAndAreCutAgain) {
  const std::string pieces =
      absl::StrCat(Unknown(), Piece("\u2581", -3), Piece("a", -1), Piece("b", -1), Piece("c", -1),
                   Piece("ab", -0.5F, Kind::kUnused), Piece("abc", -0.7F));
  EXPECT_THAT(TokensOf(absl::StrCat(pieces, Trainer(kBytePair)), "ab abc"),
              ElementsAre("\u2581", "a", "b", "\u2581", "abc"));
  EXPECT_THAT(TokensOf(absl::StrCat(pieces, Trainer(kUnigram)), "ab abc"),
              ElementsAre("\u2581", "a", "b", "\u2581", "abc"));
}

TEST(SentencePieceTest, TheSpaceMayBeASuffixOrBeLeftOut) {
  const std::string pieces = absl::StrCat(Unknown(), Piece("\u2581", -3), Piece("a", -1));
  EXPECT_THAT(TokensOf(absl::StrCat(pieces, Trainer(kUnigram, Field(24, 1))), "a a"),
              ElementsAre("a", "\u2581", "a", "\u2581"));
  EXPECT_THAT(TokensOf(absl::StrCat(pieces, Trainer(kUnigram), Field(3, Field(3, 0))), "a a"),
              ElementsAre("a", "\u2581", "a"));
  EXPECT_THAT(TokensOf(absl::StrCat(pieces, Trainer(kUnigram), Field(3, Field(4, 0))), " a "),
              ElementsAre("\u2581", "\u2581", "a", "\u2581"));
}

TEST(SentencePieceTest, DecodingDropsTheSpaceThatWasPutBeforeTheText) {
  EXPECT_EQ(Decode(Hello(), {"\u2581he", "ll", "o", "\u2581he"}), "hello he");
  EXPECT_EQ(Decode(Hello(), {"\u2581", "\u2581he"}), "he");
  EXPECT_EQ(Decode(absl::StrCat(Hello(), Field(3, Field(4, 0))), {"\u2581", "\u2581he"}), " he");
  EXPECT_EQ(Decode(Hello(), {"<unk>", "o"}), " \u2047 o");
}

TEST(SentencePieceTest, LongTextsTakeLinearTime) {
  const std::string text(2'000'000, 'l');
  for (const int algorithm : {kUnigram, kBytePair}) {
    const std::string file = absl::StrCat(Hello(), Trainer(algorithm));
    EXPECT_EQ(TokensOf(file, text).size(), 1'000'001) << algorithm;
  }
}

struct BadFile {
  const char* name;
  std::string file;
  absl::StatusCode code;
  std::string message;
};

class BadSentencePieceFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadSentencePieceFileTest, IsRefused) {
  EXPECT_THAT(SentencePieces::Parse(GetParam().file),
              StatusIs(GetParam().code, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSentencePieceFileTest,
    ::testing::Values(
        BadFile{"Empty", "", kInvalid, "has 0 unknown pieces"},
        BadFile{"NoUnknown", Piece("a", 0), kInvalid, "has 0 unknown pieces; it must have one"},
        BadFile{"TwoUnknown", absl::StrCat(Unknown(), Piece("u", 0, Kind::kUnknown)), kInvalid,
                "has 2 unknown pieces"},
        BadFile{"Twice", absl::StrCat(Unknown(), Piece("a", 0), Piece("a", 1)), kInvalid,
                "pieces[2] is \"a\", which is there already"},
        BadFile{"EmptyPiece", Piece("", 0), kInvalid, "pieces[0] has 0 bytes; it must have 1 to"},
        BadFile{"LongPiece", Piece(std::string(1025, 'a'), 0), kInvalid,
                "pieces[0] has 1025 bytes"},
        BadFile{"NotUtf8", Piece("\xff", 0), kInvalid, "pieces[0] is not UTF-8"},
        BadFile{"Nan", Piece("a", std::numeric_limits<float>::quiet_NaN()), kInvalid,
                "pieces[0].score is not a finite number"},
        BadFile{"Kind", Piece("a", 0, static_cast<Kind>(7)), kInvalid, "pieces[0].type is 7"},
        BadFile{"Word", absl::StrCat(Unknown(), Trainer(3)), kUnimplemented,
                "trainer_spec.model_type 3"},
        BadFile{"ByteWithoutFallback", absl::StrCat(Unknown(), Piece("<0x00>", 0, Kind::kByte)),
                kInvalid, "byte_fallback is not set"},
        BadFile{"SomeBytes",
                absl::StrCat(Unknown(), Piece("<0x00>", 0, Kind::kByte),
                             Trainer(kBytePair, Field(35, 1))),
                kInvalid, "1 of the 256 byte pieces"},
        BadFile{"NoByte",
                absl::StrCat(Unknown(), Piece("<0xGG>", 0, Kind::kByte),
                             Trainer(kBytePair, Field(35, 1))),
                kInvalid, "names no byte"},
        BadFile{"LyingLength", absl::StrCat(Varint(1 << 3 | 2), Varint(1000), "abc"), kInvalid,
                "field 1 at byte 0 has 1000 bytes; 3 are left"},
        BadFile{"HugeLength", absl::StrCat(Varint(1 << 3 | 2), Varint(~uint64_t{0}), "abc"),
                kInvalid, "has 18446744073709551615 bytes; 3 are left"},
        BadFile{"EndlessNumber", std::string(20, '\xff'), kInvalid,
                "is cut off, or no SentencePiece"},
        BadFile{"Group", "\x0b", kInvalid, "byte 0 starts no field"},
        BadFile{"Json", "{\"model\": 1}", kInvalid, "starts no field"},
        BadFile{"CharsmapTooShort", Field(3, Field(2, "abc")), kInvalid,
                "precompiled_charsmap is shorter than its header"},
        BadFile{"CharsmapLies", Field(3, Field(2, absl::string_view("\xff\0\0\0ab", 6))), kInvalid,
                "precompiled_charsmap has a trie of 255 bytes in 6 bytes"},
        BadFile{"Denormalizer", Field(5, Field(2, "abc")), kUnimplemented, "denormalizer_spec"}),
    [](const auto& info) { return std::string(info.param.name); });

// Whatever is left of a file is refused, or works.
TEST(SentencePiecesTest, EveryPrefixOfAFileIsHandled) {
  const std::string file = absl::StrCat(Hello(), Field(3, Field(3, 1)), Field(4, "tests"));
  int num_refused = 0;
  for (size_t size = 0; size < file.size(); ++size) {
    const auto tokenizer = Create(file.substr(0, size));
    if (!tokenizer.ok()) {
      EXPECT_EQ(tokenizer.status().code(), kInvalid) << size;
      ++num_refused;
    } else {
      EXPECT_OK((*tokenizer)->Encode("he llo", false)) << size;
    }
  }
  EXPECT_GT(num_refused, static_cast<int>(file.size()) / 2);
}

// Each unit of the double array points somewhere at random: no text may lead beyond its end.
TEST(SentencePiecesTest, NormalizationRulesMayBeNonsense) {
  uint32_t state = 1;
  for (int i = 0; i < 300; ++i) {
    std::string charsmap = std::string("\x00\x01\x00\x00", 4);
    for (int byte = 0; byte < 256; ++byte) {
      state = state * 1664525u + 1013904223u;
      charsmap.push_back(static_cast<char>(state >> 24));
    }
    charsmap += std::string("a\0\u00e9\u00e9\0 \0", 9);
    const auto tokenizer = Create(absl::StrCat(Hello(), Field(3, Field(2, charsmap))));
    ASSERT_OK(tokenizer);
    const std::string text = "he\u65e5\u672c \u00e9\u00e9 \U0001f44d llo\x01\x7f";
    const auto encoding = (*tokenizer)->Encode(text, false);
    if (!encoding.ok()) continue;
    for (const TextRange& range : encoding->offsets)
      EXPECT_LE(range.end, static_cast<int64_t>(text.size()));
  }
}

}  // namespace
}  // namespace attendant::engine
