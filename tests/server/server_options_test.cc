#include "server/server_options.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

ServerOptions Good() {
  ServerOptions options;
  options.models = {{.name = "a", .path = "/models/a"}};
  return options;
}

TEST(ServerOptionsTest, DefaultsWithAModelAreValid) { EXPECT_OK(Validate(Good())); }

TEST(ServerOptionsTest, EachFaultNamesFlagValueAndLimit) {
  struct Case {
    const char* message;
    std::function<void(ServerOptions&)> change;
  };
  const std::vector<Case> cases = {
      {"--model is not set", [](auto& o) { o.models.clear(); }},
      {"--model has the name a twice", [](auto& o) { o.models.push_back(o.models[0]); }},
      {"--default_model is b, which no --model has as its name: a",
       [](auto& o) { o.default_model = "b"; }},
      {"--listen is 0.0.0.0:1, which other machines can reach",
       [](auto& o) { o.listen = "0.0.0.0:1"; }},
      {"--listen is \"localhost\"; must be HOST:PORT", [](auto& o) { o.listen = "localhost"; }},
      {"--listen is \"::1:50051\"; an IPv6 host is in brackets",
       [](auto& o) { o.listen = "::1:50051"; }},
      {"--metrics_listen is [::]:9090, which other machines",
       [](auto& o) { o.metrics_listen = "[::]:9090"; }},
      {"--threads is -1; must be in [0, 1024]", [](auto& o) { o.engine.num_threads = -1; }},
      {"--max_batch_tokens is 0; must be in [16, 1048576]",
       [](auto& o) { o.engine.max_batch_tokens = 0; }},
      {"--kv_cache_bytes is 0", [](auto& o) { o.engine.kv_cache_bytes = 0; }},
      {"--max_requests is 0; must be at least 1", [](auto& o) { o.max_requests = 0; }},
      {"--max_request_bytes is 3GiB", [](auto& o) { o.max_request_bytes = int64_t{3} << 30; }},
      {"--memory_quota_bytes is 1MiB; must be in [64MiB",
       [](auto& o) { o.memory_quota_bytes = 1 << 20; }},
      {"--drain_timeout is -1s", [](auto& o) { o.drain_timeout = absl::Seconds(-1); }},
      {"--drain_settle is inf", [](auto& o) { o.drain_settle = absl::InfiniteDuration(); }},
  };
  for (const Case& bad : cases) {
    ServerOptions options = Good();
    bad.change(options);
    EXPECT_THAT(Validate(options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
  }
}

TEST(ServerOptionsTest, AllFaultsAreToldAtOnce) {
  ServerOptions options;
  options.max_requests = 0;
  options.listen = "nonsense";
  EXPECT_THAT(Validate(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                          AllOf(HasSubstr("--model "), HasSubstr("--max_requests "),
                                                HasSubstr("--listen "))));
}

TEST(ServerOptionsTest, OtherMachinesNeedAFlagThatSaysSo) {
  ServerOptions options = Good();
  options.listen = "0.0.0.0:50051";
  options.allow_insecure_bind = true;
  EXPECT_OK(Validate(options));
  for (const absl::string_view host : {"localhost", "127.0.0.1", "127.1.2.3", "[::1]"})
    EXPECT_TRUE(IsLoopback(host));
  for (const absl::string_view host :
       {"0.0.0.0", "[::]", "10.0.0.1", "127.evil.example", "example.com", ""}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(ModelSourceTest, NamesPathsAndOptions) {
  ASSERT_OK_AND_ASSIGN(engine::ModelSource source,
                       ParseModelSource("mini=/m/x,dtype=bf16,max_tokens=64"));
  EXPECT_EQ(source.name, "mini");
  EXPECT_EQ(source.path, "/m/x");
  EXPECT_EQ(source.dtype, engine::DataType::kBFloat16);
  EXPECT_EQ(source.max_tokens, 64);
  for (const auto& [text, dtype] : {std::pair("a=/x,dtype=f32", engine::DataType::kFloat32),
                                    std::pair("a=/x,dtype=int8", engine::DataType::kInt8),
                                    std::pair("a=/x,dtype=int4", engine::DataType::kInt4)}) {
    ASSERT_OK_AND_ASSIGN(source, ParseModelSource(text));
    EXPECT_EQ(source.dtype, dtype);
  }

  ASSERT_OK_AND_ASSIGN(source, ParseModelSource("/models/all-MiniLM-L6-v2/"));
  EXPECT_EQ(source.name, "all-MiniLM-L6-v2");
  EXPECT_FALSE(source.dtype.has_value());
  ASSERT_OK_AND_ASSIGN(source, ParseModelSource("model.q4.gguf"));
  EXPECT_EQ(source.name, "model.q4");
  EXPECT_EQ(source.path, "model.q4.gguf");
  ASSERT_OK_AND_ASSIGN(source, ParseModelSource("/odd=path/m"));
  EXPECT_EQ(source.name, "m");
  ASSERT_OK_AND_ASSIGN(source, ParseModelSource("org/name=/m"));
  EXPECT_EQ(source.name, "org/name");
}

TEST(ModelSourceTest, BadOnesAreExplained) {
  EXPECT_THAT(ParseModelSource("a="),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has no path")));
  EXPECT_THAT(ParseModelSource("a b=/x"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a b")));
  EXPECT_THAT(ParseModelSource("/"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the name")));
  for (const char* text :
       {"a=/x,dtype=int3", "a=/x,max_tokens=0", "a=/x,max_tokens=", "a=/x,wat"}) {
    EXPECT_THAT(ParseModelSource(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not dtype=f32")));
  }
}

TEST(PackedCacheTest, IsOffBesideTheModelOrAFolder) {
  EXPECT_EQ(ParsePackedCache("off").value(), std::nullopt);
  EXPECT_EQ(ParsePackedCache("beside").value(), "");
  EXPECT_EQ(ParsePackedCache("/var/cache/attendant").value(), "/var/cache/attendant");
  EXPECT_EQ(ParsePackedCache("./cache").value(), "./cache");
  for (const char* text : {"", "besides", "true", "."}) {
    EXPECT_THAT(ParsePackedCache(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                                 HasSubstr("expected off, beside, or a folder")));
  }
}

TEST(BytesTest, UnitsAndFractions) {
  EXPECT_THAT(ParseBytes("65536").value(), 65536);
  EXPECT_THAT(ParseBytes("512MiB").value(), int64_t{512} << 20);
  EXPECT_THAT(ParseBytes("1.5GiB").value(), int64_t{3} << 29);
  for (const char* text : {"", "MiB", "-1", "1MB", "1.5", "nan", "inf", "1e30GiB", "0.3KiB"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
  for (const int64_t bytes :
       {int64_t{0}, int64_t{1000}, int64_t{1} << 10, int64_t{3} << 29, int64_t{1} << 40}) {
    EXPECT_EQ(ParseBytes(FormatBytes(bytes)).value(), bytes);
  }
}

}  // namespace
}  // namespace attendant::server
