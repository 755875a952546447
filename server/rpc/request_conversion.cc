#include "server/rpc/request_conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/base/tensor.h"
#include "google/protobuf/duration.pb.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/utf8.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

constexpr int kMaxRank = 8;
constexpr int kMaxStopStrings = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxStopTokens = 128;
constexpr int kMaxTopLogprobs = 20;
constexpr int kMaxSequences = 16;
constexpr int kMaxPriority = 100;
constexpr int kPromptTokensInMessage = 256;

// ---------------------------------------------------------------------------------------------------------------------
// Tensors.

std::optional<engine::DataType> DataTypeFromMessage(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT32:
      return engine::DataType::kFloat32;
    case v1::DATA_TYPE_FLOAT16:
      return engine::DataType::kFloat16;
    case v1::DATA_TYPE_BFLOAT16:
      return engine::DataType::kBFloat16;
    case v1::DATA_TYPE_INT8:
      return engine::DataType::kInt8;
    case v1::DATA_TYPE_UINT8:
      return engine::DataType::kUint8;
    case v1::DATA_TYPE_INT32:
      return engine::DataType::kInt32;
    case v1::DATA_TYPE_INT64:
      return engine::DataType::kInt64;
    case v1::DATA_TYPE_BOOL:
      return engine::DataType::kBool;
    case v1::DATA_TYPE_BINARY:
      return engine::DataType::kBinary;
    default:
      return std::nullopt;
  }
}

v1::DataType DataTypeToMessage(engine::DataType dtype) {
  switch (dtype) {
    case engine::DataType::kFloat32:
      return v1::DATA_TYPE_FLOAT32;
    case engine::DataType::kFloat16:
      return v1::DATA_TYPE_FLOAT16;
    case engine::DataType::kBFloat16:
      return v1::DATA_TYPE_BFLOAT16;
    case engine::DataType::kInt8:
      return v1::DATA_TYPE_INT8;
    case engine::DataType::kUint8:
      return v1::DATA_TYPE_UINT8;
    case engine::DataType::kInt32:
      return v1::DATA_TYPE_INT32;
    case engine::DataType::kInt64:
      return v1::DATA_TYPE_INT64;
    case engine::DataType::kBool:
      return v1::DATA_TYPE_BOOL;
    case engine::DataType::kBinary:
      return v1::DATA_TYPE_BINARY;
    case engine::DataType::kInt4:
      return v1::DATA_TYPE_INT4;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

// The first element whose exponent is all ones, which is an infinity or not a number; -1 if there
// is none.
template <typename Bits>
int64_t FirstNotFinite(const std::string& data, Bits exponent) {
  const int64_t count = data.size() / sizeof(Bits);
  constexpr int64_t kStride = 4096;
  for (int64_t begin = 0; begin < count; begin += kStride) {
    const int64_t end = std::min(begin + kStride, count);
    const auto at = [&](int64_t i) {
      Bits bits;
      std::memcpy(&bits, data.data() + i * sizeof(Bits), sizeof(Bits));
      return bits;
    };
    bool any = false;
    for (int64_t i = begin; i < end; ++i) any |= (at(i) & exponent) == exponent;
    for (int64_t i = begin; any && i < end; ++i) {
      if ((at(i) & exponent) == exponent) return i;
    }
  }
  return -1;
}

absl::Status CheckAllFinite(const engine::Tensor& tensor, absl::string_view path) {
  int64_t bad = -1;
  if (tensor.dtype == engine::DataType::kFloat32)
    bad = FirstNotFinite<uint32_t>(tensor.data, 0x7f800000u);
  if (tensor.dtype == engine::DataType::kFloat16)
    bad = FirstNotFinite<uint16_t>(tensor.data, 0x7c00u);
  if (tensor.dtype == engine::DataType::kBFloat16)
    bad = FirstNotFinite<uint16_t>(tensor.data, 0x7f80u);
  if (bad < 0) return absl::OkStatus();
  return InvalidField(absl::StrCat(path, ".data"),
                      absl::StrCat("has a value that is not finite, at index ", bad));
}

// A tensor of numbers that attention computes with; null if it is not set.
absl::StatusOr<engine::Tensor> FloatTensor(v1::Tensor* message, absl::string_view path) {
  if (message == nullptr) return InvalidField(path, "is not set");
  ASSIGN_OR_RETURN(engine::Tensor tensor, TensorFromMessage(*message, path));
  if (tensor.dtype != engine::DataType::kFloat32 && tensor.dtype != engine::DataType::kFloat16 &&
      tensor.dtype != engine::DataType::kBFloat16) {
    return InvalidField(Join(path, "dtype"), absl::StrCat("is ", engine::DataTypeName(tensor.dtype),
                                                          "; attention takes f32, f16 and bf16"));
  }
  RETURN_IF_ERROR(CheckAllFinite(tensor, path));
  return tensor;
}

void ToDuration(absl::Duration duration, google::protobuf::Duration* message) {
  message->set_seconds(absl::ToInt64Seconds(duration));
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration % absl::Seconds(1))));
}

// ---------------------------------------------------------------------------------------------------------------------
// Encode.

absl::StatusOr<engine::EncodeInput> EncodeInputFromMessage(v1::EncodeInput& message,
                                                           const std::string& path,
                                                           const engine::ModelDescription& model) {
  RETURN_IF_ERROR(CheckInputKind(path, message.input_case() == v1::EncodeInput::kImage, model));
  switch (message.input_case()) {
    case v1::EncodeInput::kText:
      return engine::EncodeInput(std::move(*message.mutable_text()));
    case v1::EncodeInput::kPair:
      return engine::EncodeInput(
          engine::TextPair{std::move(*message.mutable_pair()->mutable_text()),
                           std::move(*message.mutable_pair()->mutable_text_pair())});
    case v1::EncodeInput::kTokens: {
      const auto& ids = message.tokens().ids();
      const std::string ids_path = absl::StrCat(path, ".tokens.ids");
      if (ids.empty()) return InvalidField(ids_path, "is empty; an input has at least one token");
      RETURN_IF_ERROR(CheckTokenIds(ids_path, ids, model.vocab_size));
      return engine::EncodeInput(engine::TokenIds(ids.begin(), ids.end()));
    }
    case v1::EncodeInput::kImage:
      return engine::EncodeInput(engine::ImageFile{std::move(*message.mutable_image())});
    case v1::EncodeInput::INPUT_NOT_SET:
      break;
  }
  return InvalidField(path, "is not set: one of text, pair, tokens, image");
}

