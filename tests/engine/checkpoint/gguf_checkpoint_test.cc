#include "engine/checkpoint/gguf_checkpoint.h"

#include <cmath>
#include <functional>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/float_conversion.h"
#include "engine/base/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "simdjson.h"
#include "tests/engine/checkpoint/gguf_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

using ::attendant::testing::IsOk;
using ::attendant::testing::StatusIs;
using ::attendant::testing::TestDataPath;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The rows of a tensor of which value c of row r is 100 r + c, for telling rows apart.
std::vector<float> Numbered(int rows, int columns) {
  std::vector<float> values;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      values.push_back(100.0f * static_cast<float>(row) + static_cast<float>(column));
    }
  }
  return values;
}

// One layer, hidden_size 6, 3 heads of 4 values, 1 key-value head, 5 tokens. `change` adds, or
// spoils.
std::string SmallLlama(
    const std::function<void(GgufBuilder&)>& change = [](GgufBuilder&) {},
    const std::set<std::string>& without = {}) {
  GgufBuilder builder;
  const auto integer = [&](const std::string& key, uint32_t value) {
    if (!without.contains(key)) builder.Integer(key, value);
  };
  builder.String("general.architecture", "llama");
  integer("llama.block_count", 1);
  integer("llama.context_length", 77);
  integer("llama.embedding_length", 6);
  integer("llama.feed_forward_length", 10);
  integer("llama.attention.head_count", 3);
  integer("llama.attention.head_count_kv", 1);
  integer("llama.attention.key_length", 4);
  integer("llama.attention.value_length", 4);
  if (!without.contains("llama.attention.layer_norm_rms_epsilon")) {
    builder.Float("llama.attention.layer_norm_rms_epsilon", 1e-6f);
  }
  const auto tensor = [&](const std::string& name, uint64_t columns, int rows) {
    if (!without.contains(name)) {
      builder.FloatTensor(name, {columns, static_cast<uint64_t>(rows)},
                          Numbered(rows, static_cast<int>(columns)));
    }
  };
  tensor("token_embd.weight", 6, 5);
  tensor("blk.0.attn_q.weight", 6, 12);
  tensor("blk.0.attn_k.weight", 6, 4);
  tensor("blk.0.attn_v.weight", 6, 4);
  tensor("blk.0.attn_output.weight", 12, 6);
  change(builder);
  return builder.Build();
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& bytes) {
  absl::StatusOr<GgufFile> file = GgufFile::Parse("the_file", AsBytes(bytes));
  if (!file.ok()) return file.status();
  return MakeGgufCheckpoint(*std::move(file));
}

std::vector<float> Read(const Checkpoint& checkpoint, const std::string& name) {
  const auto shape = checkpoint.TensorShape(name);
  EXPECT_TRUE(shape.has_value()) << name;
  if (!shape.has_value()) return {};
  std::vector<float> values(NumElements(*shape));
  EXPECT_OK(checkpoint.ReadTensor(name, *shape, absl::MakeSpan(values)));
  return values;
}

std::vector<int> RowsOf(const std::vector<float>& values, size_t columns) {
  std::vector<int> rows;
  for (size_t at = 0; at < values.size(); at += columns) {
    rows.push_back(static_cast<int>(values[at]) / 100);
  }
  return rows;
}

TEST(GgufCheckpointTest, NamesTensorsAsHuggingFaceDoes) {
  const std::string bytes = SmallLlama();
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  EXPECT_THAT(checkpoint->TensorNames(),
              ElementsAre("model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
                          "model.layers.0.self_attn.o_proj.weight",
                          "model.layers.0.self_attn.q_proj.weight",
                          "model.layers.0.self_attn.v_proj.weight"));
  EXPECT_THAT(*checkpoint->TensorShape("model.layers.0.self_attn.o_proj.weight"),
              ElementsAre(6, 12));
  EXPECT_EQ(checkpoint->TensorFormat("model.embed_tokens.weight"), "F32");
  EXPECT_EQ(checkpoint->TensorFormat("token_embd.weight"), "");
  EXPECT_EQ(checkpoint->gguf_vocabulary(), nullptr);
  EXPECT_EQ(checkpoint->ReadFile("tokenizer.json").value(), std::nullopt);
}

