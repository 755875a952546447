// The models that the repository carries, held to the accuracies that their READMEs state.

#include <png.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "engine/engine.h"
#include "engine/image/decode_image.h"
#include "gtest/gtest.h"
#include "tests/engine/fakes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::TestDataPath;

class BundledModelTest : public ::testing::TestWithParam<DataType> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(engine_, Engine::Create({})); }

  void Load(const std::string& folder) {
    ASSERT_OK(engine_->LoadModel({.name = "m", .path = Path(folder), .dtype = GetParam()}));
  }

  static std::string Path(const std::string& name) {
    return TestDataPath(absl::StrCat("../deploy/models/", name)).string();
  }

  // The lines of a file, each its fields.
  static std::vector<std::vector<std::string>> Table(const std::string& name) {
    std::ifstream file(Path(name));
    std::vector<std::vector<std::string>> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(absl::StrSplit(line, '\t'));
    return lines;
  }

  template <typename Result, typename Request>
  Result Run(void (Engine::*method)(Request, absl::AnyInvocable<void(absl::StatusOr<Result>) &&>),
             Request request) {
    absl::StatusOr<Result> answer;
    absl::Notification done;
    request.model = "m";
    (engine_.get()->*method)(std::move(request), [&](absl::StatusOr<Result> result) {
      answer = std::move(result);
      done.Notify();
    });
    done.WaitForNotification();
    CHECK_OK(answer.status());
    return *std::move(answer);
  }

  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(DataTypes, BundledModelTest,
                         ::testing::Values(DataType::kFloat32, DataType::kBFloat16, DataType::kInt8,
                                           DataType::kInt4),
                         [](const auto& info) { return std::string(DataTypeName(info.param)); });

// 2,000 wordings of days that training never saw, all of them at once.
TEST_P(BundledModelTest, WritesDatesAsIso8601) {
  Load("iso-dates");
  std::vector<std::pair<std::string, std::shared_ptr<RecordingSink>>> answers;
  for (const std::vector<std::string>& line : Table("iso-dates/held_out.tsv")) {
    GenerateRequest request;
    request.model = "m";
    request.prompt = line[0];
    auto sink = std::make_shared<RecordingSink>();
    engine_->Generate(std::move(request), sink);
    answers.emplace_back(line[1], std::move(sink));
  }
  ASSERT_EQ(answers.size(), 2000);

  int num_right = 0;
  for (const auto& [expected, sink] : answers) {
    ASSERT_OK(sink->Wait());
    num_right += sink->text() == expected ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 1980) << "99 %";
}

// Gaps that the rest of the story fills, in stories of facts that training never saw; so below.
TEST_P(BundledModelTest, FillsTheGapsOfStories) {
  Load("stories/reader");
  const auto lines = Table("stories/held_out_gaps.tsv");
  ASSERT_EQ(lines.size(), 500);
  FillMaskRequest request;
  for (const auto& line : lines) request.inputs.emplace_back(line[0]);
  const FillMaskResult result = Run(&Engine::FillMask, std::move(request));
  int num_right = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    ASSERT_OK(result.inputs[i].status);
    num_right += result.inputs[i].masks[0].candidates[0].token == lines[i][1] ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 490) << "98 %";
}

TEST_P(BundledModelTest, AnswersQuestionsAboutStories) {
  Load("stories/reader");
  const auto lines = Table("stories/held_out_questions.tsv");
  ASSERT_EQ(lines.size(), 500);
  AnswerRequest request;
  request.allow_no_answer = true;
  for (const auto& line : lines) request.inputs.push_back({line[0], line[1]});
  const AnswerResult result = Run(&Engine::Answer, std::move(request));
  int num_right = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    ASSERT_OK(result.inputs[i].status);
    num_right += result.inputs[i].answers[0].text == lines[i][2] ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 475) << "95 %";
}

TEST_P(BundledModelTest, LabelsWhatIsWhatInStories) {
  Load("stories/reader");
  const auto lines = Table("stories/held_out_labels.tsv");
  ASSERT_EQ(lines.size(), 500);
  ClassifyRequest request;
  request.aggregation = TokenAggregation::kEntity;
  for (const auto& line : lines) request.inputs.emplace_back(line[0]);
  const ClassifyResult result = Run(&Engine::Classify, std::move(request));
  int num_right = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    ASSERT_OK(result.inputs[i].status);
    std::vector<std::string> found = {lines[i][0]};
    for (const LabeledSpan& span : result.inputs[i].spans)
      found.push_back(absl::StrCat(span.labels[0].label, ":", span.text));
    num_right += found == lines[i] ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 490) << "98 %";
}

// Of six sentences one answers the question, and the others nearly do.
TEST_P(BundledModelTest, RanksTheSentenceThatAnswersFirst) {
  Load("stories/ranker");
  const auto lines = Table("stories/held_out_ranks.tsv");
  ASSERT_EQ(lines.size(), 500);
  int num_right = 0;
  for (const auto& line : lines) {
    ASSERT_EQ(line.size(), 7);
    RankRequest request;
    request.query = line[0];
    request.documents.assign(line.begin() + 1, line.end());
    request.top_n = 1;
    num_right += Run(&Engine::Rank, std::move(request)).documents[0].index == 0 ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 475) << "95 %";
}

// The part of `image` of `side` pixels from (`left`, `top`) on, as a PNG file.
std::string PngOfPart(Image& image, int32_t left, int32_t top, int32_t side) {
  png_image header = {};
  header.version = PNG_IMAGE_VERSION;
  header.width = side;
  header.height = side;
  header.format = PNG_FORMAT_RGB;
  const uint8_t* pixels = image.row(top) + int64_t{left} * Image::kChannels;
  const png_int_32 stride = image.size.width * Image::kChannels;
  png_alloc_size_t size = 0;
  CHECK(png_image_write_to_memory(&header, nullptr, &size, 0, pixels, stride, nullptr));
  std::string file(size, '\0');
  CHECK(png_image_write_to_memory(&header, file.data(), &size, 0, pixels, stride, nullptr));
  file.resize(size);
  return file;
}

// The sheet has a row of drawings for each draw, and a column for each label.
TEST_P(BundledModelTest, TellsShapesAndColorsApart) {
  Load("shapes");
  constexpr int32_t kSide = 48, kRows = 25;
  ASSERT_OK_AND_ASSIGN(Image sheet,
                       DecodeImage(ReadFileOrDie(Path("shapes/held_out.jpg")), int64_t{1} << 24));
  const std::vector<std::string> labels = engine_->ListModels()[0].labels;
  const auto num_labels = static_cast<int32_t>(labels.size());
  ASSERT_EQ(sheet.size, (ImageSize{kRows * kSide, num_labels * kSide}));
  ClassifyRequest request;
  request.top_k = 1;
  for (int32_t row = 0; row < kRows; ++row) {
    for (int32_t column = 0; column < num_labels; ++column) {
      request.inputs.emplace_back(ImageFile{PngOfPart(sheet, column * kSide, row * kSide, kSide)});
    }
  }
  const ClassifyResult result = Run(&Engine::Classify, std::move(request));
  int num_right = 0;
  for (int32_t i = 0; i < kRows * num_labels; ++i) {
    ASSERT_OK(result.inputs[i].status);
    num_right += result.inputs[i].labels[0].label == labels[i % num_labels] ? 1 : 0;
  }
  RecordProperty("right", num_right);
  EXPECT_GE(num_right, 388) << "97 % of 400";
}

}  // namespace
}  // namespace attendant::engine
