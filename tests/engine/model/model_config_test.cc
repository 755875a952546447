#include "engine/model/model_config.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/fake_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ModelConfigTest, ReadsTheSizesOfEachFamilyInItsOwnSpelling) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig gpt2, ReadModelConfig(TinyGpt2().config));
  EXPECT_EQ(gpt2.hidden_size, 42);
  EXPECT_EQ(gpt2.num_hidden_layers, 3);
  EXPECT_EQ(gpt2.num_attention_heads, 3);
  EXPECT_EQ(gpt2.num_key_value_heads, 3);
  EXPECT_EQ(gpt2.head_dim, 14);
  EXPECT_EQ(gpt2.intermediate_size, 168);  // n_inner is null
  EXPECT_EQ(gpt2.max_position_embeddings, 40);
  EXPECT_FLOAT_EQ(gpt2.norm_eps, 1e-5f);
  EXPECT_EQ(gpt2.activation, Activation::kGeluTanh);
  EXPECT_TRUE(gpt2.tie_word_embeddings);

  ASSERT_OK_AND_ASSIGN(const ModelConfig llama, ReadModelConfig(TinyLlama().config));
  EXPECT_EQ(llama.num_key_value_heads, 2);
  EXPECT_EQ(llama.head_dim, 10);
  EXPECT_EQ(llama.type_vocab_size, 0);
  EXPECT_EQ(llama.activation, Activation::kSilu);
  EXPECT_FALSE(llama.tie_word_embeddings);
  EXPECT_THAT(llama.architectures, ElementsAre("LlamaForCausalLM"));

  ASSERT_OK_AND_ASSIGN(const ModelConfig bert, ReadModelConfig(TinyBert().config));
  EXPECT_EQ(bert.type_vocab_size, 2);
  EXPECT_FLOAT_EQ(bert.norm_eps, 1e-12f);
  EXPECT_EQ(bert.activation, Activation::kGeluErf);
}

TEST(ModelConfigTest, ReadsEitherStackOfAnEncoderDecoder) {
  const std::string t5 = TinyT5().config;
  ASSERT_OK_AND_ASSIGN(const ModelConfig decoder, ReadModelConfig(t5));
  EXPECT_EQ(decoder.num_hidden_layers, 3);
  EXPECT_EQ(decoder.head_dim, 10);
  EXPECT_TRUE(decoder.gated_feed_forward);
  EXPECT_TRUE(decoder.norm_first);
  EXPECT_FALSE(decoder.scale_logits);  // not tied
  ASSERT_OK_AND_ASSIGN(const ArchitectureSpec* spec, FindArchitecture("t5"));
  ASSERT_OK_AND_ASSIGN(const ModelConfig encoder, ReadModelConfig(t5, *spec->encoder));
  EXPECT_EQ(encoder.num_hidden_layers, 2);

  const std::string transformer = TinyTransformer().config;
  ASSERT_OK_AND_ASSIGN(spec, FindArchitecture("transformer"));
  ASSERT_OK_AND_ASSIGN(const ModelConfig target, ReadModelConfig(transformer));
  ASSERT_OK_AND_ASSIGN(const ModelConfig source, ReadModelConfig(transformer, *spec->encoder));
  EXPECT_EQ(target.vocab_size, 61);
  EXPECT_EQ(source.vocab_size, 67);
  EXPECT_TRUE(source.scale_embedding);
}

TEST(ModelConfigTest, HeadsAreTheUsualSizeWhereTheConfigDoesNotSay) {
  FakeCheckpoint llama = TinyLlama();
  llama.SetConfig("hidden_size", "48");
  llama.SetConfig("head_dim", "");
  llama.SetConfig("num_key_value_heads", "");
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ReadModelConfig(llama.config));
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.num_key_value_heads, 6);
}