TEST(GgufCheckpointTest, PutsTheRowsThatRotateTogetherHalfAHeadApart) {
  const std::string bytes = SmallLlama([](GgufBuilder& builder) {
    builder.FloatTensor("blk.0.attn_q.bias", {12}, Numbered(12, 1));
  });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  EXPECT_THAT(RowsOf(Read(*checkpoint, "model.layers.0.self_attn.q_proj.weight"), 6),
              ElementsAre(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11));
  EXPECT_THAT(RowsOf(Read(*checkpoint, "model.layers.0.self_attn.q_proj.bias"), 1),
              ElementsAre(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11));
  EXPECT_THAT(RowsOf(Read(*checkpoint, "model.layers.0.self_attn.k_proj.weight"), 6),
              ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(RowsOf(Read(*checkpoint, "model.layers.0.self_attn.v_proj.weight"), 6),
              ElementsAre(0, 1, 2, 3));
}

TEST(GgufCheckpointTest, MakesAConfigOfTheMetadata) {
  const std::string bytes = SmallLlama([](GgufBuilder& builder) {
    builder.Float("llama.rope.freq_base", 500000.0f)
        .String("tokenizer.ggml.model", "gpt2")
        .Strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"})
        .Integer("tokenizer.ggml.bos_token_id", 3)
        .Integer("tokenizer.ggml.eos_token_id", 4)
        .Integer("tokenizer.ggml.eot_token_id", 2);
  });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  simdjson::dom::parser parser;
  simdjson::dom::element config;
  ASSERT_FALSE(parser.parse(checkpoint->config_json()).get(config));
  EXPECT_EQ(std::string(config["model_type"].get_c_str().value()), "llama");
  const std::pair<const char*, int64_t> integers[] = {{"hidden_size", 6},
                                                      {"num_hidden_layers", 1},
                                                      {"num_attention_heads", 3},
                                                      {"num_key_value_heads", 1},
                                                      {"head_dim", 4},
                                                      {"intermediate_size", 10},
                                                      {"vocab_size", 5},
                                                      {"max_position_embeddings", 77},
                                                      {"bos_token_id", 3},
                                                      {"eos_token_id", 4}};
  for (const auto& [key, value] : integers) {
    EXPECT_EQ(config[key].get_int64().value(), value) << key;
  }
  EXPECT_EQ(config["rms_norm_eps"].get_double().value(), 1e-6);
  EXPECT_EQ(config["rope_theta"].get_double().value(), 500000.0);
  EXPECT_TRUE(config["rope_scaling"].is_null());
  EXPECT_TRUE(config["tie_word_embeddings"].get_bool().value());
  EXPECT_EQ(std::string(config["torch_dtype"].get_c_str().value()), "float32");
  EXPECT_THAT(checkpoint->ReadFile("generation_config.json").value().value(),
              AllOf(HasSubstr("\"bos_token_id\": 3"), HasSubstr("\"eos_token_id\": [4, 2]")));
}

TEST(GgufCheckpointTest, UntiesTheHeadThatTheFileHas) {
  const std::string bytes = SmallLlama(
      [](GgufBuilder& builder) { builder.FloatTensor("output.weight", {6, 5}, Numbered(5, 6)); });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  EXPECT_THAT(checkpoint->config_json(), HasSubstr("\"tie_word_embeddings\": false"));
  EXPECT_EQ(Read(*checkpoint, "lm_head.weight"), Numbered(5, 6));
}

TEST(GgufCheckpointTest, KnowsLinearScaling) {
  const std::string bytes = SmallLlama([](GgufBuilder& builder) {
    builder.String("llama.rope.scaling.type", "linear").Float("llama.rope.scaling.factor", 2.5f);
  });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  EXPECT_THAT(checkpoint->config_json(),
              HasSubstr(R"("rope_scaling": {"rope_type": "linear", "factor": 2.5})"));
}

// What converters store for Llama 3.1: the divisor of each frequency, for theta = 500000 and heads
// of `head_dim` values.
std::vector<float> Llama3Divisors(int head_dim, double factor) {
  std::vector<float> divisors;
  for (int i = 0; i < head_dim / 2; ++i) {
    const double turns = 8192 / (2 * std::numbers::pi * std::pow(500000.0, 2.0 * i / head_dim));
    const double smooth = (turns - 1) / 3;
    const double slowed = turns < 1 ? 1 / factor : turns > 4 ? 1 : (1 - smooth) / factor + smooth;
    divisors.push_back(static_cast<float>(1 / slowed));
  }
  return divisors;
}

TEST(GgufCheckpointTest, KnowsLlama3ScalingByItsDivisors) {
  const auto file = [](std::vector<float> divisors) {
    GgufBuilder builder;
    builder.String("general.architecture", "llama")
        .Integer("llama.block_count", 1)
        .Integer("llama.context_length", 131072)
        .Integer("llama.embedding_length", 64)
        .Integer("llama.feed_forward_length", 10)
        .Integer("llama.attention.head_count", 1)
        .Float("llama.attention.layer_norm_rms_epsilon", 1e-5f)
        .Float("llama.rope.freq_base", 500000.0f)
        .FloatTensor("token_embd.weight", {64, 1}, Numbered(1, 64))
        .FloatTensor("rope_freqs.weight", {divisors.size()}, divisors);
    return builder.Build();
  };
  std::vector<float> divisors = Llama3Divisors(64, 32);
  const std::string good = file(divisors);
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(good));
  EXPECT_THAT(checkpoint->config_json(),
              HasSubstr(R"({"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, )"
                        R"("high_freq_factor": 4, "original_max_position_embeddings": 8192})"));
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("model.embed_tokens.weight"));

  divisors[3] = 1.5f;
  EXPECT_THAT(Open(file(divisors)),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("rope_freqs.weight")));
  divisors.pop_back();
  EXPECT_THAT(Open(file(divisors)), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("has the shape [31]; expected [32]")));
}

