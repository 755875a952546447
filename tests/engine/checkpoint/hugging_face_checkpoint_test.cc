#include "engine/checkpoint/hugging_face_checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::IsOk;
using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Optional;

// A safetensors file of f32 vectors.
std::string Safetensors(const std::vector<std::pair<std::string, std::vector<float>>>& tensors) {
  std::string header = "{";
  std::string data;
  for (const auto& [name, values] : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values.data()), 4 * values.size());
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name,
                    "\":{\"dtype\":\"F32\",\"shape\":[", values.size(), "],\"data_offsets\":[",
                    begin, ",", data.size(), "]}");
  }
  header += '}';
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

class HuggingFaceCheckpointTest : public ::testing::Test {
 protected:
  HuggingFaceCheckpointTest() {
    std::string pattern = ::testing::TempDir() + "/checkpoint_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~HuggingFaceCheckpointTest() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& contents) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << contents;
  }
  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() { return Checkpoint::Open(folder_); }

  // The status of a folder whose index is `json`, beside the shards a (tensors x, y) and b (tensor
  // z).
  absl::Status StatusOfIndex(const std::string& json) {
    Write("config.json", "{}");
    Write("a.safetensors", Safetensors({{"x", {1}}, {"y", {2, 3}}}));
    Write("b.safetensors", Safetensors({{"z", {4}}}));
    Write("model.safetensors.index.json", json);
    return Open().status();
  }

  fs::path folder_;
};

