#include "engine/model/model_weights.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "engine/checkpoint/packed_cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/fake_checkpoint.h"
#include "tests/engine/model/model_runner.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

KernelContext& Context() {
  static auto* context = new KernelContext(1, /*pin_threads=*/false);
  return *context;
}

absl::StatusOr<std::unique_ptr<Transformer>> Load(const FakeCheckpoint& checkpoint) {
  return Transformer::Load(checkpoint, {.max_batch_tokens = 64}, Context());
}

// The last hidden states of a short text.
std::vector<float> Hidden(const FakeCheckpoint& checkpoint) {
  auto model = Load(checkpoint);
  CHECK_OK(model.status());
  return ModelRunner::Run(**model, {5, 60, 0, 7, 7, 33, 21}).hidden_states.back();
}

std::vector<float> Logits(const FakeCheckpoint& checkpoint) {
  auto model = Load(checkpoint);
  CHECK_OK(model.status());
  return ModelRunner::Run(**model, {5, 60, 0, 7, 7, 33, 21}).logits;
}

TEST(ModelWeightsTest, TheClassPrefixMayBeAbsentOrPresent) {
  FakeCheckpoint bert = TinyBert();
  const std::vector<float> bare = Hidden(bert);
  bert.AddPrefix("bert.");
  EXPECT_EQ(Hidden(bert), bare);

  FakeCheckpoint gpt2 = TinyGpt2();
  const std::vector<float> prefixed = Hidden(gpt2);
  gpt2.RemovePrefix("transformer.");
  EXPECT_EQ(Hidden(gpt2), prefixed);

  FakeCheckpoint llama = TinyLlama();
  const std::vector<float> llama_prefixed = Hidden(llama);
  llama.RemovePrefix("model.");
  EXPECT_EQ(Hidden(llama), llama_prefixed);
}

// Logits of a short target after a short source.
std::vector<float> Translated(const FakeCheckpoint& checkpoint) {
  auto model = Load(checkpoint);
  CHECK_OK(model.status());
  return ModelRunner::Run(**model, {5, 60, 0}, {}, {7, 33, 21, 1}).logits;
}

TEST(ModelWeightsTest, ATransformerMayBeHeldWhole) {
  FakeCheckpoint apart = TinyTransformer();
  const std::vector<float> expected = Translated(apart);
  std::map<std::string, FakeCheckpoint::FakeTensor> renamed;
  for (auto& [name, tensor] : apart.tensors) {
    const bool in_stack = name.find(".layers.") != std::string::npos;
    renamed[(in_stack ? "transformer." : "") + name] = tensor;
  }
  apart.tensors = renamed;
  EXPECT_EQ(Translated(apart), expected);
}

TEST(ModelWeightsTest, StoredPositionsTakeThePlaceOfComputedOnes) {
  FakeCheckpoint model = TinyTransformer();
  const std::vector<float> computed = Translated(model);
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{1, 120, 42}, {120, 1, 42}, {100, 42}}) {
    model.Add("positional_encoding.pe", shape, 1.0f);
    EXPECT_NE(Translated(model), computed);
  }
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{}, {42}, {99, 42}, {1, 120, 41}, {2, 120, 42}, {1, 1, 100, 42}}) {
    model.Add("positional_encoding.pe", shape, 1.0f);
    EXPECT_THAT(Load(model), StatusIs(kInvalid, HasSubstr("positional_encoding.pe")));
  }
}

TEST(ModelWeightsTest, AnEncoderDecoderNeedsTheWeightsOfBothStacks) {
  const FakeCheckpoint whole = TinyT5();
  ASSERT_OK(Load(whole));
  for (const char* name :
       {"encoder.block.1.layer.0.SelfAttention.k.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.2.layer.1.EncDecAttention.v.weight",
        "decoder.block.2.layer.1.layer_norm.weight", "lm_head.weight", "shared.weight"}) {
    FakeCheckpoint without = whole;
    without.tensors.erase(name);
    // Either stack may be the one that misses the embeddings, under its own name first.
    const std::string missing = name == std::string("shared.weight") ? "embed_tokens" : name;
    EXPECT_THAT(Load(without), StatusIs(kInvalid, AllOf(HasSubstr(missing), HasSubstr("missing"))));
    FakeCheckpoint misshapen = whole;
    misshapen.Add(name, {3, 3});
    EXPECT_THAT(Load(misshapen), StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr("[3, 3]"))));
  }
}

