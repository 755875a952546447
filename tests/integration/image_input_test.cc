// Images over the wire: of every kind that is read, and hostile ones.

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/serving_fixture.h"
#include "tests/support/memory.h"
#include "tests/support/test_data.h"

namespace attendant::server {
namespace {

using ::attendant::testing::kMemoryIsMeasured;
using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::TestDataPath;
using grpc::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string File(const std::string& name) {
  return ReadFileOrDie(TestDataPath("goldens/images/files") / name);
}

// A PNG that says it is 50,000 x 50,000, and has a megabyte of data.
std::string Bomb() {
  std::string png = File("rgb_8.png");
  const std::string header("\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0\xc4\xcd\xaa\x9d", 17);
  png.replace(16, header.size(), header);
  return png.append(1 << 20, '\0');
}

class ImageServingTest : public ServingTest {
 protected:
  ImageServingTest() {
    options_.default_model = "bert";
    for (const std::string name : {"vit/classifier", "deit/with_teacher"}) {
      options_.models.push_back({.name = name.substr(0, name.find('/')),
                                 .path = TestDataPath(absl::StrCat("goldens/", name)),
                                 .dtype = engine::DataType::kFloat32});
    }
  }

  // `files` for the model "vit".
  static v1::EncodeRequest Images(const std::vector<std::string>& files) {
    v1::EncodeRequest request;
    request.set_model("vit");
    for (const std::string& file : files) request.add_inputs()->set_image(file);
    return request;
  }