// Bytes of text, and tokens that are already such, or will be: of an image.
std::pair<int64_t, int64_t> SizeOf(const engine::EncodeInput& input,
                                   const engine::ModelDescription& model) {
  if (std::holds_alternative<engine::ImageFile>(input)) return {0, model.max_tokens};
  if (const auto* text = std::get_if<std::string>(&input)) return {text->size(), 0};
  if (const auto* pair = std::get_if<engine::TextPair>(&input)) {
    return {pair->text.size() + pair->text_pair.size(), 0};
  }
  return {0, std::get<engine::TokenIds>(input).size()};
}

absl::Status PoolingFromMessage(v1::Pooling pooling, engine::Pooling& out) {
  switch (pooling) {
    case v1::POOLING_UNSPECIFIED:
      out = engine::Pooling::kModelDefault;
      return absl::OkStatus();
    case v1::POOLING_MEAN:
      out = engine::Pooling::kMean;
      return absl::OkStatus();
    case v1::POOLING_CLS:
      out = engine::Pooling::kCls;
      return absl::OkStatus();
    case v1::POOLING_MAX:
      out = engine::Pooling::kMax;
      return absl::OkStatus();
    case v1::POOLING_LAST_TOKEN:
      out = engine::Pooling::kLastToken;
      return absl::OkStatus();
    case v1::POOLING_NONE:
      out = engine::Pooling::kNone;
      return absl::OkStatus();
    default:
      return UnknownEnum("pooling", pooling);
  }
}

absl::Status EncodeOutputFromMessage(const v1::EncodeRequest& message,
                                     const engine::ModelDescription& model,
                                     engine::EncodeRequest& request) {
  RETURN_IF_ERROR(PoolingFromMessage(message.pooling(), request.pooling));
  if (message.has_normalize()) request.normalize = message.normalize();
  RETURN_IF_ERROR(Optional(message.has_dimensions(), message.dimensions(), request.dimensions, [&] {
    return CheckRange("dimensions", message.dimensions(), 1, model.embedding_size);
  }));
  switch (message.output_dtype()) {
    case v1::DATA_TYPE_UNSPECIFIED:
    case v1::DATA_TYPE_FLOAT32:
    case v1::DATA_TYPE_FLOAT16:
    case v1::DATA_TYPE_BFLOAT16:
    case v1::DATA_TYPE_INT8:
    case v1::DATA_TYPE_BINARY:
      request.output_dtype =
          DataTypeFromMessage(message.output_dtype()).value_or(engine::DataType::kFloat32);
      break;
    default:
      return InvalidField(
          "output_dtype",
          absl::StrCat("is ", v1::DataType_Name(message.output_dtype()),
                       "; vectors come as FLOAT32, FLOAT16, BFLOAT16, INT8 or BINARY"));
  }
  if (request.output_dtype == engine::DataType::kInt8 &&
      !request.normalize.value_or(model.default_normalize)) {
    return InvalidField("output_dtype",
                        "is DATA_TYPE_INT8, which needs normalized vectors; set normalize");
  }
  for (int i = 0; i < message.hidden_layers_size(); ++i) {
    const int32_t layer = message.hidden_layers(i);
    RETURN_IF_ERROR(CheckRange(absl::StrCat("hidden_layers[", i, "]"), layer, -model.num_layers - 1,
                               model.num_layers));
    request.hidden_layers.push_back(layer < 0 ? model.num_layers + 1 + layer : layer);
  }
  if (message.hidden_layers_size() > model.num_layers + 1) {
    return InvalidField("hidden_layers",
                        absl::StrCat("has ", message.hidden_layers_size(),
                                     " entries; the model has ", model.num_layers + 1));
  }
  return absl::OkStatus();
}

