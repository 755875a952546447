#include "server/rpc/request_conversion.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/status/status_details.h"
#include "tests/server/rpc/scripted_engine.h"
#include "tests/support/status_matchers.h"

namespace attendant::server {
namespace {

using attendant::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string FieldOf(const absl::Status& status) {
  const google::rpc::Status message = ToRpcStatus(status);
  for (const auto& any : message.details()) {
    google::rpc::BadRequest bad_request;
    if (any.UnpackTo(&bad_request)) return bad_request.field_violations(0).field();
  }
  return "";
}

engine::ModelDescription Decoder() { return ScriptedModels()[0]; }
engine::ModelDescription Encoder() { return ScriptedModels()[1]; }

void SetTensor(v1::Tensor* tensor, std::vector<int64_t> shape, float value = 0.0f) {
  tensor->set_dtype(v1::DATA_TYPE_FLOAT32);
  tensor->mutable_shape()->Assign(shape.begin(), shape.end());
  std::string& data = *tensor->mutable_data();
  for (int64_t i = 0; i < engine::NumElements(shape); ++i) {
    data.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Generate.

struct BadGenerate {
  const char* field;
  const char* message;
  std::function<void(v1::GenerateRequest&)> change;
};

TEST(GenerateConversionTest, EveryBadFieldIsNamed) {
  const std::vector<BadGenerate> cases = {
      {"prompt", "is not set", [](auto& r) { r.clear_prompt(); }},
      {"tokens.ids", "is empty", [](auto& r) { r.mutable_tokens(); }},
      {"tokens.ids[1]", "is 100; the vocabulary has ids from 0 to 99",
       [](auto& r) { r.mutable_tokens()->add_ids(1), r.mutable_tokens()->add_ids(100); }},
      {"tokens.ids[0]", "is -1", [](auto& r) { r.mutable_tokens()->add_ids(-1); }},
      {"decoder_prefix", "decoder alone",
       [](auto& r) { r.mutable_decoder_prefix()->set_text("x"); }},
      {"source_language", "decoder alone", [](auto& r) { r.set_source_language("en"); }},
      {"target_language", "decoder alone", [](auto& r) { r.set_target_language("en"); }},
      {"sampling.no_repeat_ngram_size", "is -1; must be at least 0",
       [](auto& r) { r.mutable_sampling()->set_no_repeat_ngram_size(-1); }},
      {"sampling.temperature", "is nan",
       [](auto& r) { r.mutable_sampling()->set_temperature(kNan); }},
      {"sampling.temperature", "is inf",
       [](auto& r) { r.mutable_sampling()->set_temperature(kInfinity); }},
      {"sampling.temperature", "is -1; must be in [0, 100]",
       [](auto& r) { r.mutable_sampling()->set_temperature(-1); }},
      {"sampling.top_k", "is -1; must be at least 0",
       [](auto& r) { r.mutable_sampling()->set_top_k(-1); }},
      {"sampling.top_p", "is 0; must be in (0, 1]",
       [](auto& r) { r.mutable_sampling()->set_top_p(0); }},
      {"sampling.top_p", "is nan", [](auto& r) { r.mutable_sampling()->set_top_p(kNan); }},
      {"sampling.min_p", "is 1.5", [](auto& r) { r.mutable_sampling()->set_min_p(1.5f); }},
      {"sampling.repetition_penalty", "is 0",
       [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); }},
      {"sampling.presence_penalty", "is 3",
       [](auto& r) { r.mutable_sampling()->set_presence_penalty(3); }},
      {"sampling.frequency_penalty", "is -inf",
       [](auto& r) { r.mutable_sampling()->set_frequency_penalty(-kInfinity); }},
      {"sampling.logit_bias[5]", "is nan",
       [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[5] = kNan; }},
      {"sampling.logit_bias[500]", "is no token",
       [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[500] = 1; }},
      {"stopping.max_new_tokens", "is 0; must be at least 1",
       [](auto& r) { r.mutable_stopping()->set_max_new_tokens(0); }},
      {"stopping.max_new_tokens", "is 9000; this server allows 4096 (--max_new_tokens)",
       [](auto& r) { r.mutable_stopping()->set_max_new_tokens(9000); }},
      {"stopping.min_new_tokens", "is 9; must be in [0, 8]",
       [](auto& r) {
         r.mutable_stopping()->set_max_new_tokens(8), r.mutable_stopping()->set_min_new_tokens(9);
       }},
      {"stopping.stop", "has 17 strings; the limit is 16",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop("x");
       }},
      {"stopping.stop[0]", "is empty", [](auto& r) { r.mutable_stopping()->add_stop(""); }},
      {"stopping.stop[0]", "has 1025 bytes",
       [](auto& r) { r.mutable_stopping()->add_stop(std::string(1025, 'x')); }},
      {"stopping.stop_token_ids[0]", "is 100",
       [](auto& r) { r.mutable_stopping()->add_stop_token_ids(100); }},
      {"output.top_logprobs", "is 21; must be in [0, 20]",
       [](auto& r) { r.mutable_output()->set_top_logprobs(21); }},
      {"output.prompt_logprobs", "is -1",
       [](auto& r) { r.mutable_output()->set_prompt_logprobs(-1); }},
      {"truncation.side", "is 9",
       [](auto& r) { r.mutable_truncation()->set_side(v1::Truncation::Side(9)); }},
      {"truncation.max_tokens", "is 17; must be in [1, 16]",
       [](auto& r) { r.mutable_truncation()->set_max_tokens(17); }},
      {"num_sequences", "is 17", [](auto& r) { r.set_num_sequences(17); }},
      {"beam_search.num_beams", "is 0", [](auto& r) { r.mutable_beam_search()->set_num_beams(0); }},
      {"beam_search.length_penalty", "is nan",
       [](auto& r) { r.mutable_beam_search()->set_length_penalty(std::nanf("")); }},
      {"beam_search.length_penalty", "is 11",
       [](auto& r) { r.mutable_beam_search()->set_length_penalty(11); }},
      {"beam_search.exhaustive", "early_stopping too",
       [](auto& r) {
         r.mutable_beam_search()->set_early_stopping(true);
         r.mutable_beam_search()->set_exhaustive(true);
       }},
      {"priority", "is 101", [](auto& r) { r.set_priority(101); }},
  };
  for (const BadGenerate& bad : cases) {
    v1::GenerateRequest message;
    message.set_text("prompt");
    bad.change(message);
    const absl::Status status = GenerateFromMessage(message, Decoder(), RequestLimits()).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
    EXPECT_EQ(FieldOf(status), bad.field) << status;
  }
}

engine::ModelDescription Translator() {
  engine::ModelDescription model = Decoder();
  model.kind = "encoder-decoder";
  model.max_source_tokens = 20;
  model.target_vocab_size = 50;
  return model;
}

TEST(GenerateConversionTest, SourcesAndTargetsHaveVocabulariesAndLimitsOfTheirOwn) {
  const std::vector<BadGenerate> cases = {
      {"tokens.ids[0]", "is 100; the vocabulary has ids from 0 to 99",
       [](auto& r) { r.mutable_tokens()->add_ids(100); }},
      {"decoder_prefix.tokens.ids[1]", "is 50; the vocabulary has ids from 0 to 49",
       [](auto& r) {
         r.mutable_decoder_prefix()->mutable_tokens()->add_ids(49);
         r.mutable_decoder_prefix()->mutable_tokens()->add_ids(50);
       }},
      {"decoder_prefix.tokens.ids", "is empty",
       [](auto& r) { r.mutable_decoder_prefix()->mutable_tokens(); }},
      {"decoder_prefix", "is not set: one of text, tokens",
       [](auto& r) { r.mutable_decoder_prefix(); }},
      {"sampling.logit_bias[50]", "ids from 0 to 49",
       [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[50] = 1; }},
      {"stopping.stop_token_ids[0]", "is 50",
       [](auto& r) { r.mutable_stopping()->add_stop_token_ids(50); }},
      {"truncation.max_tokens", "is 21; must be in [1, 20]",
       [](auto& r) { r.mutable_truncation()->set_max_tokens(21); }},
  };
  for (const BadGenerate& bad : cases) {
    v1::GenerateRequest message;
    message.set_text("source");
    bad.change(message);
    const absl::Status status =
        GenerateFromMessage(message, Translator(), RequestLimits()).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
    EXPECT_EQ(FieldOf(status), bad.field) << status;
  }
}

TEST(GenerateConversionTest, PrefixAndLanguagesArrive) {
  v1::GenerateRequest message;
  for (const int32_t id : {5, 99, 7}) message.mutable_tokens()->add_ids(id);
  message.mutable_decoder_prefix()->mutable_tokens()->add_ids(49);
  message.set_source_language("en_XX");
  message.set_target_language("fr_XX");
  message.mutable_sampling()->set_no_repeat_ngram_size(3);
  ASSERT_OK_AND_ASSIGN(const GenerateConversion conversion,
                       GenerateFromMessage(message, Translator(), RequestLimits()));
  EXPECT_EQ(std::get<engine::TokenIds>(conversion.request.prompt), engine::TokenIds({5, 99, 7}));
  EXPECT_EQ(std::get<engine::TokenIds>(conversion.request.decoder_prefix), engine::TokenIds({49}));
  EXPECT_EQ(conversion.request.source_language, "en_XX");
  EXPECT_EQ(conversion.request.target_language, "fr_XX");
  EXPECT_EQ(conversion.request.no_repeat_ngram_size, 3);
  EXPECT_EQ(conversion.num_tokens, 4);

  message.mutable_decoder_prefix()->set_text("words");
  v1::GenerateRequest text = message;
  ASSERT_OK_AND_ASSIGN(const GenerateConversion with_text,
                       GenerateFromMessage(text, Translator(), RequestLimits()));
  EXPECT_EQ(std::get<std::string>(with_text.request.decoder_prefix), "words");
}

TEST(ModelConversionTest, AnEncoderDecoderSaysWhatItReadsAndWrites) {
  engine::ModelDescription model = Translator();
  model.languages = {"en", "fr"};
  const v1::Model message = ModelToMessage(model);
  EXPECT_EQ(message.stack(), v1::MODEL_STACK_ENCODER_DECODER);
  EXPECT_EQ(message.max_source_tokens(), 20);
  EXPECT_EQ(message.target_vocab_size(), 50);
  EXPECT_THAT(message.languages(), ::testing::ElementsAre("en", "fr"));
}

TEST(GenerateConversionTest, AlignmentComesWithTheTokens) {
  v1::GenerateRequest message;
  message.set_text("prompt");
  message.mutable_output()->set_cross_attention(true);
  ASSERT_OK_AND_ASSIGN(const GenerateConversion conversion,
                       GenerateFromMessage(message, Decoder(), RequestLimits()));
  EXPECT_TRUE(conversion.request.cross_attention);
  const TokenOutput output = TokenOutputOf(message);
  EXPECT_TRUE(output.tokens);

  engine::GenerateChunk chunk{.tokens = {{.id = 7}, {.id = 8}}};
  chunk.cross_attention = {0.25f, 0.25f, 0.5f, 1.0f, 0.0f, 0.0f};
  const v1::GenerateResponse response = GenerateToMessage(std::move(chunk), output);
  EXPECT_THAT(response.chunk().cross_attention().shape(), ElementsAre(2, 3));
  EXPECT_EQ(response.chunk().cross_attention().data().size(), 6 * sizeof(float));
}

TEST(GenerateConversionTest, UnsetFieldsStayUnset) {
  v1::GenerateRequest message;
  message.set_text("prompt");
  ASSERT_OK_AND_ASSIGN(const GenerateConversion conversion,
                       GenerateFromMessage(message, Decoder(), RequestLimits()));
  const engine::GenerateRequest& request = conversion.request;
  EXPECT_FALSE(request.temperature || request.top_k || request.top_p || request.min_p ||
               request.seed || request.repetition_penalty || request.max_new_tokens ||
               request.min_new_tokens);
  EXPECT_TRUE(request.cache_prefix);
  EXPECT_FALSE(request.logprobs || request.prompt_logprobs || request.echo);
  EXPECT_EQ(request.num_sequences, std::nullopt);
  EXPECT_EQ(request.num_beams, std::nullopt);
  EXPECT_EQ(std::get<std::string>(request.prompt), "prompt");
}

TEST(GenerateConversionTest, ZeroIsNotUnset) {
  v1::GenerateRequest message;
  message.set_text("prompt");
  message.mutable_sampling()->set_temperature(0);
  message.mutable_sampling()->set_seed(0);
  message.set_cache_prefix(false);
  message.mutable_output()->set_prompt_logprobs(0);
  ASSERT_OK_AND_ASSIGN(const GenerateConversion conversion,
                       GenerateFromMessage(message, Decoder(), RequestLimits()));
  EXPECT_EQ(conversion.request.temperature, 0.0f);
  EXPECT_EQ(conversion.request.seed, 0u);
  EXPECT_FALSE(conversion.request.cache_prefix);
  EXPECT_TRUE(conversion.request.prompt_logprobs);
}

TEST(GenerateConversionTest, ThePromptsTokensComeInChunksOfTheirOwn) {
  engine::GenerateStarted started;
  for (int i = 0; i < 300; ++i)
    started.prompt_tokens.push_back({.id = i, .text = "t", .logprob = -1, .top = {{}, {}}});
  const auto messages =
      GenerateToMessages(started, {.prompt = true, .num_prompt_top = 1}, "id", "m");
  ASSERT_EQ(messages.size(), 3);
  EXPECT_TRUE(messages[1].chunk().is_prompt());
  EXPECT_EQ(messages[1].chunk().tokens_size() + messages[2].chunk().tokens_size(), 300);
  EXPECT_FALSE(messages[1].chunk().tokens(0).has_logprob());
  EXPECT_TRUE(messages[1].chunk().tokens(1).has_logprob());
  EXPECT_EQ(messages[1].chunk().tokens(1).top_size(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Encode.

struct BadEncode {
  const char* field;
  const char* message;
  std::function<void(v1::EncodeRequest&)> change;
};

TEST(EncodeConversionTest, EveryBadFieldIsNamed) {
  const std::vector<BadEncode> cases = {
      {"inputs", "is empty", [](auto& r) { r.clear_inputs(); }},
      {"inputs", "has 2049 entries; this server allows 2048 (--max_inputs)",
       [](auto& r) {
         while (r.inputs_size() < 2049) r.add_inputs()->set_text("x");
       }},
      {"pooling", "is 77", [](auto& r) { r.set_pooling(v1::Pooling(77)); }},
      {"dimensions", "is 3; must be in [1, 2]", [](auto& r) { r.set_dimensions(3); }},
      {"dimensions", "is 0", [](auto& r) { r.set_dimensions(0); }},
      {"output_dtype", "is DATA_TYPE_INT32",
       [](auto& r) { r.set_output_dtype(v1::DATA_TYPE_INT32); }},
      {"output_dtype", "needs normalized vectors",
       [](auto& r) { r.set_output_dtype(v1::DATA_TYPE_INT8); }},
      {"hidden_layers[1]", "is 4; must be in [-4, 3]",
       [](auto& r) { r.add_hidden_layers(0), r.add_hidden_layers(4); }},
      {"prompt_name", "the model has query", [](auto& r) { r.set_prompt_name("passage"); }},
      {"truncation.max_tokens", "is 0", [](auto& r) { r.mutable_truncation()->set_max_tokens(0); }},
  };
  for (const BadEncode& bad : cases) {
    v1::EncodeRequest message;
    message.add_inputs()->set_text("x");
    bad.change(message);
    const absl::Status status = EncodeFromMessage(message, Encoder(), RequestLimits()).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
    EXPECT_EQ(FieldOf(status), bad.field) << status;
  }
}

TEST(EncodeConversionTest, NegativeLayersCountFromTheEnd) {
  v1::EncodeRequest message;
  message.add_inputs()->set_text("x");
  for (const int layer : {0, -1, -4, 2}) message.add_hidden_layers(layer);
  ASSERT_OK_AND_ASSIGN(const EncodeConversion conversion,
                       EncodeFromMessage(message, Encoder(), RequestLimits()));
  EXPECT_THAT(conversion.request.hidden_layers, ElementsAre(0, 3, 0, 2));
}

TEST(EncodeConversionTest, NoInputCostsMoreTokensThanTheModelTakes) {
  v1::EncodeRequest message;
  message.add_inputs()->set_text(std::string(10'000'000, 'x'));
  message.add_inputs()->set_text("12345678");
  ASSERT_OK_AND_ASSIGN(const EncodeConversion conversion,
                       EncodeFromMessage(message, Encoder(), RequestLimits()));
  EXPECT_EQ(conversion.num_tokens, 16 + 4);
}

// ---------------------------------------------------------------------------------------------------------------------
// Attend.

v1::AttendRequest GoodTensors() {
  v1::AttendRequest message;
  SetTensor(message.mutable_tensors()->mutable_query(), {2, 3, 4}, 1.0f);
  SetTensor(message.mutable_tensors()->mutable_key(), {1, 5, 4}, 1.0f);
  SetTensor(message.mutable_tensors()->mutable_value(), {1, 5, 4}, 1.0f);
  return message;
}

struct BadAttend {
  const char* field;
  const char* message;
  std::function<void(v1::AttendRequest&)> change;
};

TEST(AttendConversionTest, EveryBadTensorIsNamed) {
  const std::vector<BadAttend> cases = {
      {"source", "is not set", [](auto& r) { r.clear_source(); }},
      {"tensors.query", "is not set", [](auto& r) { r.mutable_tensors()->clear_query(); }},
      {"tensors.key.dtype", "is not set",
       [](auto& r) { r.mutable_tensors()->mutable_key()->set_dtype(v1::DATA_TYPE_UNSPECIFIED); }},
      {"tensors.key.dtype", "is 99",
       [](auto& r) { r.mutable_tensors()->mutable_key()->set_dtype(v1::DataType(99)); }},
      {"tensors.key.dtype", "BINARY",
       [](auto& r) { r.mutable_tensors()->mutable_key()->set_dtype(v1::DATA_TYPE_BINARY); }},
      {"tensors.key.dtype", "is i32; attention takes f32, f16 and bf16",
       [](auto& r) { r.mutable_tensors()->mutable_key()->set_dtype(v1::DATA_TYPE_INT32); }},
      {"tensors.value.data", "has 79 bytes; shape [1, 5, 4] of f32 takes 80",
       [](auto& r) { r.mutable_tensors()->mutable_value()->mutable_data()->pop_back(); }},
      {"tensors.value.data", "has 81 bytes",
       [](auto& r) { r.mutable_tensors()->mutable_value()->mutable_data()->push_back('x'); }},
      {"tensors.query.shape", "is [-2, 3, 4], which is negative",
       [](auto& r) { r.mutable_tensors()->mutable_query()->set_shape(0, -2); }},
      {"tensors.query.shape", "too large",
       [](auto& r) {
         for (int i = 0; i < 3; ++i)
           r.mutable_tensors()->mutable_query()->set_shape(i, int64_t{1} << 40);
       }},
      {"tensors.query.shape", "too large",
       [](auto& r) { r.mutable_tensors()->mutable_query()->set_shape(0, int64_t{1} << 58); }},
      {"tensors.query.shape", "has 9 axes; the limit is 8",
       [](auto& r) {
         while (r.tensors().query().shape_size() < 9)
           r.mutable_tensors()->mutable_query()->add_shape(1);
       }},
      {"tensors.query.data", "not finite, at index 23",
       [](auto& r) {
         std::memcpy(r.mutable_tensors()->mutable_query()->mutable_data()->data() + 23 * 4, &kNan,
                     4);
       }},
      {"tensors.scale", "is inf", [](auto& r) { r.mutable_tensors()->set_scale(kInfinity); }},
      {"tensors.sliding_window", "is 0",
       [](auto& r) { r.mutable_tensors()->set_sliding_window(0); }},
      {"tensors.mask.dtype", "a mask is bool or f32",
       [](auto& r) {
         r.mutable_tensors()->mutable_mask()->set_dtype(v1::DATA_TYPE_INT8);
         r.mutable_tensors()->mutable_mask()->set_data("x");
       }},
      {"tensors.mask.data", "has the byte 2 at index 1; a bool is 0 or 1",
       [](auto& r) {
         r.mutable_tensors()->mutable_mask()->set_dtype(v1::DATA_TYPE_BOOL);
         r.mutable_tensors()->mutable_mask()->add_shape(2);
         r.mutable_tensors()->mutable_mask()->set_data("\1\2");
       }},
      {"layer.num_heads", "is 0; must be at least 1",
       [](auto& r) { SetTensor(r.mutable_layer()->mutable_query(), {1, 1}); }},
      {"layer.w_q", "is not set",
       [](auto& r) {
         SetTensor(r.mutable_layer()->mutable_query(), {1, 1});
         r.mutable_layer()->set_num_heads(1);
       }},
  };
  for (const BadAttend& bad : cases) {
    v1::AttendRequest message = GoodTensors();
    bad.change(message);
    const absl::Status status = AttendFromMessage(message, {}).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)));
    EXPECT_EQ(FieldOf(status), bad.field) << status;
  }
}

TEST(AttendConversionTest, HalfPrecisionIsCheckedForItsOwnInfinities) {
  v1::AttendRequest message = GoodTensors();
  v1::Tensor& query = *message.mutable_tensors()->mutable_query();
  query.set_dtype(v1::DATA_TYPE_FLOAT16);
  query.set_data(std::string(2 * 24, '\0'));
  query.mutable_data()->at(47) = 0x7c;  // +infinity, little-endian
  EXPECT_THAT(AttendFromMessage(message, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not finite, at index 23")));
  v1::AttendRequest bfloat = GoodTensors();
  bfloat.mutable_tensors()->mutable_query()->set_dtype(v1::DATA_TYPE_BFLOAT16);
  bfloat.mutable_tensors()->mutable_query()->set_data(
      std::string(2 * 24, '\x7c'));  // large, but finite
  EXPECT_OK(AttendFromMessage(bfloat, {}));
}

TEST(AttendConversionTest, WhichMapsPassesAsItIs) {
  engine::ModelDescription model;
  model.vocab_size = 10;
  model.max_tokens = 20;
  v1::AttendRequest message;
  v1::ModelAttention& maps = *message.mutable_model();
  maps.mutable_tokens()->add_ids(7);
  maps.mutable_target_tokens()->add_ids(9);
  maps.set_kind(v1::ATTENTION_KIND_CROSS);
  maps.add_layers(-1);
  maps.add_heads(2);
  maps.mutable_query_range()->set_end(3);
  maps.set_reduction(v1::ATTENTION_REDUCTION_TOP_K);
  maps.mutable_truncation()->set_side(v1::Truncation::SIDE_LEFT);
  ASSERT_OK_AND_ASSIGN(const AttendConversion conversion, AttendFromMessage(message, model));
  EXPECT_EQ(conversion.num_tokens, 2);
  const auto& request = std::get<engine::AttendModel>(conversion.request.source);
  EXPECT_THAT(std::get<engine::TokenIds>(request.input), ElementsAre(7));
  EXPECT_THAT(std::get<engine::TokenIds>(*request.target), ElementsAre(9));
  EXPECT_EQ(request.kind, engine::AttentionKind::kCross);
  EXPECT_THAT(request.layers, ElementsAre(-1));
  EXPECT_THAT(request.heads, ElementsAre(2));
  EXPECT_EQ(request.query_range->end, 3);
  EXPECT_FALSE(request.key_range.has_value());
  EXPECT_EQ(request.reduction, engine::AttentionReduction::kTopK);
  EXPECT_EQ(request.top_k, 8);
  EXPECT_EQ(request.truncation.side, engine::TruncationSide::kLeft);

  message.mutable_model()->mutable_tokens()->add_ids(7);
  message.mutable_model()->mutable_target_tokens()->clear_ids();
  EXPECT_THAT(
      AttendFromMessage(message, model),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.target_tokens.ids is empty")));
}

TEST(AttendConversionTest, GoodTensorsPassAsTheyAre) {
  v1::AttendRequest message = GoodTensors();
  message.mutable_tensors()->set_causal(true);
  message.mutable_tensors()->set_return_lse(true);
  ASSERT_OK_AND_ASSIGN(const AttendConversion conversion, AttendFromMessage(message, {}));
  const auto& tensors = std::get<engine::AttendTensors>(conversion.request.source);
  EXPECT_THAT(tensors.query.shape, ElementsAre(2, 3, 4));
  EXPECT_EQ(tensors.key.data.size(), 80);
  EXPECT_TRUE(tensors.mask.causal && tensors.return_lse && !tensors.return_weights);
  EXPECT_FALSE(tensors.mask.scale.has_value());
}

}  // namespace
}  // namespace attendant::server