  std::string VectorOf(const std::string& file) {
    v1::EncodeResponse response;
    const grpc::Status status = Encode(Images({file}), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.embeddings().data();
  }
};

TEST_F(ImageServingTest, EncodesEveryKindOfFile) {
  Start();
  for (const char* name :
       {"grey_1.png", "grey_16.png", "grey_alpha_8.png", "rgba_8.png", "palette_4.png",
        "rgb_8_interlaced.png", "jpeg_grey.jpg", "jpeg_progressive.jpg", "jpeg_cmyk.jpg",
        "jpeg_ycck.jpg", "jpeg_exif_6.jpg", "one_pixel.png"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(VectorOf(File(name)).size(), 36 * sizeof(float));
  }
}

// One answer for many images is the one for each, and usage counts their patches.
TEST_F(ImageServingTest, ManyImagesAreEachAsAlone) {
  Start();
  const std::vector<std::string> files = {File("landscape.png"), File("portrait.png"),
                                          File("jpeg_420.jpg")};
  v1::EncodeResponse response;
  ASSERT_TRUE(Encode(Images(files), &response).ok());
  ASSERT_EQ(response.inputs_size(), 3);
  EXPECT_EQ(response.usage().input_tokens(), 3 * 10);  // 3 x 3 patches and [CLS]
  std::string alone;
  for (const std::string& file : files) alone += VectorOf(file);
  ASSERT_EQ(response.embeddings().data().size(), alone.size());
  for (size_t i = 0; i < alone.size(); i += sizeof(float)) {
    float together, by_itself;
    std::memcpy(&together, response.embeddings().data().data() + i, sizeof(float));
    std::memcpy(&by_itself, alone.data() + i, sizeof(float));
    EXPECT_NEAR(together, by_itself, 1e-5);
  }
}

TEST_F(ImageServingTest, RotatesAsExifSays) {
  Start();
  const std::string rotated = VectorOf(File("jpeg_exif_6.jpg"));
  std::string upright = File("jpeg_exif_6.jpg");
  const size_t exif = upright.find("Exif");
  upright.replace(exif, 4, "None");
  EXPECT_NE(VectorOf(upright), rotated);
}

TEST_F(ImageServingTest, ABadImageFailsAlone) {
  Start();
  const std::string png = File("rgb_8.png");
  std::string damaged = png;
  damaged[damaged.find("IDAT") + 8] ^= 0x55;
  const struct {
    std::string file;
    const char* message;
  } kCases[] = {
      {png.substr(0, png.size() / 2), "the PNG file is cut off"},
      {File("jpeg_420.jpg").substr(0, 700), "the JPEG file is cut off"},
      {damaged, "the PNG file is damaged"},
      {Bomb(), "50000 x 50000 pixels; this server allows 67108864 (--max_image_pixels)"},
      {std::string("GIF89a\1\0\1\0", 10), "is a GIF file; PNG and JPEG are read"},
      {std::string("RIFF\x10\0\0\0WEBPVP8 ", 16), "is a WebP file; PNG and JPEG are read"},
      {"hello", "neither a PNG nor a JPEG"},
      {"", "empty"},
  };
  std::vector<std::string> files = {png};
  for (const auto& [file, message] : kCases) files.push_back(file);
  v1::EncodeRequest request = Images(files);
  request.add_inputs()->set_text("no image");
  request.add_inputs()->mutable_tokens()->add_ids(0);
  v1::EncodeResponse response;
  const grpc::Status status = Encode(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.inputs(0).status().code(), 0);
  EXPECT_EQ(response.embeddings().shape(0), 1);
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const auto& bad = response.inputs(static_cast<int>(i) + 1).status();
    EXPECT_EQ(bad.code(), StatusCode::INVALID_ARGUMENT) << kCases[i].message;
    EXPECT_THAT(bad.message(), AllOf(HasSubstr(absl::StrCat("inputs[", i + 1, "]")),
                                     HasSubstr(kCases[i].message)));
  }
  for (int i = response.inputs_size() - 2; i < response.inputs_size(); ++i) {
    EXPECT_EQ(response.inputs(i).status().code(), StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_THAT(response.inputs(response.inputs_size() - 2).status().message(),
              HasSubstr("is not an image, which is what this model reads"));
}

TEST_F(ImageServingTest, ATextModelReadsNoImages) {
  Start();
  v1::EncodeRequest request = Images({File("rgb_8.png")});
  request.set_model("bert");
  const grpc::Status status = Encode(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("is an image; this model reads text and tokens"));
}

TEST_F(ImageServingTest, AnImageIsNeitherCutNorPrompted) {
  Start();
  v1::EncodeRequest request = Images({File("rgb_8.png")});
  request.mutable_truncation()->set_side(v1::Truncation::SIDE_RIGHT);
  request.mutable_truncation()->set_max_tokens(4);
  grpc::Status status = Encode(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("an image is not cut"));
  request = Images({File("rgb_8.png")});
  request.set_prompt("query: ");
  status = Encode(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "prompt");
}

TEST_F(ImageServingTest, ALimitOfTheServerHolds) {
  options_.engine.max_image_pixels = 44;
  Start();
  const grpc::Status status = Encode(Images({File("rgb_8.png")}));
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("9 x 5 pixels; this server allows 44"));
}

TEST_F(ImageServingTest, AFloodOfBombsLeavesTheServerAsItWas) {
  Start();
  const std::vector<std::string> bombs(20, Bomb());
  const double before = Metric("process_resident_memory_bytes");
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Encode(Images(bombs)).error_code(), StatusCode::INVALID_ARGUMENT);
  }
  const double growth = Metric("process_resident_memory_bytes") - before;
  if (kMemoryIsMeasured) {
    EXPECT_LT(growth, 200e6);
  }
  EXPECT_EQ(VectorOf(File("rgb_8.png")).size(), 36 * sizeof(float));
  EXPECT_EQ(Vector("ab").size(), 40);
}

TEST_F(ImageServingTest, ClassifiesImages) {
  Start();
  for (const std::string model : {"vit", "deit"}) {
    v1::ClassifyRequest request;
    request.set_model(model);
    request.add_inputs()->set_image(File("landscape.png"));
    request.add_inputs()->set_image("GIF89a");
    request.add_inputs()->set_text("no image");
    v1::ClassifyResponse response;
    grpc::ClientContext context;
    const grpc::Status status = inference_->Classify(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.inputs_size(), 3);
    ASSERT_EQ(response.inputs(0).labels_size(), 5);
    double sum = 0;
    for (const v1::LabelScore& label : response.inputs(0).labels()) sum += label.score();
    EXPECT_NEAR(sum, 1, 1e-5);
    EXPECT_THAT(response.inputs(1).status().message(), HasSubstr("GIF"));
    EXPECT_EQ(response.inputs(2).status().code(), StatusCode::INVALID_ARGUMENT);
  }
}

// The maps of an image come with its grid of patches, and their rows sum to 1.
TEST_F(ImageServingTest, AttendsWithinAnImage) {
  Start();
  v1::AttendRequest request;
  request.mutable_model()->set_model("deit");
  request.mutable_model()->set_image(File("landscape.png"));
  std::vector<v1::AttendResponse> responses;
  const grpc::Status status = Attend(request, &responses);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::AttendStarted& started = responses.front().started();
  EXPECT_EQ(started.patch_grid().rows(), 3);
  EXPECT_EQ(started.patch_grid().columns(), 3);
  EXPECT_EQ(started.patch_grid().num_prefix_tokens(), 2);
  EXPECT_EQ(started.query_tokens_size(), 0);
  EXPECT_THAT(started.weights_shape(), ::testing::ElementsAre(3, 11, 11));
  int num_rows = 0;
  for (const v1::AttendResponse& response : responses) {
    const std::string& data = response.block().weights().data();
    std::vector<float> weights(data.size() / sizeof(float));
    std::memcpy(weights.data(), data.data(), data.size());
    for (size_t row = 0; row + 11 <= weights.size(); row += 11, ++num_rows) {
      EXPECT_NEAR(std::accumulate(weights.begin() + row, weights.begin() + row + 11, 0.0), 1, 1e-5);
    }
  }
  EXPECT_EQ(num_rows, 3 * 3 * 11);

  request.mutable_model()->set_image("GIF89a");
  EXPECT_EQ(Attend(request).error_code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_model()->set_text("no image");
  EXPECT_EQ(Attend(request).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ImageServingTest, GetModelDescribesTheImages) {
  Start();
  v1::GetModelRequest request;
  request.set_model("deit");
  v1::GetModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(models_->GetModel(&context, request, &response).ok());
  const v1::Model& model = response.model();
  EXPECT_EQ(model.image().height(), 15);
  EXPECT_EQ(model.image().width(), 15);
  EXPECT_EQ(model.image().patch_height(), 5);
  EXPECT_EQ(model.image().patch_width(), 5);
  EXPECT_EQ(model.max_tokens(), 11);
  EXPECT_EQ(model.vocab_size(), 0);
  EXPECT_EQ(model.pooling(), v1::POOLING_CLS);
  EXPECT_THAT(model.heads(), ::testing::Contains(v1::MODEL_HEAD_IMAGE_CLASSIFICATION));
}

}  // namespace
}  // namespace attendant::server