absl::Status PrefixFromMessage(v1::EncodeRequest& message, const engine::ModelDescription& model,
                               engine::EncodeRequest& request) {
  if (message.prefix_case() == v1::EncodeRequest::kPrompt)
    request.prompt = std::move(*message.mutable_prompt());
  if (message.prefix_case() != v1::EncodeRequest::kPromptName) return absl::OkStatus();
  if (!model.prompts.contains(message.prompt_name())) {
    return InvalidField(
        "prompt_name",
        absl::StrCat(
            "is \"", message.prompt_name().substr(0, 64), "\"; the model has ",
            model.prompts.empty()
                ? "no named prompts"
                : absl::StrJoin(model.prompts, ", ", [](std::string* out, const auto& prompt) {
                    absl::StrAppend(out, prompt.first);
                  })));
  }
  request.prompt_name = std::move(*message.mutable_prompt_name());
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// Generate.

bool HasSource(const engine::ModelDescription& model) { return model.max_source_tokens > 0; }

int32_t OutputVocabSize(const engine::ModelDescription& model) {
  return HasSource(model) ? model.target_vocab_size : model.vocab_size;
}

// The fields of encoder-decoders. Adds to `num_tokens` what they have.
absl::Status TargetFromMessage(v1::GenerateRequest& message, const engine::ModelDescription& model,
                               engine::GenerateRequest& request, int64_t& num_tokens) {
  if (!HasSource(model)) {
    const absl::string_view field = message.has_decoder_prefix()         ? "decoder_prefix"
                                    : !message.source_language().empty() ? "source_language"
                                    : !message.target_language().empty() ? "target_language"
                                                                         : "";
    if (field.empty()) return absl::OkStatus();
    return InvalidField(
        field, absl::StrCat("is set; ", model.name, " (", model.architecture,
                            ") is a decoder alone, which has no source, and takes what its output "
                            "begins with as the prompt"));
  }
  request.source_language = std::move(*message.mutable_source_language());
  request.target_language = std::move(*message.mutable_target_language());
  if (!message.has_decoder_prefix()) return absl::OkStatus();
  v1::DecoderPrefix& prefix = *message.mutable_decoder_prefix();
  switch (prefix.prefix_case()) {
    case v1::DecoderPrefix::kText:
      num_tokens += EstimateTokens(prefix.text());
      request.decoder_prefix = std::move(*prefix.mutable_text());
      return absl::OkStatus();
    case v1::DecoderPrefix::kTokens: {
      const auto& ids = prefix.tokens().ids();
      const std::string path = "decoder_prefix.tokens.ids";
      if (ids.empty()) return InvalidField(path, "is empty; a prefix has at least one token");
      RETURN_IF_ERROR(CheckTokenIds(path, ids, OutputVocabSize(model)));
      num_tokens += ids.size();
      request.decoder_prefix = engine::TokenIds(ids.begin(), ids.end());
      return absl::OkStatus();
    }
    case v1::DecoderPrefix::PREFIX_NOT_SET:
      break;
  }
  return InvalidField("decoder_prefix", "is not set: one of text, tokens");
}

absl::Status SamplingFromMessage(const v1::SamplingParams& message,
                                 const engine::ModelDescription& model,
                                 engine::GenerateRequest& request) {
  RETURN_IF_ERROR(Optional(
      message.has_temperature(), message.temperature(), request.temperature,
      [&] { return CheckFloat("sampling.temperature", message.temperature(), 0.0f, 100.0f); }));
  RETURN_IF_ERROR(Optional(message.has_top_k(), message.top_k(), request.top_k,
                           [&] { return CheckAtLeast("sampling.top_k", message.top_k(), 0); }));
  RETURN_IF_ERROR(Optional(message.has_top_p(), message.top_p(), request.top_p, [&] {
    return CheckFloat("sampling.top_p", message.top_p(), 0.0f, 1.0f, /*open_below=*/true);
  }));
  RETURN_IF_ERROR(Optional(message.has_min_p(), message.min_p(), request.min_p, [&] {
    return CheckFloat("sampling.min_p", message.min_p(), 0.0f, 1.0f);
  }));
  RETURN_IF_ERROR(Optional(message.has_repetition_penalty(), message.repetition_penalty(),
                           request.repetition_penalty, [&] {
                             return CheckFloat("sampling.repetition_penalty",
                                               message.repetition_penalty(), 0.0f, 100.0f,
                                               /*open_below=*/true);
                           }));
  RETURN_IF_ERROR(Optional(
      message.has_presence_penalty(), message.presence_penalty(), request.presence_penalty, [&] {
        return CheckFloat("sampling.presence_penalty", message.presence_penalty(), -2.0f, 2.0f);
      }));
  RETURN_IF_ERROR(Optional(
      message.has_frequency_penalty(), message.frequency_penalty(), request.frequency_penalty, [&] {
        return CheckFloat("sampling.frequency_penalty", message.frequency_penalty(), -2.0f, 2.0f);
      }));
  RETURN_IF_ERROR(Optional(message.has_no_repeat_ngram_size(), message.no_repeat_ngram_size(),
                           request.no_repeat_ngram_size, [&] {
                             return CheckAtLeast("sampling.no_repeat_ngram_size",
                                                 message.no_repeat_ngram_size(), 0);
                           }));
  for (const auto& [id, bias] : message.logit_bias()) {
    const std::string path = absl::StrCat("sampling.logit_bias[", id, "]");
    if (id < 0 || id >= OutputVocabSize(model)) {
      return InvalidField(path, absl::StrCat("is no token; the vocabulary has ids from 0 to ",
                                             OutputVocabSize(model) - 1));
    }
    RETURN_IF_ERROR(CheckFloat(path, bias, -100.0f, 100.0f));
    request.logit_bias[id] = bias;
  }
  if (message.has_seed()) request.seed = message.seed();
  return absl::OkStatus();
}

absl::Status BeamSearchFromMessage(const v1::BeamSearch& message,
                                   engine::GenerateRequest& request) {
  // The engine knows its limit.
  RETURN_IF_ERROR(Optional(message.has_num_beams(), message.num_beams(), request.num_beams, [&] {
    return CheckAtLeast("beam_search.num_beams", message.num_beams(), 1);
  }));
  RETURN_IF_ERROR(
      Optional(message.has_length_penalty(), message.length_penalty(), request.length_penalty, [&] {
        return CheckFloat("beam_search.length_penalty", message.length_penalty(), -10.0f, 10.0f);
      }));
  if (message.early_stopping() && message.exhaustive()) {
    return InvalidField("beam_search.exhaustive", "is set, and early_stopping too");
  }
  if (message.exhaustive()) {
    request.early_stopping = engine::EarlyStopping::kNever;
  } else if (message.has_early_stopping() || message.has_exhaustive()) {
    request.early_stopping =
        message.early_stopping() ? engine::EarlyStopping::kTrue : engine::EarlyStopping::kFalse;
  }
  return absl::OkStatus();
}

absl::Status StoppingFromMessage(v1::StoppingCriteria& message,
                                 const engine::ModelDescription& model, const RequestLimits& limits,
                                 engine::GenerateRequest& request) {
  if (message.has_max_new_tokens()) {
    RETURN_IF_ERROR(CheckAtLeast("stopping.max_new_tokens", message.max_new_tokens(), 1));
    if (message.max_new_tokens() > limits.max_new_tokens) {
      return TooLarge("stopping.max_new_tokens",
                      absl::StrCat("is ", message.max_new_tokens(), "; this server allows ",
                                   limits.max_new_tokens),
                      "max_new_tokens");
    }
    request.max_new_tokens = message.max_new_tokens();
  }
  RETURN_IF_ERROR(
      Optional(message.has_min_new_tokens(), message.min_new_tokens(), request.min_new_tokens, [&] {
        return CheckRange("stopping.min_new_tokens", message.min_new_tokens(), 0,
                          request.max_new_tokens.value_or(limits.max_new_tokens));
      }));
  if (message.stop_size() > kMaxStopStrings) {
    return InvalidField("stopping.stop", absl::StrCat("has ", message.stop_size(),
                                                      " strings; the limit is ", kMaxStopStrings));
  }
  for (int i = 0; i < message.stop_size(); ++i) {
    const std::string path = absl::StrCat("stopping.stop[", i, "]");
    if (message.stop(i).empty()) return InvalidField(path, "is empty");
    if (message.stop(i).size() > kMaxStopBytes) {
      return InvalidField(path, absl::StrCat("has ", message.stop(i).size(),
                                             " bytes; the limit is ", kMaxStopBytes));
    }
    request.stop.push_back(std::move(*message.mutable_stop(i)));
  }
  if (message.stop_token_ids_size() > kMaxStopTokens) {
    return InvalidField(
        "stopping.stop_token_ids",
        absl::StrCat("has ", message.stop_token_ids_size(), " ids; the limit is ", kMaxStopTokens));
  }
  RETURN_IF_ERROR(
      CheckTokenIds("stopping.stop_token_ids", message.stop_token_ids(), OutputVocabSize(model)));
  request.stop_token_ids.assign(message.stop_token_ids().begin(), message.stop_token_ids().end());
  request.ignore_eos = message.ignore_eos();
  return absl::OkStatus();
}

absl::Status OutputFromMessage(const v1::OutputOptions& message, engine::GenerateRequest& request) {
  if (message.has_top_logprobs()) {
    RETURN_IF_ERROR(CheckRange("output.top_logprobs", message.top_logprobs(), 0, kMaxTopLogprobs));
    request.logprobs = true;
    request.top_logprobs = message.top_logprobs();
  }
  if (message.has_prompt_logprobs()) {
    RETURN_IF_ERROR(
        CheckRange("output.prompt_logprobs", message.prompt_logprobs(), 0, kMaxTopLogprobs));
    request.prompt_logprobs = true;
    // The engine keeps one number of alternatives; the answer is cut to what was asked for.
    request.top_logprobs = std::max(request.top_logprobs, message.prompt_logprobs());
  }
  request.cross_attention = message.cross_attention();
  request.echo = message.echo();
  return absl::OkStatus();
}

void TokenToMessage(engine::GeneratedToken token, bool logprob, int num_top, v1::Token* message) {
  message->set_id(token.id);
  message->set_text(ToValidUtf8(std::move(token.text)));
  if (logprob) message->set_logprob(token.logprob);
  for (int i = 0; i < std::min<int>(num_top, token.top.size()); ++i) {
    v1::TokenLogprob* top = message->add_top();
    top->set_id(token.top[i].id);
    top->set_text(ToValidUtf8(std::move(token.top[i].text)));
    top->set_logprob(token.top[i].logprob);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Attend.

// The fields that TensorAttention and LayerAttention share.
template <typename Message>
absl::StatusOr<engine::AttentionMask> MaskFromMessage(Message& message, const std::string& path) {
  engine::AttentionMask mask;
  mask.causal = message.causal();
  RETURN_IF_ERROR(Optional(
      message.has_sliding_window(), message.sliding_window(), mask.sliding_window,
      [&] { return CheckAtLeast(Join(path, "sliding_window"), message.sliding_window(), 1); }));
  RETURN_IF_ERROR(Optional(message.has_scale(), message.scale(), mask.scale,
                           [&] { return CheckFinite(Join(path, "scale"), message.scale()); }));
  if (message.has_mask()) {
    const std::string mask_path = Join(path, "mask");
    ASSIGN_OR_RETURN(engine::Tensor tensor, TensorFromMessage(*message.mutable_mask(), mask_path));
    if (tensor.dtype != engine::DataType::kBool && tensor.dtype != engine::DataType::kFloat32) {
      return InvalidField(
          Join(mask_path, "dtype"),
          absl::StrCat("is ", engine::DataTypeName(tensor.dtype), "; a mask is bool or f32"));
    }
    mask.mask = std::move(tensor);
  }
  return mask;
}

absl::StatusOr<engine::AttendTensors> TensorsFromMessage(v1::TensorAttention& message) {
  engine::AttendTensors tensors;
  ASSIGN_OR_RETURN(
      tensors.query,
      FloatTensor(message.has_query() ? message.mutable_query() : nullptr, "tensors.query"));
  ASSIGN_OR_RETURN(tensors.key,
                   FloatTensor(message.has_key() ? message.mutable_key() : nullptr, "tensors.key"));
  ASSIGN_OR_RETURN(
      tensors.value,
      FloatTensor(message.has_value() ? message.mutable_value() : nullptr, "tensors.value"));
  ASSIGN_OR_RETURN(tensors.mask, MaskFromMessage(message, "tensors"));
  tensors.return_weights = message.return_weights();
  tensors.return_lse = message.return_lse();
  return tensors;
}

absl::StatusOr<engine::AttendLayer> LayerFromMessage(v1::LayerAttention& message) {
  engine::AttendLayer layer;
  ASSIGN_OR_RETURN(layer.query, FloatTensor(message.has_query() ? message.mutable_query() : nullptr,
                                            "layer.query"));
  if (message.has_key()) {
    ASSIGN_OR_RETURN(layer.key, FloatTensor(message.mutable_key(), "layer.key"));
  }
  if (message.has_value()) {
    ASSIGN_OR_RETURN(layer.value, FloatTensor(message.mutable_value(), "layer.value"));
  } else {
    layer.value = layer.key;
  }
  RETURN_IF_ERROR(CheckAtLeast("layer.num_heads", message.num_heads(), 1));
  layer.num_heads = message.num_heads();
  ASSIGN_OR_RETURN(layer.w_q,
                   FloatTensor(message.has_w_q() ? message.mutable_w_q() : nullptr, "layer.w_q"));
  ASSIGN_OR_RETURN(layer.w_k,
                   FloatTensor(message.has_w_k() ? message.mutable_w_k() : nullptr, "layer.w_k"));
  ASSIGN_OR_RETURN(layer.w_v,
                   FloatTensor(message.has_w_v() ? message.mutable_w_v() : nullptr, "layer.w_v"));
  ASSIGN_OR_RETURN(layer.w_o,
                   FloatTensor(message.has_w_o() ? message.mutable_w_o() : nullptr, "layer.w_o"));
  if (message.has_b_q()) {
    ASSIGN_OR_RETURN(layer.b_q, FloatTensor(message.mutable_b_q(), "layer.b_q"));
  }
  if (message.has_b_k()) {
    ASSIGN_OR_RETURN(layer.b_k, FloatTensor(message.mutable_b_k(), "layer.b_k"));
  }
  if (message.has_b_v()) {
    ASSIGN_OR_RETURN(layer.b_v, FloatTensor(message.mutable_b_v(), "layer.b_v"));
  }
  if (message.has_b_o()) {
    ASSIGN_OR_RETURN(layer.b_o, FloatTensor(message.mutable_b_o(), "layer.b_o"));
  }
  ASSIGN_OR_RETURN(layer.mask, MaskFromMessage(message, "layer"));
  layer.return_weights = message.return_weights();
  return layer;
}

// A ModelAttention's input is one of Encode's.
v1::EncodeInput InputOf(v1::ModelAttention& message) {
  v1::EncodeInput input;
  switch (message.input_case()) {
    case v1::ModelAttention::kText:
      input.set_text(std::move(*message.mutable_text()));
      break;
    case v1::ModelAttention::kTokens:
      input.mutable_tokens()->Swap(message.mutable_tokens());
      break;
    case v1::ModelAttention::kPair:
      input.mutable_pair()->Swap(message.mutable_pair());
      break;
    case v1::ModelAttention::kImage:
      input.set_image(std::move(*message.mutable_image()));
      break;
    case v1::ModelAttention::INPUT_NOT_SET:
      break;
  }
  return input;
}

absl::Status KindFromMessage(v1::AttentionKind kind, engine::AttentionKind& out) {
  switch (kind) {
    case v1::ATTENTION_KIND_UNSPECIFIED:
      out = engine::AttentionKind::kModelDefault;
      return absl::OkStatus();
    case v1::ATTENTION_KIND_ENCODER_SELF:
      out = engine::AttentionKind::kEncoderSelf;
      return absl::OkStatus();
    case v1::ATTENTION_KIND_DECODER_SELF:
      out = engine::AttentionKind::kDecoderSelf;
      return absl::OkStatus();
    case v1::ATTENTION_KIND_CROSS:
      out = engine::AttentionKind::kCross;
      return absl::OkStatus();
    default:
      return UnknownEnum("model.kind", kind);
  }
}

absl::Status ReductionFromMessage(v1::AttentionReduction reduction,
                                  engine::AttentionReduction& out) {
  switch (reduction) {
    case v1::ATTENTION_REDUCTION_UNSPECIFIED:
    case v1::ATTENTION_REDUCTION_NONE:
      out = engine::AttentionReduction::kNone;
      return absl::OkStatus();
    case v1::ATTENTION_REDUCTION_MEAN_HEADS:
      out = engine::AttentionReduction::kMeanHeads;
      return absl::OkStatus();
    case v1::ATTENTION_REDUCTION_MEAN_LAYERS:
      out = engine::AttentionReduction::kMeanLayers;
      return absl::OkStatus();
    case v1::ATTENTION_REDUCTION_ROLLOUT:
      out = engine::AttentionReduction::kRollout;
      return absl::OkStatus();
    case v1::ATTENTION_REDUCTION_TOP_K:
      out = engine::AttentionReduction::kTopK;
      return absl::OkStatus();
    default:
      return UnknownEnum("model.reduction", reduction);
  }
}

absl::StatusOr<AttendConversion> MapsFromMessage(v1::ModelAttention& message,
                                                 const engine::ModelDescription& model) {
  engine::AttendModel maps;
  v1::EncodeInput input = InputOf(message);
  ASSIGN_OR_RETURN(maps.input, EncodeInputFromMessage(input, "model", model));
  const auto [text_bytes, num_ids] = SizeOf(maps.input, model);
  int64_t num_tokens = num_ids > 0 ? num_ids : text_bytes / 4 + 2;
  switch (message.target_case()) {
    case v1::ModelAttention::kTargetText:
      num_tokens += EstimateTokens(message.target_text());
      maps.target.emplace(std::move(*message.mutable_target_text()));
      break;
    case v1::ModelAttention::kTargetTokens: {
      const auto& ids = message.target_tokens().ids();
      if (ids.empty()) {
        return InvalidField("model.target_tokens.ids", "is empty; a target has at least one token");
      }
      num_tokens += ids.size();
      maps.target.emplace(engine::TokenIds(ids.begin(), ids.end()));
      break;
    }
    case v1::ModelAttention::TARGET_NOT_SET:
      break;
  }
  RETURN_IF_ERROR(KindFromMessage(message.kind(), maps.kind));
  maps.layers.assign(message.layers().begin(), message.layers().end());
  maps.heads.assign(message.heads().begin(), message.heads().end());
  if (message.has_query_range()) {
    maps.query_range = {message.query_range().begin(), message.query_range().end()};
  }
  if (message.has_key_range()) {
    maps.key_range = {message.key_range().begin(), message.key_range().end()};
  }
  RETURN_IF_ERROR(ReductionFromMessage(message.reduction(), maps.reduction));
  if (message.has_top_k()) {
    RETURN_IF_ERROR(CheckAtLeast("model.top_k", message.top_k(), 1));
    maps.top_k = message.top_k();
  }
  const int32_t max_tokens =
      model.max_source_tokens > 0 ? model.max_source_tokens : model.max_tokens;
  ASSIGN_OR_RETURN(maps.truncation,
                   TruncationFromMessage(message.truncation(), "model.truncation", max_tokens));
  AttendConversion conversion;
  conversion.request.source = std::move(maps);
  conversion.num_tokens = num_tokens;
  return conversion;
}

v1::AttentionKind KindToMessage(engine::AttentionKind kind) {
  switch (kind) {
    case engine::AttentionKind::kModelDefault:
      return v1::ATTENTION_KIND_UNSPECIFIED;
    case engine::AttentionKind::kEncoderSelf:
      return v1::ATTENTION_KIND_ENCODER_SELF;
    case engine::AttentionKind::kDecoderSelf:
      return v1::ATTENTION_KIND_DECODER_SELF;
    case engine::AttentionKind::kCross:
      return v1::ATTENTION_KIND_CROSS;
  }
  return v1::ATTENTION_KIND_UNSPECIFIED;
}

void RangeToMessage(int32_t begin, int32_t end, v1::IndexRange* message) {
  message->set_begin(begin);
  message->set_end(end);
}

// ---------------------------------------------------------------------------------------------------------------------
// Models.

v1::Pooling PoolingToMessage(engine::Pooling pooling) {
  switch (pooling) {
    case engine::Pooling::kModelDefault:
    case engine::Pooling::kMean:
      return v1::POOLING_MEAN;
    case engine::Pooling::kCls:
      return v1::POOLING_CLS;
    case engine::Pooling::kMax:
      return v1::POOLING_MAX;
    case engine::Pooling::kLastToken:
      return v1::POOLING_LAST_TOKEN;
    case engine::Pooling::kNone:
      return v1::POOLING_NONE;
  }
  return v1::POOLING_UNSPECIFIED;
}

v1::TokenizerKind TokenizerKindToMessage(absl::string_view kind) {
  if (kind == "WordPiece") return v1::TOKENIZER_KIND_WORD_PIECE;
  if (kind == "BPE") return v1::TOKENIZER_KIND_BPE;
  if (kind == "ByteLevelBPE") return v1::TOKENIZER_KIND_BYTE_LEVEL_BPE;
  if (kind == "Unigram") return v1::TOKENIZER_KIND_UNIGRAM;
  if (kind == "WordLevel") return v1::TOKENIZER_KIND_WORD_LEVEL;
  return v1::TOKENIZER_KIND_UNSPECIFIED;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

int64_t EstimateTokens(absl::string_view text) { return static_cast<int64_t>(text.size() / 4 + 2); }

absl::StatusOr<engine::Tensor> TensorFromMessage(v1::Tensor& message, absl::string_view path) {
  const std::optional<engine::DataType> dtype = DataTypeFromMessage(message.dtype());
  if (!dtype.has_value()) {
    if (message.dtype() == v1::DATA_TYPE_UNSPECIFIED)
      return InvalidField(Join(path, "dtype"), "is not set");
    if (message.dtype() == v1::DATA_TYPE_INT4) {
      return InvalidField(Join(path, "dtype"), "is DATA_TYPE_INT4, which only weights have");
    }
    return UnknownEnum(Join(path, "dtype"), message.dtype());
  }
  if (*dtype == engine::DataType::kBinary) {
    return InvalidField(Join(path, "dtype"), "is DATA_TYPE_BINARY, which only embeddings have");
  }
  const std::vector<int64_t> shape(message.shape().begin(), message.shape().end());
  if (shape.size() > kMaxRank) {
    return InvalidField(Join(path, "shape"),
                        absl::StrCat("has ", shape.size(), " axes; the limit is ", kMaxRank));
  }
  const int64_t count = engine::NumElements(shape);
  const int64_t size = static_cast<int64_t>(engine::SizeOf(*dtype));
  if (count < 0 || count > std::numeric_limits<int64_t>::max() / size) {
    return InvalidField(Join(path, "shape"), absl::StrCat("is ", engine::ShapeString(shape),
                                                          ", which is negative or too large"));
  }
  if (static_cast<int64_t>(message.data().size()) != count * size) {
    return InvalidField(
        Join(path, "data"),
        absl::StrCat("has ", message.data().size(), " bytes; shape ", engine::ShapeString(shape),
                     " of ", engine::DataTypeName(*dtype), " takes ", count * size));
  }
  if (*dtype == engine::DataType::kBool) {
    const auto bad = std::find_if(message.data().begin(), message.data().end(),
                                  [](char byte) { return byte != 0 && byte != 1; });
    if (bad != message.data().end()) {
      return InvalidField(Join(path, "data"),
                          absl::StrCat("has the byte ", static_cast<uint8_t>(*bad), " at index ",
                                       bad - message.data().begin(), "; a bool is 0 or 1"));
    }
  }
  return engine::Tensor{*dtype, shape, std::move(*message.mutable_data())};
}

void TensorToMessage(engine::Tensor tensor, v1::Tensor* message) {
  message->set_dtype(DataTypeToMessage(tensor.dtype));
  message->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
  message->set_data(std::move(tensor.data));
}

void TimingToMessage(const engine::RequestTimings& timings, absl::Duration total,
                     v1::Timing* message) {
  ToDuration(timings.queue, message->mutable_queue());
  ToDuration(timings.tokenize, message->mutable_tokenize());
  ToDuration(timings.compute, message->mutable_compute());
  ToDuration(total, message->mutable_total());
}

void UsageToMessage(const engine::RequestUsage& usage, v1::Usage* message) {
  message->set_input_tokens(usage.input_tokens);
  message->set_cached_tokens(usage.cached_tokens);
  message->set_output_tokens(usage.output_tokens);
}

absl::Status CheckInputKind(absl::string_view path, bool is_image,
                            const engine::ModelDescription& model) {
  const bool reads_images = model.image_height > 0;
  if (is_image == reads_images) return absl::OkStatus();
  return InvalidField(path, is_image ? "is an image; this model reads text and tokens"
                                     : "is not an image, which is what this model reads");
}

absl::StatusOr<EncodeConversion> EncodeFromMessage(v1::EncodeRequest& message,
                                                   const engine::ModelDescription& model,
                                                   const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckNumInputs("inputs", message.inputs_size(), limits));
  EncodeConversion conversion;
  engine::EncodeRequest& request = conversion.request;
  RETURN_IF_ERROR(EncodeOutputFromMessage(message, model, request));
  RETURN_IF_ERROR(PrefixFromMessage(message, model, request));
  ASSIGN_OR_RETURN(request.truncation,
                   TruncationFromMessage(message.truncation(), "truncation", model.max_tokens));

  const int64_t prefix_bytes = request.prompt.has_value() ? request.prompt->size() : 0;
  bool any_good = false;
  for (int i = 0; i < message.inputs_size(); ++i) {
    auto input =
        EncodeInputFromMessage(*message.mutable_inputs(i), absl::StrCat("inputs[", i, "]"), model);
    conversion.input_status.push_back(input.status());
    if (!input.ok()) {
      request.inputs.push_back(engine::TokenIds());
      continue;
    }
    any_good = true;
    // A longer input is refused or cut, so that none costs more than the model takes.
    const auto [bytes, tokens] = SizeOf(*input, model);
    const int64_t text_bytes = tokens > 0 ? 0 : bytes + prefix_bytes;
    conversion.num_tokens += std::min<int64_t>(tokens + text_bytes / 4 + 2, model.max_tokens);
    request.inputs.push_back(*std::move(input));
  }
  if (!any_good) return conversion.input_status.front();
  return conversion;
}

v1::EncodeResponse EncodeToMessage(engine::EncodeResult result,
                                   const std::vector<absl::Status>& input_status,
                                   const std::string& model, absl::Duration total) {
  v1::EncodeResponse message;
  message.set_model(model);
  TensorToMessage(std::move(result.embeddings), message.mutable_embeddings());
  for (size_t i = 0; i < input_status.size(); ++i) {
    v1::EncodedInput* input = message.add_inputs();
    const engine::EncodedInput& encoded = result.inputs[i];
    const absl::Status& status = input_status[i].ok() ? encoded.status : input_status[i];
    *input->mutable_status() = ToRpcStatus(WithField(status, absl::StrCat("inputs[", i, "]")));
    input->set_row(std::max(encoded.row, 0));
    input->set_num_rows(encoded.num_rows);
    input->set_num_tokens(encoded.num_tokens);
    input->set_original_tokens(encoded.original_tokens);
  }
  for (engine::Tensor& tensor : result.hidden_states) {
    TensorToMessage(std::move(tensor), message.add_hidden_states());
  }
  UsageToMessage(result.usage, message.mutable_usage());
  TimingToMessage(result.timings, total, message.mutable_timing());
  return message;
}

absl::StatusOr<GenerateConversion> GenerateFromMessage(v1::GenerateRequest& message,
                                                       const engine::ModelDescription& model,
                                                       const RequestLimits& limits) {
  GenerateConversion conversion;
  engine::GenerateRequest& request = conversion.request;
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText:
      conversion.num_tokens = EstimateTokens(message.text());
      request.prompt = std::move(*message.mutable_text());
      break;
    case v1::GenerateRequest::kTokens: {
      const auto& ids = message.tokens().ids();
      if (ids.empty())
        return InvalidField("tokens.ids", "is empty; a prompt has at least one token");
      RETURN_IF_ERROR(CheckTokenIds("tokens.ids", ids, model.vocab_size));
      conversion.num_tokens = ids.size();
      request.prompt = engine::TokenIds(ids.begin(), ids.end());
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return InvalidField("prompt", "is not set: one of text, tokens");
  }
  const int32_t max_prompt_tokens = HasSource(model) ? model.max_source_tokens : model.max_tokens;
  RETURN_IF_ERROR(TargetFromMessage(message, model, request, conversion.num_tokens));
  conversion.num_tokens = std::min<int64_t>(
      conversion.num_tokens, max_prompt_tokens + (HasSource(model) ? model.max_tokens : 0));
  RETURN_IF_ERROR(SamplingFromMessage(message.sampling(), model, request));
  RETURN_IF_ERROR(BeamSearchFromMessage(message.beam_search(), request));
  RETURN_IF_ERROR(StoppingFromMessage(*message.mutable_stopping(), model, limits, request));
  RETURN_IF_ERROR(OutputFromMessage(message.output(), request));
  ASSIGN_OR_RETURN(request.truncation,
                   TruncationFromMessage(message.truncation(), "truncation", max_prompt_tokens));
  if (message.has_num_sequences()) {
    RETURN_IF_ERROR(CheckRange("num_sequences", message.num_sequences(), 1, kMaxSequences));
    request.num_sequences = message.num_sequences();
  }
  RETURN_IF_ERROR(CheckRange("priority", message.priority(), -kMaxPriority, kMaxPriority));
  request.priority = message.priority();
  if (message.has_cache_prefix()) request.cache_prefix = message.cache_prefix();
  return conversion;
}

TokenOutput TokenOutputOf(const v1::GenerateRequest& message) {
  const v1::OutputOptions& output = message.output();
  return {.tokens = output.token_ids() || output.has_top_logprobs() || output.cross_attention(),
          .logprobs = output.has_top_logprobs(),
          .num_top = output.top_logprobs(),
          .prompt = output.has_prompt_logprobs(),
          .num_prompt_top = output.prompt_logprobs()};
}

std::vector<v1::GenerateResponse> GenerateToMessages(engine::GenerateStarted started,
                                                     const TokenOutput& output,
                                                     const std::string& request_id,
                                                     const std::string& model) {
  std::vector<v1::GenerateResponse> messages(1);
  v1::GenerateStarted* first = messages[0].mutable_started();
  first->set_request_id(request_id);
  first->set_model(model);
  v1::SamplingParams* sampling = first->mutable_sampling();
  sampling->set_temperature(started.sampling.temperature);
  sampling->set_top_k(started.sampling.top_k);
  sampling->set_top_p(started.sampling.top_p);
  sampling->set_min_p(started.sampling.min_p);
  sampling->set_repetition_penalty(started.sampling.repetition_penalty);
  sampling->set_presence_penalty(started.sampling.presence_penalty);
  sampling->set_frequency_penalty(started.sampling.frequency_penalty);
  sampling->set_no_repeat_ngram_size(started.sampling.no_repeat_ngram_size);
  for (const auto& [id, bias] : started.sampling.logit_bias)
    (*sampling->mutable_logit_bias())[id] = bias;
  sampling->set_seed(started.sampling.seed);
  v1::StoppingCriteria* stopping = first->mutable_stopping();
  stopping->set_max_new_tokens(started.stopping.max_new_tokens);
  stopping->set_min_new_tokens(started.stopping.min_new_tokens);
  for (const std::string& stop : started.stopping.stop) stopping->add_stop(stop);
  for (const int32_t id : started.stopping.stop_token_ids) stopping->add_stop_token_ids(id);
  stopping->set_ignore_eos(started.stopping.ignore_eos);
  v1::BeamSearch* search = first->mutable_beam_search();
  search->set_num_beams(started.beam_search.num_beams);
  search->set_length_penalty(started.beam_search.length_penalty);
  search->set_early_stopping(started.beam_search.early_stopping == engine::EarlyStopping::kTrue);
  search->set_exhaustive(started.beam_search.early_stopping == engine::EarlyStopping::kNever);
  UsageToMessage(started.usage, first->mutable_usage());
  first->set_original_tokens(started.original_tokens);

  if (!output.prompt) return messages;
  for (size_t i = 0; i < started.prompt_tokens.size(); ++i) {
    if (i % kPromptTokensInMessage == 0)
      messages.emplace_back().mutable_chunk()->set_is_prompt(true);
    // Nothing predicts the first token.
    TokenToMessage(std::move(started.prompt_tokens[i]), /*logprob=*/i > 0,
                   i > 0 ? output.num_prompt_top : 0,
                   messages.back().mutable_chunk()->add_tokens());
  }
  return messages;
}

v1::GenerateResponse GenerateToMessage(engine::GenerateChunk chunk, const TokenOutput& output) {
  v1::GenerateResponse message;
  message.mutable_chunk()->set_sequence(chunk.sequence);
  message.mutable_chunk()->set_text(ToValidUtf8(std::move(chunk.text)));
  if (!output.tokens) return message;
  for (engine::GeneratedToken& token : chunk.tokens) {
    TokenToMessage(std::move(token), output.logprobs, output.num_top,
                   message.mutable_chunk()->add_tokens());
  }
  if (!chunk.cross_attention.empty()) {
    const auto num_tokens = static_cast<int64_t>(chunk.tokens.size());
    const auto num_values = static_cast<int64_t>(chunk.cross_attention.size());
    v1::Tensor* tensor = message.mutable_chunk()->mutable_cross_attention();
    tensor->set_dtype(v1::DATA_TYPE_FLOAT32);
    tensor->add_shape(num_tokens);
    tensor->add_shape(num_values / num_tokens);
    tensor->set_data(chunk.cross_attention.data(), num_values * sizeof(float));
  }
  return message;
}

v1::GenerateResponse GenerateToMessage(const engine::GenerateFinished& finished,
                                       absl::Duration total) {
  v1::GenerateResponse message;
  v1::GenerateFinished* last = message.mutable_finished();
  last->set_sequence(finished.sequence);
  switch (finished.reason) {
    case engine::FinishReason::kEos:
      last->set_finish_reason(v1::FINISH_REASON_EOS);
      break;
    case engine::FinishReason::kStopSequence:
      last->set_finish_reason(v1::FINISH_REASON_STOP_SEQUENCE);
      if (const auto* stop = std::get_if<std::string>(&finished.stop_match)) last->set_stop(*stop);
      if (const auto* id = std::get_if<int32_t>(&finished.stop_match)) last->set_stop_token_id(*id);
      break;
    case engine::FinishReason::kLength:
      last->set_finish_reason(v1::FINISH_REASON_LENGTH);
      break;
  }
  if (finished.score.has_value()) last->set_score(*finished.score);
  UsageToMessage(finished.usage, last->mutable_usage());
  TimingToMessage(finished.timings, total, last->mutable_timing());
  ToDuration(finished.timings.time_to_first_token, last->mutable_time_to_first_token());
  return message;
}

absl::StatusOr<AttendConversion> AttendFromMessage(v1::AttendRequest& message,
                                                   const engine::ModelDescription& model) {
  AttendConversion conversion;
  switch (message.source_case()) {
    case v1::AttendRequest::kTensors: {
      ASSIGN_OR_RETURN(conversion.request.source, TensorsFromMessage(*message.mutable_tensors()));
      return conversion;
    }
    case v1::AttendRequest::kLayer: {
      ASSIGN_OR_RETURN(conversion.request.source, LayerFromMessage(*message.mutable_layer()));
      return conversion;
    }
    case v1::AttendRequest::kModel:
      return MapsFromMessage(*message.mutable_model(), model);
    case v1::AttendRequest::SOURCE_NOT_SET:
      break;
  }
  return InvalidField("source", "is not set: one of tensors, layer, model");
}

v1::AttendResponse AttendToMessage(engine::AttendStarted started, const std::string& request_id,
                                   const std::string& model) {
  v1::AttendResponse message;
  v1::AttendStarted* first = message.mutable_started();
  first->set_request_id(request_id);
  first->set_model(model);
  if (started.patch_grid.rows > 0) {
    first->mutable_patch_grid()->set_rows(started.patch_grid.rows);
    first->mutable_patch_grid()->set_columns(started.patch_grid.columns);
    first->mutable_patch_grid()->set_num_prefix_tokens(started.patch_grid.num_prefix_tokens);
  }
  for (std::string& token : started.query_tokens) {
    first->add_query_tokens(ToValidUtf8(std::move(token)));
  }
  for (std::string& token : started.key_tokens) {
    first->add_key_tokens(ToValidUtf8(std::move(token)));
  }
  first->mutable_output_shape()->Assign(started.output_shape.begin(), started.output_shape.end());
  first->mutable_weights_shape()->Assign(started.weights_shape.begin(),
                                         started.weights_shape.end());
  first->mutable_lse_shape()->Assign(started.lse_shape.begin(), started.lse_shape.end());
  return message;
}

v1::AttendResponse AttendToMessage(engine::AttendBlock block) {
  v1::AttendResponse message;
  v1::AttendBlock* part = message.mutable_block();
  part->set_kind(KindToMessage(block.attention));
  part->set_layer(block.layer);
  part->set_batch(static_cast<int32_t>(block.batch));
  if (block.head_end > block.head_begin) {
    RangeToMessage(block.head_begin, block.head_end, part->mutable_heads());
  }
  RangeToMessage(block.query_begin, block.query_end, part->mutable_queries());
  switch (block.kind) {
    case engine::AttendOutput::kOutput:
      TensorToMessage(std::move(block.tensor), part->mutable_output());
      break;
    case engine::AttendOutput::kWeights:
      TensorToMessage(std::move(block.tensor), part->mutable_weights());
      break;
    case engine::AttendOutput::kLogSumExp:
      TensorToMessage(std::move(block.tensor), part->mutable_lse());
      break;
  }
  if (!block.keys.shape.empty()) TensorToMessage(std::move(block.keys), part->mutable_keys());
  return message;
}

v1::Model ModelToMessage(const engine::ModelDescription& model) {
  v1::Model message;
  message.set_name(model.name);
  message.set_architecture(model.architecture);
  if (model.kind == "encoder") message.set_stack(v1::MODEL_STACK_ENCODER);
  if (model.kind == "decoder") message.set_stack(v1::MODEL_STACK_DECODER);
  if (model.kind == "encoder-decoder") message.set_stack(v1::MODEL_STACK_ENCODER_DECODER);
  message.set_num_parameters(model.num_parameters);
  message.set_dtype(DataTypeToMessage(model.dtype));
  message.set_weights_bytes(model.weight_bytes);
  message.set_max_tokens(model.max_tokens);
  message.set_embedding_size(model.can_encode ? model.embedding_size : 0);
  message.set_num_layers(model.num_layers);
  message.set_hidden_size(model.hidden_size);
  message.set_num_attention_heads(model.num_heads);
  message.set_num_key_value_heads(model.num_key_value_heads);
  message.set_vocab_size(model.vocab_size);
  if (model.can_encode) message.add_heads(v1::MODEL_HEAD_EMBEDDING);
  for (const std::string& head : model.heads) {
    if (head == "lm") message.add_heads(v1::MODEL_HEAD_LANGUAGE_MODEL);
  }
  if (model.can_fill_mask) message.add_heads(v1::MODEL_HEAD_MASKED_LANGUAGE_MODEL);
  if (model.can_classify) {
    message.add_heads(model.image_height > 0 ? v1::MODEL_HEAD_IMAGE_CLASSIFICATION
                      : model.labels_tokens  ? v1::MODEL_HEAD_TOKEN_CLASSIFICATION
                                             : v1::MODEL_HEAD_SEQUENCE_CLASSIFICATION);
  }
  if (model.can_answer) message.add_heads(v1::MODEL_HEAD_QUESTION_ANSWERING);
  if (model.can_rank) message.add_heads(v1::MODEL_HEAD_RANKING);
  message.set_tokenizer(TokenizerKindToMessage(model.tokenizer_kind));
  for (std::string& rpc : ServedRpcs(model)) message.add_rpcs(std::move(rpc));
  if (model.can_encode) {
    message.set_pooling(PoolingToMessage(model.default_pooling));
    message.set_normalize(model.default_normalize);
  }
  for (const auto& [name, prompt] : model.prompts) (*message.mutable_prompts())[name] = prompt;
  message.set_max_source_tokens(model.max_source_tokens);
  message.set_target_vocab_size(model.target_vocab_size);
  message.mutable_languages()->Assign(model.languages.begin(), model.languages.end());
  if (model.image_height > 0) {
    v1::ImageInput& image = *message.mutable_image();
    image.set_height(model.image_height);
    image.set_width(model.image_width);
    image.set_patch_height(model.patch_height);
    image.set_patch_width(model.patch_width);
  }
  return message;
}

v1::TokenizedInput TokenizedToMessage(const engine::TokenizedText& text) {
  v1::TokenizedInput message;
  message.mutable_status();
  message.mutable_tokens()->Reserve(text.ids.size());
  for (size_t i = 0; i < text.ids.size(); ++i) {
    v1::TextToken* token = message.add_tokens();
    token->set_id(text.ids[i]);
    token->set_token(ToValidUtf8(text.tokens[i]));
    token->mutable_span()->set_byte_start(text.byte_offsets[i].first);
    token->mutable_span()->set_byte_end(text.byte_offsets[i].second);
    token->mutable_span()->set_char_start(text.code_point_offsets[i].first);
    token->mutable_span()->set_char_end(text.code_point_offsets[i].second);
    token->set_special(text.special[i]);
    if (i < text.type_ids.size()) token->set_segment(text.type_ids[i]);
  }
  message.set_original_tokens(text.ids.size());
  return message;
}

}  // namespace attendant::server
