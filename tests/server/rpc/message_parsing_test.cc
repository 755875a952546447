#include "server/rpc/message_parsing.h"

#include <random>
#include <string>

#include "attendant/v1/encode.pb.h"
#include "attendant/v1/generate.pb.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/rpc/utf8.h"
#include "server/status/status_details.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using attendant::testing::IsOk;
using attendant::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::StartsWith;

grpc::ByteBuffer BufferOf(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

TEST(MessageParsingTest, WhatIsSerializedParses) {
  v1::EncodeRequest request;
  for (int i = 0; i < 3; ++i) request.add_inputs()->set_text(std::string(700'000, 'a' + i));
  const grpc::ByteBuffer buffer = SerializeMessage(request);
  v1::EncodeRequest parsed;
  ASSERT_OK(ParseMessage(buffer, parsed));
  EXPECT_EQ(parsed.SerializeAsString(), request.SerializeAsString());
  v1::EncodeRequest empty;
  EXPECT_OK(ParseMessage(SerializeMessage(v1::EncodeRequest()), empty));
}

TEST(MessageParsingTest, InvalidUtf8NamesTheFieldAndTheByte) {
  v1::EncodeRequest request;
  request.set_model("m");
  request.add_inputs()->set_text("good");
  request.add_inputs()->mutable_pair()->set_text_pair("ab\xff");
  v1::EncodeRequest parsed;
  EXPECT_THAT(ParseMessage(BufferOf(request.SerializeAsString()), parsed),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "inputs[1].pair.text_pair is not UTF-8: byte 2 of 3 is 0xff"));
}

TEST(MessageParsingTest, InvalidUtf8InALaterSliceIsFound) {
  v1::GenerateRequest request;
  request.mutable_stopping()->add_stop("x");
  request.mutable_stopping()->add_stop("\xc0\xaf");
  const std::string bytes = request.SerializeAsString();
  const grpc::Slice slices[] = {grpc::Slice(bytes.substr(0, 3)), grpc::Slice(bytes.substr(3))};
  v1::GenerateRequest parsed;
  EXPECT_THAT(
      ParseMessage(grpc::ByteBuffer(slices, 2), parsed),
      StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("stopping.stop[1] is not UTF-8")));
}

TEST(MessageParsingTest, OtherBytesAreMalformed) {
  v1::EncodeRequest parsed;
  for (const std::string& bytes : {std::string("\x0a\x7f"), std::string("\xff\xff\xff\xff\xff\xff"),
                                   std::string("\x07"), std::string(1, '\0')}) {
    const absl::Status status = ParseMessage(BufferOf(bytes), parsed);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("attendant.v1.EncodeRequest")));
    EXPECT_EQ(ErrorReason(status), reason::kMalformedMessage);
  }
}

TEST(MessageParsingTest, AnIdBeforeTheFaultIsKept) {
  v1::EncodeStreamRequest request;
  request.set_id(77);
  request.mutable_request()->add_inputs()->set_text("\xff");
  v1::EncodeStreamRequest parsed;
  EXPECT_THAT(ParseMessage(BufferOf(request.SerializeAsString()), parsed),
              StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("request.inputs[0].text")));
  EXPECT_EQ(parsed.id(), 77);
}

TEST(MessageParsingTest, RandomBytesNeverCrash) {
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 64, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 4 == 0 ? random() : random() % 32);
    v1::GenerateRequest parsed;
    const absl::Status status = ParseMessage(BufferOf(bytes), parsed);
    EXPECT_THAT(status, ::testing::AnyOf(IsOk(), StatusIs(absl::StatusCode::kInvalidArgument)));
  }
}

TEST(Utf8Test, AcceptsExactlyUtf8) {
  const auto valid = [](absl::string_view text) { return ValidUtf8Prefix(text) == text.size(); };
  for (const absl::string_view text :
       {"", "ascii, longer than eight", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf",
        "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "eight by\xe2\x82\xac"}) {
    EXPECT_TRUE(valid(text)) << text;
  }
  for (const absl::string_view text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "12345678\xff"}) {
    EXPECT_FALSE(valid(text));
  }
}

TEST(Utf8Test, ReplacesWhatIsNot) {
  EXPECT_EQ(ToValidUtf8("plain"), "plain");
  EXPECT_EQ(ToValidUtf8("a\xff"
                        "b\xe2\x82\xac\xe2\x82"),
            "a\xef\xbf\xbd"
            "b\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd");
}

}  // namespace
}  // namespace attendant::server