TEST_F(HuggingFaceCheckpointTest, ReadsOneFile) {
  Write("config.json", R"({"model_type": "bert"})");
  Write("model.safetensors", Safetensors({{"b", {1, 2}}, {"a", {3}}}));
  Write("1_Pooling/config.json", "pooling");
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open());
  EXPECT_EQ(checkpoint->path(), folder_);
  EXPECT_EQ(checkpoint->config_json(), R"({"model_type": "bert"})");
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a", "b"));
  EXPECT_THAT(checkpoint->TensorShape("b"), Optional(ElementsAre(2)));
  EXPECT_EQ(checkpoint->TensorShape("c"), std::nullopt);
  EXPECT_EQ(checkpoint->TensorFormat("b"), "F32");
  EXPECT_EQ(checkpoint->TensorFormat("c"), "");
  EXPECT_EQ(checkpoint->size_bytes(), fs::file_size(folder_ / "model.safetensors"));
  std::vector<float> values(2);
  ASSERT_OK(checkpoint->ReadTensor("b", {2}, absl::MakeSpan(values)));
  EXPECT_THAT(values, ElementsAre(1, 2));
  checkpoint->Release("b");
  checkpoint->Release("c");
  ASSERT_OK(checkpoint->ReadTensor("b", {2}, absl::MakeSpan(values)));
  EXPECT_THAT(values, ElementsAre(1, 2));
  EXPECT_THAT(checkpoint->ReadTensor("c", {2}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("model.safetensors"), HasSubstr("no tensor c"))));
  EXPECT_THAT(checkpoint->ReadTensor("b", {1, 2}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor b has the shape [2]; expected [1, 2]")));

  EXPECT_THAT(checkpoint->ReadFile("1_Pooling/config.json").value(),
              Optional(std::string("pooling")));
  EXPECT_EQ(checkpoint->ReadFile("absent.json").value(), std::nullopt);
}

TEST_F(HuggingFaceCheckpointTest, ReadsNoFileOutsideTheFolder) {
  Write("config.json", "{}");
  Write("model.safetensors", Safetensors({{"a", {3}}}));
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open());
  for (const std::string name : {"", "/etc/passwd", "..", "../x", "a/../../x", "a/.."}) {
    EXPECT_THAT(checkpoint->ReadFile(name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
  EXPECT_THAT(checkpoint->ReadFile(std::string("config.json\0x", 13)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(HuggingFaceCheckpointTest, RefusesFilesTooLargeAndFilesThatAreNone) {
  Write("config.json", "{}");
  Write("model.safetensors", Safetensors({{"a", {3}}}));
  Write("huge.json", "x");
  fs::resize_file(folder_ / "huge.json", (256 << 20) + 1);  // sparse
  fs::create_directory(folder_ / "directory.json");
  ASSERT_EQ(mkfifo((folder_ / "fifo.json").c_str(), 0600), 0);
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open());
  EXPECT_THAT(checkpoint->ReadFile("huge.json"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("268435457 bytes"), HasSubstr("at most 268435456"))));
  EXPECT_THAT(checkpoint->ReadFile("directory.json"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
  EXPECT_THAT(checkpoint->ReadFile("fifo.json"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
}

TEST_F(HuggingFaceCheckpointTest, ReadsShardsThroughTheirIndex) {
  ASSERT_OK(StatusOfIndex(
      R"({"metadata":{"total_size":16},"weight_map":{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"}})"));
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open());
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("x", "y", "z"));
  std::vector<float> values(2);
  ASSERT_OK(checkpoint->ReadTensor("y", {2}, absl::MakeSpan(values)));
  EXPECT_THAT(values, ElementsAre(2, 3));
  ASSERT_OK(checkpoint->ReadTensor("z", {1}, absl::MakeSpan(values.data(), 1)));
  EXPECT_EQ(values[0], 4);
}

TEST_F(HuggingFaceCheckpointTest, RefusesAnIndexThatLies) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "malformed JSON"},
      {"{", "malformed JSON"},
      {"[]", "\"weight_map\" is missing"},
      {R"({"weight_map":[]})", "\"weight_map\" is missing, or not an object"},
      {R"({"weight_map":{"x":1}})", "the shard of tensor x is not a string"},
      {R"({"weight_map":{"x":"../a.safetensors"}})", "not the name of a file inside"},
      {R"({"weight_map":{"x":"/a.safetensors"}})", "not the name of a file inside"},
      {R"({"weight_map":{"x":""}})", "not the name of a file inside"},
      {R"({"weight_map":{"x":"a.safetensors\u0000"}})", "not the name of a file inside"},
      {R"({"weight_map":{"z":"a.safetensors"}})", "tensor z is said to be in a.safetensors"},
      {R"({"weight_map":{"x":"a.safetensors","x":"a.safetensors"}})", "tensor x is given twice"},
      {R"({"weight_map":{"x":"a.safetensors"}})", "tensor y is in"},
      {R"({"weight_map":{"x":"config.json"}})", "malformed safetensors header"},
      {R"({"weight_map":{"x":"."}})", "not a regular file"},
  };
  for (const auto& [json, message] : cases) {
    EXPECT_THAT(StatusOfIndex(json),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(folder_.string()), HasSubstr(message))))
        << json;
  }
  EXPECT_THAT(StatusOfIndex(R"({"weight_map":{"x":"c.safetensors"}})"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("c.safetensors")));
}

TEST_F(HuggingFaceCheckpointTest, SaysWhatIsMissing) {
  EXPECT_THAT(Checkpoint::Open(folder_ / "absent"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent does not exist")));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound,
                               HasSubstr("has neither model.safetensors nor")));
  Write("some.Q8_0.gguf", "");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("/some.Q8_0.gguf")));
  EXPECT_THAT(Checkpoint::Open(folder_ / "some.Q8_0.gguf"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
  Write("model.safetensors", "");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
  Write("model.safetensors", Safetensors({{"a", {3}}}));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no config.json")));
  EXPECT_THAT(
      Checkpoint::Open(folder_ / "model.safetensors"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("neither a folder nor a GGUF file")));
}

TEST_F(HuggingFaceCheckpointTest, SaysHowToConvertAPickle) {
  Write("config.json", "{}");
  for (const std::string name : {"pytorch_model.bin", "pytorch_model-00001-of-00002.bin"}) {
    Write(name, "pickle");
    EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnimplemented,
                                 AllOf(HasSubstr(name), HasSubstr("weights_only=True"),
                                       HasSubstr("python3 -c \"import"),
                                       EndsWith(absl::StrCat(" '", folder_.string(), "'")))));
    fs::remove(folder_ / name);
  }
}

}  // namespace
}  // namespace attendant::engine