TEST(ModelConfigTest, ReadsRotaryScalingAsOldAndNewFilesSpellIt) {
  FakeCheckpoint llama = TinyLlama();
  llama.SetConfig("rope_theta", "500000.0");
  llama.SetConfig("rope_scaling",
                  R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,)"
                  R"( "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  ASSERT_OK_AND_ASSIGN(ModelConfig config, ReadModelConfig(llama.config));
  EXPECT_EQ(config.rope_theta, 500000.0f);
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config.rope_scaling.factor, 8.0f);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 8192);

  llama.SetConfig("rope_scaling", R"({"type": "linear", "factor": 2})");
  ASSERT_OK_AND_ASSIGN(config, ReadModelConfig(llama.config));
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(config.rope_scaling.factor, 2.0f);

  llama.SetConfig("rope_scaling", "null");
  llama.SetConfig("rope_theta", "");
  llama.SetConfig("rope_parameters", R"({"rope_type": "default", "rope_theta": 20000.0})");
  ASSERT_OK_AND_ASSIGN(config, ReadModelConfig(llama.config));
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(config.rope_theta, 20000.0f);
}

// One field is set to a bad value; the error names the field, and says what would do.
struct BadField {
  const char* model;
  const char* key;
  const char* json;  // empty: the field is removed
  absl::StatusCode code;
  const char* message;
};

class BadFieldTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadFieldTest, IsRefusedByName) {
  const BadField& bad = GetParam();
  const std::map<std::string, FakeCheckpoint (*)()> models = {{"bert", TinyBert},
                                                              {"gpt2", TinyGpt2},
                                                              {"llama", TinyLlama},
                                                              {"t5", TinyT5},
                                                              {"transformer", TinyTransformer}};
  FakeCheckpoint checkpoint = models.at(bad.model)();
  ASSERT_OK(ReadModelConfig(checkpoint.config));
  checkpoint.SetConfig(bad.key, bad.json);
  EXPECT_THAT(ReadModelConfig(checkpoint.config),
              StatusIs(bad.code, AllOf(HasSubstr(bad.key), HasSubstr(bad.message))));
}

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnbuilt = absl::StatusCode::kUnimplemented;

