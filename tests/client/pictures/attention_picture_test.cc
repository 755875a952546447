#include "client/pictures/attention_picture.h"

#include <cmath>

#include "client/pictures/color_ramp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace attendant::client {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Two layers of heads 1 and 3 on two queries and three keys; weights count from 0.
Attention TwoLayers() {
  Attention attention;
  attention.started.set_model("tiny");
  for (const char* token : {"x", "y"}) attention.started.add_query_tokens(token);
  for (const char* token : {" a", "b\u202e", ""}) attention.started.add_key_tokens(token);
  float value = 0;
  for (const int layer : {0, 5}) {
    AttentionMap map{.kind = v1::ATTENTION_KIND_CROSS, .layer = layer, .heads = {1, 3}};
    map.weights.shape = {2, 2, 3};
    for (int i = 0; i < 12; ++i) map.weights.values.push_back(value++);
    attention.maps.push_back(map);
  }
  return attention;
}

TEST(AttentionPictureTest, NamesAxesLayersAndHeads) {
  ASSERT_OK_AND_ASSIGN(const AttentionPicture picture, PictureOfModel({}, TwoLayers()));
  EXPECT_EQ(picture.title, "tiny");
  EXPECT_EQ(picture.subtitle, "cross-attention, 2 layers of 2 heads");
  EXPECT_THAT(picture.queries, ElementsAre("x", "y"));
  EXPECT_THAT(picture.keys, ElementsAre("a", "b\\u202e", "·"));
  EXPECT_EQ(picture.NameOf(1, 0), "layer 5 · head 1");
  EXPECT_THAT(picture.Map(1, 1), ElementsAre(18, 19, 20, 21, 22, 23));
  EXPECT_EQ(picture.Largest(), 23);
}

TEST(AttentionPictureTest, NamesTokensThatCannotBeSeen) {
  EXPECT_EQ(NameToken(" the"), "the");
  EXPECT_EQ(NameToken("  "), "␣");
  EXPECT_EQ(NameToken("\n"), "\\n");
  EXPECT_EQ(NameToken(""), "·");
}

TEST(AttentionPictureTest, PutsTheLargestWeightsAtTheirKeys) {
  Attention attention = TwoLayers();
  for (AttentionMap& map : attention.maps) {
    map.weights.shape = {2, 2, 1};
    map.weights.values = {0.5, 0.6, 0.7, 0.8};
    map.keys = {2, 0, 1, 2};
  }
  v1::ModelAttention request;
  request.set_reduction(v1::ATTENTION_REDUCTION_TOP_K);
  ASSERT_OK_AND_ASSIGN(const AttentionPicture picture, PictureOfModel(request, attention));
  EXPECT_THAT(picture.Map(0, 0), ElementsAre(0, 0, 0.5f, 0.6f, 0, 0));
  EXPECT_THAT(picture.Map(1, 1), ElementsAre(0, 0.7f, 0, 0, 0, 0.8f));
  attention.maps[1].keys[0] = 3;
  EXPECT_THAT(PictureOfModel(request, attention),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("the key 3")));
}

TEST(AttentionPictureTest, NamesWhatSeveralHeadsBecame) {
  Attention attention = TwoLayers();
  for (AttentionMap& map : attention.maps) {
    map.heads.clear();
    map.weights.shape = {2, 3};
    map.weights.values.resize(6);
  }
  v1::ModelAttention request;
  request.set_reduction(v1::ATTENTION_REDUCTION_MEAN_HEADS);
  EXPECT_EQ(PictureOfModel(request, attention)->NameOf(1, 0), "layer 5 · mean of the heads");
  attention.maps.pop_back();
  request.set_reduction(v1::ATTENTION_REDUCTION_ROLLOUT);
  EXPECT_EQ(PictureOfModel(request, attention)->NameOf(0, 0), "rollout");
}

TEST(AttentionPictureTest, NamesPatchesByTheirPlace) {
  Attention attention;
  attention.started.mutable_patch_grid()->set_rows(2);
  attention.started.mutable_patch_grid()->set_columns(3);
  attention.started.mutable_patch_grid()->set_num_prefix_tokens(2);
  attention.maps.push_back({.layer = 0, .weights = {{1, 8}, std::vector<float>(8)}});
  v1::ModelAttention request;
  request.set_image("pixels");
  request.mutable_query_range()->set_begin(4);
  ASSERT_OK_AND_ASSIGN(const AttentionPicture picture, PictureOfModel(request, attention));
  EXPECT_THAT(picture.queries, ElementsAre("patch 0,2"));
  EXPECT_THAT(picture.keys, ElementsAre("[CLS]", "[token 1]", "patch 0,0", "patch 0,1", "patch 0,2",
                                        "patch 1,0", "patch 1,1", "patch 1,2"));
  EXPECT_EQ(picture.patches->image, "pixels");
}

TEST(AttentionPictureTest, RefusesLayersThatDiffer) {
  Attention attention = TwoLayers();
  attention.maps[1].weights.shape = {2, 3, 2};
  EXPECT_THAT(PictureOfModel({}, attention), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(PictureOfModel({}, {}), StatusIs(absl::StatusCode::kInternal));
}

TEST(AttentionPictureTest, NumbersTheAxesOfTensors) {
  ASSERT_OK_AND_ASSIGN(const AttentionPicture picture,
                       PictureOfTensors({{2, 3, 1, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}));
  EXPECT_EQ(picture.NameOf(1, 2), "batch 1 · head 2");
  EXPECT_THAT(picture.Map(1, 2), ElementsAre(10, 11));
  EXPECT_THAT(picture.keys, ElementsAre("0", "1"));
}

TEST(ColorRampTest, GoesFromOneEndToTheOther) {
  for (const ColorRamp& ramp : {kLightRamp, kDarkRamp, kHeatRamp}) {
    EXPECT_EQ(ColorOf(ramp, -1).red, ramp[0].red);
    EXPECT_EQ(ColorOf(ramp, 0.2).green, ramp[1].green);
    EXPECT_EQ(ColorOf(ramp, 7).blue, ramp[5].blue);
  }
  // Nothing is brighter and more at once on paper, nor darker and more on a screen.
  for (int i = 1; i <= 20; ++i) {
    const auto light = [](Rgb c) { return 0.299 * c.red + 0.587 * c.green + 0.114 * c.blue; };
    EXPECT_LT(light(ColorOf(kLightRamp, i / 20.0)), light(ColorOf(kLightRamp, (i - 1) / 20.0)));
    EXPECT_GT(light(ColorOf(kDarkRamp, i / 20.0)), light(ColorOf(kDarkRamp, (i - 1) / 20.0)));
  }
  EXPECT_DOUBLE_EQ(LevelOf(0.25, 1), 0.5);
  EXPECT_EQ(LevelOf(NAN, 1), 0);
}

}  // namespace
}  // namespace attendant::client