TEST(GgufCheckpointTest, RefusesWhatIsNotALlamaItKnows) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto kUnimplemented = absl::StatusCode::kUnimplemented;
  using B = GgufBuilder;
  const struct {
    std::string what;
    std::string file;
    absl::StatusCode code;
    std::string message;
  } cases[] = {
      {"no architecture", B().Build(), kInvalid, "general.architecture is missing"},
      {"other architecture", B().String("general.architecture", "mamba").Build(), kUnimplemented,
       "general.architecture is \"mamba\"; GGUF files of \"llama\" are read"},
      {"experts", SmallLlama([](B& b) { b.Integer("llama.expert_count", 8); }), kUnimplemented,
       "llama.expert_count is 8"},
      {"no layers",
       SmallLlama([](B& b) { b.Integer("llama.block_count", 0); }, {"llama.block_count"}), kInvalid,
       "llama.block_count is 0; expected 1 to 2147483647"},
      {"no count of layers", SmallLlama([](B&) {}, {"llama.block_count"}), kInvalid,
       "llama.block_count is missing"},
      {"heads by layer",
       SmallLlama([](B& b) { b.Strings("llama.attention.head_count", {"a"}); },
                  {"llama.attention.head_count"}),
       kInvalid, "llama.attention.head_count is of type array of string"},
      {"no epsilon", SmallLlama([](B&) {}, {"llama.attention.layer_norm_rms_epsilon"}), kInvalid,
       "layer_norm_rms_epsilon is missing"},
      {"epsilon is no number",
       SmallLlama([](B& b) { b.Float("llama.attention.layer_norm_rms_epsilon", NAN); },
                  {"llama.attention.layer_norm_rms_epsilon"}),
       kInvalid, "layer_norm_rms_epsilon is nan"},
      {"partial rotation", SmallLlama([](B& b) { b.Integer("llama.rope.dimension_count", 2); }),
       kUnimplemented, "keys of 4 values, 2 of them rotated"},
      {"odd heads",
       SmallLlama(
           [](B& b) {
             b.Integer("llama.attention.key_length", 3).Integer("llama.attention.value_length", 3);
           },
           {"llama.attention.key_length", "llama.attention.value_length"}),
       kInvalid, "the heads have 3 values; rotation takes an even number"},
      {"query of another shape",
       SmallLlama([](B& b) { b.FloatTensor("blk.0.attn_q.weight", {6, 10}, Numbered(10, 6)); },
                  {"blk.0.attn_q.weight"}),
       kInvalid, "blk.0.attn_q.weight has the shape [10, 6]; expected [12, 6]"},
      {"no embedding", SmallLlama([](B&) {}, {"token_embd.weight"}), absl::StatusCode::kNotFound,
       "there is no tensor token_embd.weight"},
      {"vocabulary of another size", SmallLlama([](B& b) { b.Integer("llama.vocab_size", 6); }),
       kInvalid, "token_embd.weight has the shape [5, 6]; expected [6, 6]"},
      {"layer beyond the count",
       SmallLlama([](B& b) { b.FloatTensor("blk.1.attn_norm.weight", {6}, Numbered(1, 6)); }),
       kInvalid, "blk.1.attn_norm.weight: llama.block_count is 1"},
      {"layer with a leading zero",
       SmallLlama([](B& b) { b.FloatTensor("blk.00.attn_norm.weight", {6}, Numbered(1, 6)); }),
       kUnimplemented, "blk.00.attn_norm.weight is not one that a Llama model has"},
      {"unknown tensor",
       SmallLlama([](B& b) { b.FloatTensor("blk.0.attn_sinks", {6}, Numbered(1, 6)); }),
       kUnimplemented, "blk.0.attn_sinks is not one that a Llama model has"},
      {"unknown scaling", SmallLlama([](B& b) {
         b.String("llama.rope.scaling.type", "longrope").Float("llama.rope.scaling.factor", 2);
       }),
       kUnimplemented, "llama.rope.scaling.type is \"longrope\""},
      {"vocabulary without a model",
       SmallLlama([](B& b) { b.Strings("tokenizer.ggml.tokens", {"a"}); }), kInvalid,
       "tokenizer.ggml.model is missing"},
      {"special id outside", SmallLlama([](B& b) {
         b.String("tokenizer.ggml.model", "gpt2")
             .Strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"})
             .Integer("tokenizer.ggml.bos_token_id", 5);
       }),
       kInvalid, "tokenizer.ggml.bos_token_id is 5; the vocabulary has 5 tokens"},
      {"fewer types than tokens", SmallLlama([](B& b) {
         b.String("tokenizer.ggml.model", "gpt2")
             .Strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"})
             .Value("tokenizer.ggml.token_type", B::kArray,
                    Raw<uint32_t>(B::kInt32) + Raw<uint64_t>(1) + Raw<int32_t>(1));
       }),
       kInvalid, "tokenizer.ggml.token_type has 1 entries; tokenizer.ggml.tokens has 5"},
  };
  for (const auto& test : cases) {
    EXPECT_THAT(Open(test.file),
                StatusIs(test.code, AllOf(HasSubstr("the_file"), HasSubstr(test.message))))
        << test.what;
  }
}