INSTANTIATE_TEST_SUITE_P(
    Table, BadFieldTest,
    ::testing::Values(
        BadField{"bert", "model_type", "", kInvalid, "is missing; expected a string"},
        BadField{"bert", "model_type", "7", kInvalid, "is 7; expected a string"},
        BadField{"bert", "model_type", "\"rwkv\"", kUnbuilt, "bert, gpt2, llama"},
        BadField{"bert", "architectures", "\"BertModel\"", kInvalid, "an array of strings"},
        BadField{"bert", "vocab_size", "", kInvalid, "is missing"},
        BadField{"bert", "vocab_size", "0", kInvalid, "is 0; expected a whole number from 1"},
        BadField{"bert", "vocab_size", "-5", kInvalid, "is -5"},
        BadField{"bert", "vocab_size", "61.5", kInvalid, "is 61.5"},
        BadField{"bert", "vocab_size", "\"61\"", kInvalid, "is \"61\""},
        BadField{"bert", "vocab_size", "9223372036854775807", kInvalid, "to 4194304"},
        BadField{"bert", "vocab_size", "18446744073709551615", kInvalid, "to 4194304"},
        BadField{"bert", "hidden_size", "1073741824", kInvalid, "to 65536"},
        BadField{"bert", "hidden_size", "[42]", kInvalid, "is [42]"},
        BadField{"bert", "num_hidden_layers", "2000000000", kInvalid, "to 1024"},
        BadField{"bert", "num_hidden_layers", "0", kInvalid, "is 0"},
        BadField{"bert", "num_attention_heads", "5", kInvalid,
                 "is 5, which does not divide hidden_size, 42"},
        BadField{"bert", "intermediate_size", "2147483648", kInvalid, "to 262144"},
        BadField{"bert", "max_position_embeddings", "99999999999", kInvalid, "to 16777216"},
        BadField{"bert", "type_vocab_size", "-1", kInvalid, "is -1"},
        BadField{"bert", "layer_norm_eps", "0", kInvalid, "a number greater than 0, up to 1"},
        BadField{"bert", "layer_norm_eps", "-1e-12", kInvalid, "is -1e-12"},
        BadField{"bert", "layer_norm_eps", "1e-60", kInvalid, "is 1e-60"},
        BadField{"bert", "layer_norm_eps", "1e300", kInvalid, "up to 1"},
        BadField{"bert", "layer_norm_eps", "\"NaN\"", kInvalid, "NaN"},
        BadField{"bert", "hidden_act", "\"quick_gelu\"", kUnbuilt, "quick_gelu"},
        BadField{"bert", "hidden_act", "", kInvalid, "is missing"},
        BadField{"bert", "position_embedding_type", "\"relative_key\"", kUnbuilt, "absolute"},
        BadField{"bert", "is_decoder", "true", kUnbuilt, "only false is built"},
        BadField{"t5", "num_decoder_layers", "0", kInvalid, "is 0"},
        BadField{"t5", "d_kv", "4096", kInvalid, "to 1024"},
        BadField{"t5", "feed_forward_proj", "\"gated-silu\"", kUnbuilt, "relu and gated-gelu"},
        BadField{"t5", "relative_attention_num_buckets", "3", kInvalid, "from 4 to 4096"},
        BadField{"t5", "relative_attention_max_distance", "4", kInvalid,
                 "must exceed half of relative_attention_num_buckets, 8"},
        BadField{"t5", "n_positions", "16777216", kInvalid, "may have"},
        BadField{"transformer", "nhead", "5", kInvalid, "is 5, which does not divide d_model, 42"},
        BadField{"transformer", "num_decoder_layers", "", kInvalid, "is missing"},
        BadField{"transformer", "target_vocab_size", "-1", kInvalid, "is -1"},
        BadField{"transformer", "norm_first", "1", kInvalid, "is 1"},
        BadField{"transformer", "activation", "\"glu\"", kUnbuilt, "glu"},
        BadField{"transformer", "max_position_embeddings", "16777216", kInvalid, "may have"},
        BadField{"bert", "id2label", "[1]", kInvalid, "is [1]"},
        BadField{"bert", "id2label", R"({"1": "a"})", kInvalid, "are numbered from 0"},
        BadField{"bert", "id2label", R"({"0": "a", "00": "b"})", kInvalid, "the label \"00\""},
        BadField{"bert", "id2label", R"({"x": "a"})", kInvalid, "the label \"x\""},
        BadField{"bert", "num_labels", "0", kInvalid, "is 0; expected a whole number from 1"},
        BadField{"bert", "num_labels", "100000000", kInvalid, "to 65536"},
        BadField{"bert", "problem_type", "\"ordinal\"", kUnbuilt, "regression, single_label"},
        BadField{"bert", "sbert_ce_default_activation_function", "\"torch.nn.Tanh\"", kUnbuilt,
                 "torch.nn.Tanh"},
        BadField{"gpt2", "n_head", "4", kInvalid, "is 4, which does not divide n_embd, 42"},
        BadField{"gpt2", "n_inner", "0", kInvalid, "is 0"},
        BadField{"gpt2", "scale_attn_weights", "false", kUnbuilt, "only true is built"},
        BadField{"gpt2", "scale_attn_by_inverse_layer_idx", "true", kUnbuilt, "only false"},
        BadField{"gpt2", "add_cross_attention", "true", kUnbuilt, "only false"},
        BadField{"llama", "head_dim", "9", kInvalid, "need an even one"},
        BadField{"llama", "head_dim", "", kInvalid, ""},
        BadField{"llama", "num_key_value_heads", "4", kInvalid,
                 "is 4, which does not divide num_attention_heads, 6"},
        BadField{"llama", "rope_theta", "-1", kInvalid, "is -1"},
        BadField{"llama", "rope_scaling", "3", kInvalid, "expected an object"},
        BadField{"llama", "rope_scaling", R"({"rope_type": "yarn", "factor": 4})", kUnbuilt,
                 "rope_scaling.rope_type is \"yarn\"; default, linear and llama3 are built"},
        BadField{"llama", "rope_scaling", R"({"type": "linear"})", kInvalid,
                 "rope_scaling.factor is missing"},
        BadField{"llama", "rope_scaling", R"({"type": "linear", "factor": 0})", kInvalid,
                 "rope_scaling.factor is 0"},
        BadField{"llama", "rope_scaling",
                 R"({"type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4,)"
                 R"( "original_max_position_embeddings": 64})",
                 kInvalid, "it must exceed low_freq_factor"},
        BadField{"llama", "partial_rotary_factor", "0.5", kUnbuilt, "is 0.5; only 1 is built"},
        BadField{"llama", "attention_bias", "1", kInvalid, "is 1; expected true or false"},
        BadField{"llama", "tie_word_embeddings", "\"no\"", kInvalid, "expected true or false"}));