TEST(ModelWeightsTest, NormsMayBeCalledGammaAndBeta) {
  FakeCheckpoint bert = TinyBert();
  const std::vector<float> expected = Hidden(bert);
  std::map<std::string, FakeCheckpoint::FakeTensor> renamed;
  for (auto& [name, tensor] : bert.tensors) {
    std::string legacy = name;
    if (const size_t at = name.find("LayerNorm.weight"); at != std::string::npos) {
      legacy = name.substr(0, at) + "LayerNorm.gamma";
    } else if (const size_t at = name.find("LayerNorm.bias"); at != std::string::npos) {
      legacy = name.substr(0, at) + "LayerNorm.beta";
    }
    renamed[legacy] = tensor;
  }
  bert.tensors = renamed;
  EXPECT_EQ(Hidden(bert), expected);
}

TEST(ModelWeightsTest, ATiedHeadIsTheEmbeddings) {
  FakeCheckpoint llama = TinyLlama();
  llama.tensors["lm_head.weight"] = llama.tensors["model.embed_tokens.weight"];
  const std::vector<float> separate = Logits(llama);
  llama.tensors.erase("lm_head.weight");
  llama.SetConfig("tie_word_embeddings", "true");
  EXPECT_EQ(Logits(llama), separate);
}

TEST(ModelWeightsTest, AHeadInTheFileWinsOverTying) {
  FakeCheckpoint llama = TinyLlama();
  const std::vector<float> separate = Logits(llama);
  llama.SetConfig("tie_word_embeddings", "true");
  EXPECT_EQ(Logits(llama), separate);
}

TEST(ModelWeightsTest, ABareDecoderHasNoHeadUnlessTied) {
  FakeCheckpoint llama = TinyLlama();
  llama.tensors.erase("lm_head.weight");
  llama.SetConfig("architectures", "[\"LlamaModel\"]");
  ASSERT_OK_AND_ASSIGN(const auto model, Load(llama));
  EXPECT_FALSE(model->has_language_model_head());
  EXPECT_THAT(model->heads(), IsEmpty());
}

TEST(ModelWeightsTest, BiasesAreReadWhereTheConfigSaysSo) {
  FakeCheckpoint llama = TinyLlama();
  const std::vector<float> without = Hidden(llama);
  llama.SetConfig("attention_bias", "true");
  llama.SetConfig("mlp_bias", "true");
  EXPECT_THAT(Load(llama), StatusIs(kInvalid, HasSubstr("q_proj.bias is missing")));
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    llama.Add(prefix + "self_attn.q_proj.bias", {60}, 0.0f);
    llama.Add(prefix + "self_attn.k_proj.bias", {20}, 0.0f);
    llama.Add(prefix + "self_attn.v_proj.bias", {20}, 0.0f);
    llama.Add(prefix + "self_attn.o_proj.bias", {42}, 0.0f);
    llama.Add(prefix + "mlp.gate_proj.bias", {53}, 0.0f);
    llama.Add(prefix + "mlp.up_proj.bias", {53}, 0.0f);
    llama.Add(prefix + "mlp.down_proj.bias", {42}, 0.0f);
  }
  EXPECT_EQ(Hidden(llama), without);
  llama.Add("model.layers.1.self_attn.v_proj.bias", {20}, 0.5f);
  EXPECT_NE(Hidden(llama), without);
}

TEST(ModelWeightsTest, IgnoresWhatItDoesNotNeed) {
  FakeCheckpoint gpt2 = TinyGpt2();
  const std::vector<float> expected = Logits(gpt2);
  gpt2.Add("transformer.h.0.attn.bias", {1, 1, 40, 40});
  gpt2.Add("transformer.h.0.attn.masked_bias", {});
  gpt2.Add("somebody.elses.weight", {3});
  EXPECT_EQ(Logits(gpt2), expected);
}

TEST(ModelWeightsTest, CountsWhatItReadOnce) {
  FakeCheckpoint gpt2 = TinyGpt2();
  int64_t num_parameters = 0;
  for (const auto& [name, tensor] : gpt2.tensors) num_parameters += tensor.values.size();
  ASSERT_OK_AND_ASSIGN(const auto model, Load(gpt2));
  EXPECT_EQ(model->num_parameters(), num_parameters);
  EXPECT_GE(model->weight_bytes(), 4 * num_parameters);
  EXPECT_EQ(model->num_reference_kernels(), 0);
}

TEST(ModelWeightsTest, ReleasesEveryTensorAndReportsProgress) {
  FakeCheckpoint bert = TinyBert();
  std::vector<double> progress;
  ASSERT_OK(Transformer::Load(bert, {.max_batch_tokens = 64}, Context(),
                              [&](double done) { progress.push_back(done); }));
  std::vector<std::string> released = bert.released;
  std::sort(released.begin(), released.end());
  EXPECT_EQ(released, bert.TensorNames());
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  EXPECT_GT(progress.front(), 0.0);
  EXPECT_EQ(progress.back(), 1.0);
}