TEST(GgufCheckpointTest, RefusesToReadAFormatItDoesNotKnowHowToWiden) {
  const std::string bytes = SmallLlama([](GgufBuilder& builder) {
    builder.Entry("output.weight", {256, 1}, 10, 2048).Data(std::string(4096, 'x'));
  });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  std::vector<float> values(256);
  EXPECT_THAT(checkpoint->ReadTensor("lm_head.weight", {1, 256}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("output.weight"), HasSubstr("Q2_K"))));
  EXPECT_THAT(checkpoint->ReadTensor("lm_head.weight", {256, 1}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("has the shape [1, 256]; expected [256, 1]")));
  EXPECT_THAT(checkpoint->ReadTensor("model.norm.weight", {6}, absl::MakeSpan(values)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.norm.weight")));
}

// Integers, as they are stored, in the order of rows that floats have.
TEST(GgufCheckpointTest, GivesQuantizedTensorsAsTheyAre) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(TestDataPath("goldens/llama/gguf/model.gguf").string()));
  int num_quantized = 0;
  for (const std::string& name : checkpoint->TensorNames()) {
    SCOPED_TRACE(name);
    const std::optional<Checkpoint::Quantization> form = checkpoint->TensorQuantization(name);
    const bool is_quantized = checkpoint->TensorFormat(name)[0] == 'Q';
    EXPECT_EQ(form.has_value(), is_quantized);
    if (!form || !form->in_groups) continue;
    ++num_quantized;
    const std::vector<int64_t> shape = *checkpoint->TensorShape(name);
    QuantizedMatrix matrix{.bits = form->bits, .cols = shape[1]};
    // Twice, below each other.
    ASSERT_OK(checkpoint->AppendQuantized(name, shape, matrix));
    ASSERT_OK(checkpoint->AppendQuantized(name, shape, matrix));
    EXPECT_EQ(matrix.rows, 2 * shape[0]);
    EXPECT_EQ(matrix.has_minimums(), form->has_minimums);
    const std::vector<float> want = Read(*checkpoint, name);
    ASSERT_EQ(matrix.quants.size(), 2 * want.size());
    for (size_t i = 0; i < matrix.quants.size(); ++i) {
      const size_t group = i / 32;  // rows are whole groups
      double value =
          double{Float16ToFloat(matrix.scales[group])} * (matrix.quants[i] - matrix.offset());
      if (matrix.has_minimums()) value += Float16ToFloat(matrix.minimums[group]);
      ASSERT_NEAR(value, want[i % want.size()], 1e-3 * (0.1 + std::abs(value))) << i;
    }
  }
  EXPECT_GT(num_quantized, 0);
  QuantizedMatrix matrix{.bits = 8, .cols = 7};
  EXPECT_THAT(checkpoint->AppendQuantized("nothing", {3, 7}, matrix),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(GgufCheckpointTest, RefusesScalesThatAreNotFinite) {
  std::string block(18, '\0');  // Q4_0, and its scale
  block[1] = 0x7c;              // is infinite
  const std::string bytes = SmallLlama([&](GgufBuilder& builder) {
    builder.Entry("output.weight", {32, 1}, 2, builder.num_data_bytes()).Data(block);
  });
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(bytes));
  QuantizedMatrix matrix{.bits = 4, .cols = 32};
  EXPECT_THAT(checkpoint->AppendQuantized("lm_head.weight", {1, 32}, matrix),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("output.weight"), HasSubstr("infinite or NaN"))));
}

