#include "server/status/status_details.h"

#include <string>

#include "engine/base/field_error.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/rpc/status_conversion.h"
#include "server/rpc/utf8.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename Detail>
Detail DetailOf(const google::rpc::Status& status) {
  Detail detail;
  for (const auto& any : status.details()) {
    if (any.Is<Detail>()) any.UnpackTo(&detail);
  }
  return detail;
}

TEST(StatusDetailsTest, AFieldErrorNamesItsPath) {
  const google::rpc::Status status = ToRpcStatus(InvalidField("inputs[3].text", "is empty"));
  EXPECT_EQ(status.code(), 3);
  EXPECT_EQ(status.message(), "inputs[3].text is empty");
  const auto bad_request = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_EQ(bad_request.field_violations_size(), 1);
  EXPECT_EQ(bad_request.field_violations(0).field(), "inputs[3].text");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).domain(), "attendant");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "INVALID_FIELD");
}

TEST(StatusDetailsTest, AFieldOfTheEngineBecomesABadRequest) {
  const google::rpc::Status status =
      ToRpcStatus(engine::FieldError("tensors.key", "has 7 heads; query has 12"));
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(status).field_violations(0).field(), "tensors.key");
  for (const auto& any : status.details())
    EXPECT_THAT(any.type_url(), StartsWith("type.googleapis.com/google.rpc."));
}

TEST(StatusDetailsTest, AnErrorOfAMessageWithinAnotherGetsItsPath) {
  const absl::Status inner = engine::FieldError("dimensions", "is 9; this model's vectors have 8");
  const absl::Status outer = WithFieldPrefix(inner, "request.");
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(ToRpcStatus(outer)).field_violations(0).field(),
            "request.dimensions");
  EXPECT_THAT(std::string(outer.message()), StartsWith("request.dimensions"));
  EXPECT_EQ(WithFieldPrefix(absl::NotFoundError("x"), "request."), absl::NotFoundError("x"));
}

TEST(StatusDetailsTest, AGivenFieldIsNotReplaced) {
  const absl::Status status = WithField(InvalidField("a", "is bad"), "b");
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(ToRpcStatus(status)).field_violations(0).field(),
            "a");
}

TEST(StatusDetailsTest, RetryDelayIsExact) {
  const absl::Status status = ErrorWithReason(
      absl::StatusCode::kResourceExhausted, reason::kTokensFull, "full", absl::Milliseconds(1250));
  const auto retry = DetailOf<google::rpc::RetryInfo>(ToRpcStatus(status));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 250'000'000);
  EXPECT_EQ(RetryDelay(status), absl::Milliseconds(1250));
}

TEST(StatusDetailsTest, LongMessagesAreCutAtACharacter) {
  std::string name;
  while (name.size() < 5000) name += "\xe2\x82\xac";  // three bytes each
  const absl::Status status = WithResource(InvalidField(name, name), "model", name);
  const google::rpc::Status message = ToRpcStatus(status);
  EXPECT_LT(message.message().size(), 800);
  EXPECT_EQ(ValidUtf8Prefix(message.message()), message.message().size());
  EXPECT_LT(message.ByteSizeLong(), 3000) << "the trailers have to stay below 8 KiB";
  const auto resource = DetailOf<google::rpc::ResourceInfo>(message);
  EXPECT_EQ(ValidUtf8Prefix(resource.resource_name()), resource.resource_name().size());
}

TEST(StatusConversionTest, CodesAgreeAndDetailsTravel) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  const grpc::Status status = ToGrpcStatus(NotImplemented("Rank"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("Rank is not implemented"));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), 12);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(details).reason(), "NOT_IMPLEMENTED");
}

}  // namespace
}  // namespace attendant::server