TEST(ModelWeightsTest, ChecksEveryShapeBeforeItReadsAnything) {
  FakeCheckpoint llama = TinyLlama();
  llama.Add("lm_head.weight", {62, 42});
  EXPECT_THAT(Load(llama),
              StatusIs(kInvalid, HasSubstr("fake: tensor lm_head.weight has the shape "
                                           "[62, 42]; config.json asks for [61, 42]")));
  EXPECT_THAT(llama.released, IsEmpty());
}

// Every tensor of a model in turn is taken away, given another shape, or spoilt.
TEST(ModelWeightsTest, NamesTheTensorThatIsMissingMisshapenOrNotFinite) {
  for (const FakeCheckpoint& good : {TinyBert(), TinyGpt2(), TinyLlama()}) {
    for (const auto& [name, tensor] : good.tensors) {
      FakeCheckpoint bad = good;
      bad.tensors.erase(name);
      // Without the token embeddings the prefix is not known.
      const std::string bare = name.substr(name.find('.') + 1);
      EXPECT_THAT(Load(bad), StatusIs(kInvalid, AllOf(HasSubstr(bare), HasSubstr(" is missing"))));

      bad = good;
      bad.tensors[name].shape.back() += 1;
      bad.tensors[name].values.resize(NumElements(bad.tensors[name].shape));
      EXPECT_THAT(Load(bad), StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr("has the shape"),
                                                      HasSubstr("config.json asks for"))));

      bad = good;
      bad.tensors[name].shape.push_back(1);
      EXPECT_THAT(Load(bad), StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr(", 1]"))));

      bad = good;
      bad.tensors[name].values.back() = std::numeric_limits<float>::quiet_NaN();
      EXPECT_THAT(Load(bad), StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr("NaN"))));

      bad = good;
      bad.tensors[name].values.front() = -std::numeric_limits<float>::infinity();
      EXPECT_THAT(Load(bad), StatusIs(kInvalid, AllOf(HasSubstr(name), HasSubstr("infinite"))));
    }
  }
}

TEST(ModelWeightsTest, AConfigThatLiesAboutSizesCostsNoMemory) {
  FakeCheckpoint bert = TinyBert();
  bert.SetConfig("vocab_size", "4194304");
  EXPECT_THAT(Load(bert), StatusIs(kInvalid, HasSubstr("config.json asks for [4194304, 42]")));
  bert = TinyBert();
  bert.SetConfig("intermediate_size", "262144");
  EXPECT_THAT(Load(bert), StatusIs(kInvalid, HasSubstr("[262144, 42]")));
  bert = TinyBert();
  bert.SetConfig("num_hidden_layers", "1024");
  EXPECT_THAT(Load(bert), StatusIs(kInvalid, HasSubstr("encoder.layer.3.")));
}

// A file for packed weights, removed behind the test.
class PackedCacheTest : public ::testing::Test {
 protected:
  ~PackedCacheTest() override { fs::remove(path_); }

  std::unique_ptr<Transformer> LoadWith(const FakeCheckpoint& checkpoint, PackedCache& cache) {
    auto model =
        Transformer::Load(checkpoint, {.max_batch_tokens = 64}, Context(), nullptr, &cache);
    CHECK_OK(model.status());
    return *std::move(model);
  }
  static std::vector<float> LogitsOf(Transformer& model) {
    return ModelRunner::Run(model, {5, 60, 0, 7, 7, 33, 21}, {},
                            model.encoder() == nullptr ? std::vector<int32_t>{}
                                                       : std::vector<int32_t>{7, 33, 21, 1})
        .logits;
  }
  // What a model packed from `checkpoint` keeps.
  std::vector<PackedFile::NamedMatrix> Kept(const FakeCheckpoint& checkpoint) {
    PackedCache cache(path_, origin_);
    LoadWith(checkpoint, cache);
    cache.Finish();
    std::vector<PackedFile::NamedMatrix> matrices;
    const auto file = PackedFile::Open(path_);
    CHECK_OK(file.status());
    for (size_t i = 0; i < file->num_matrices(); ++i) matrices.push_back(*file->Read(i));
    fs::remove(path_);
    return matrices;
  }

  const std::string path_ =
      fs::temp_directory_path() / ("model_weights_test_" + std::to_string(getpid()) + ".packed");
  const PackedFile::Origin origin_ = {{"checkpoint", "fake"}};
};