// The folder holds the very values that the file's formats round to.
TEST(GgufCheckpointTest, EqualsTheFolderThatHoldsTheSameModel) {
  const std::string folder = TestDataPath("goldens/llama/gguf").string();
  ASSERT_OK_AND_ASSIGN(const auto expected, Checkpoint::Open(folder));
  ASSERT_OK_AND_ASSIGN(const auto found, Checkpoint::Open(folder + "/model.gguf"));
  EXPECT_EQ(found->TensorNames(), expected->TensorNames());
  for (const std::string& name : expected->TensorNames()) {
    EXPECT_EQ(found->TensorShape(name), expected->TensorShape(name)) << name;
    const std::vector<float> values = Read(*found, name);
    // A product and a sum may be contracted by one of the two.
    EXPECT_THAT(values, ::testing::Pointwise(::testing::FloatNear(1e-6f), Read(*expected, name)))
        << name;
  }
  simdjson::dom::parser parser, expected_parser;
  simdjson::dom::object config = parser.parse(found->config_json());
  simdjson::dom::object expected_config = expected_parser.parse(expected->config_json());
  for (const auto field : expected_config) {
    const std::string key(field.key);
    if (config[key].error()) continue;   // a setting of training
    if (key == "torch_dtype") continue;  // stored as it is, in several
    if (field.value.is_number()) {
      EXPECT_EQ(config[key].get_double().value(), field.value.get_double().value()) << key;
    } else {
      EXPECT_EQ(simdjson::to_string(config[key].value()), simdjson::to_string(field.value)) << key;
    }
  }
  ASSERT_NE(found->gguf_vocabulary(), nullptr);
  EXPECT_EQ(found->gguf_vocabulary()->tokens.size(), 98);
  EXPECT_EQ(found->gguf_vocabulary()->tokens[97], "<|begin_of_text|>");
  EXPECT_EQ(found->gguf_vocabulary()->token_types[97], 3);
  EXPECT_EQ(found->gguf_vocabulary()->add_bos, true);
}

}  // namespace
}  // namespace attendant::engine