TEST(ModelConfigTest, LabelsComeInTheOrderOfTheirNumbers) {
  FakeCheckpoint bert = TinyBert();
  ASSERT_OK_AND_ASSIGN(ModelConfig config, ReadModelConfig(bert.config));
  EXPECT_THAT(config.labels, ElementsAre("LABEL_0", "LABEL_1"));
  EXPECT_EQ(config.problem_type, ProblemType::kUnset);
  bert.SetConfig("num_labels", "1");
  ASSERT_OK_AND_ASSIGN(config, ReadModelConfig(bert.config));
  EXPECT_THAT(config.labels, ElementsAre("LABEL_0"));
  bert.SetConfig("id2label", R"({"2": "c", "10": "k", "0": "a", "1": "b", "3": "d", "4": "e",)"
                             R"( "5": "f", "6": "g", "7": "h", "8": "i", "9": "j"})");
  bert.SetConfig("problem_type", "\"multi_label_classification\"");
  ASSERT_OK_AND_ASSIGN(config, ReadModelConfig(bert.config));
  EXPECT_THAT(config.labels, ElementsAre("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"));
  EXPECT_EQ(config.problem_type, ProblemType::kMultiLabel);
}

TEST(ModelConfigTest, ACrossEncoderMaySayThatItsScoresAreLogits) {
  FakeCheckpoint bert = TinyBert();
  EXPECT_FALSE(ReadModelConfig(bert.config)->raw_rank_scores);
  bert.SetConfig("sbert_ce_default_activation_function", "\"torch.nn.modules.linear.Identity\"");
  EXPECT_TRUE(ReadModelConfig(bert.config)->raw_rank_scores);
  bert.SetConfig("sentence_transformers",
                 R"({"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5"})");
  EXPECT_FALSE(ReadModelConfig(bert.config)->raw_rank_scores);
}

TEST(ModelConfigTest, SaysWhatIsNoJson) {
  for (const char* text : {"", "{", "{\"model_type\": NaN}", "\xff\xfe", "{} {}"}) {
    EXPECT_THAT(ReadModelConfig(text),
                StatusIs(kInvalid, HasSubstr("config.json is not valid JSON")))
        << text;
  }
  EXPECT_THAT(ReadModelConfig("[]"), StatusIs(kInvalid, HasSubstr("is not a JSON object")));
  EXPECT_THAT(ReadModelConfig(std::string(5000, '[')), StatusIs(kInvalid));
}

TEST(ModelConfigTest, CutsALongValueInItsMessage) {
  FakeCheckpoint bert = TinyBert();
  bert.SetConfig("vocab_size", "\"" + std::string(100'000, 'x') + "\"");
  const absl::Status status = ReadModelConfig(bert.config).status();
  EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("xxx...")));
  EXPECT_LT(status.message().size(), 300u);
}

}  // namespace
}  // namespace attendant::engine