TEST_F(PackedCacheTest, WhatIsInItIsNotReadFromTheCheckpoint) {
  for (const FakeCheckpoint& checkpoint :
       {TinyBert(), TinyGpt2(), TinyLlama(), TinyT5(), TinyTransformer()}) {
    fs::remove(path_);
    PackedCache empty(path_, origin_);
    const auto packed = LoadWith(checkpoint, empty);
    empty.Finish();

    checkpoint.released.clear();
    PackedCache full(path_, origin_);
    const auto taken = LoadWith(checkpoint, full);
    EXPECT_TRUE(full.has_matrices());
    EXPECT_EQ(LogitsOf(*taken), LogitsOf(*packed));
    for (const std::string& name : checkpoint.released) {
      const bool is_small =
          checkpoint.TensorShape(name)->size() == 1 || absl::StrContains(name, "relative");
      EXPECT_TRUE(is_small) << name;
    }
  }
}

// With every checksum right, so that only the model can tell.
TEST_F(PackedCacheTest, MatricesThatTheModelWouldNotPackAreRefused) {
  for (const FakeCheckpoint& checkpoint : {TinyLlama(), TinyT5()}) {
    const std::vector<PackedFile::NamedMatrix> good = Kept(checkpoint);
    const auto expected = LogitsOf(**Load(checkpoint));
    ASSERT_GT(good.size(), 4u);
    const auto expect_refused = [&](const std::vector<PackedFile::NamedMatrix>& bad) {
      ASSERT_OK(PackedFile::Write(path_, origin_, bad));
      PackedCache cache(path_, origin_);
      ASSERT_TRUE(cache.has_matrices());
      const auto model = LoadWith(checkpoint, cache);
      EXPECT_FALSE(cache.has_matrices());
      EXPECT_EQ(LogitsOf(*model), expected);
      cache.Finish();
      PackedCache again(path_, origin_);
      EXPECT_EQ(LogitsOf(*LoadWith(checkpoint, again)), expected);
      EXPECT_TRUE(again.has_matrices());
    };
    for (const size_t index : {size_t{0}, size_t{2}, good.size() - 1}) {
      SCOPED_TRACE(good[index].name);
      auto bad = good;
      bad[index].name += 'x';
      expect_refused(bad);
      bad = good;
      bad[index].matrix.layout += 'x';
      expect_refused(bad);
      bad = good;
      bad[index].matrix.bytes = PackedBytes(AlignedBuffer(64));
      expect_refused(bad);
      bad = good;
      bad.erase(bad.begin() + static_cast<int64_t>(index));
      expect_refused(bad);
    }
    expect_refused({});
  }
}

TEST_F(PackedCacheTest, AMalformedCheckpointIsToldAsWithoutIt) {
  FakeCheckpoint llama = TinyLlama();
  PackedCache empty(path_, origin_);
  LoadWith(llama, empty);
  empty.Finish();
  llama.tensors["model.norm.weight"].values[0] = std::numeric_limits<float>::quiet_NaN();
  PackedCache full(path_, origin_);
  EXPECT_THAT(Transformer::Load(llama, {.max_batch_tokens = 64}, Context(), nullptr, &full),
              StatusIs(kInvalid, HasSubstr("model.norm.weight")));
}

std::vector<std::string> HeadsOf(const FakeCheckpoint& checkpoint) {
  const auto config = ReadModelConfig(checkpoint.config);
  CHECK_OK(config);
  const auto spec = FindArchitecture(config->model_type);
  CHECK_OK(spec);
  return FindHeads(checkpoint, **spec, *config);
}

TEST(FindHeadsTest, ReadsThemFromTensorNames) {
  FakeCheckpoint bert = TinyBert();
  bert.AddPrefix("bert.");
  bert.Add("bert.pooler.dense.weight", {42, 42});
  bert.Add("cls.predictions.transform.dense.weight", {42, 42});
  EXPECT_THAT(HeadsOf(bert), ElementsAre("masked_lm", "pooler"));

  // Two classes call their heads alike.
  bert = TinyBert();
  bert.Add("classifier.weight", {2, 42});
  bert.SetConfig("architectures", "[\"BertForTokenClassification\"]");
  EXPECT_THAT(HeadsOf(bert), ElementsAre("token_classification"));
  bert.SetConfig("architectures", "[\"BertForSequenceClassification\"]");
  EXPECT_THAT(HeadsOf(bert), ElementsAre("sequence_classification"));

  EXPECT_THAT(HeadsOf(TinyGpt2()), ElementsAre("lm"));
  EXPECT_THAT(HeadsOf(TinyLlama()), ElementsAre("lm"));
}

}  // namespace
}  // namespace attendant::engine
