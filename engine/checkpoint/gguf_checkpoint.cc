#include "engine/checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/messages.h"

namespace attendant::engine {
namespace {

// llama.cpp rotates neighbouring rows (2i, 2i + 1) of a head's projection; Hugging Face rotates
// rows i and i + head_dim / 2. Files made for the former hold the query and key rows in the
// former's order.
enum class RowOrder { kAsStored, kQueryHeads, kKeyHeads };

struct NamePair {
  absl::string_view gguf;
  absl::string_view hugging_face;
  RowOrder order = RowOrder::kAsStored;
};

constexpr NamePair kModelNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Behind "blk.N." and "model.layers.N.".
constexpr NamePair kLayerNames[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight", RowOrder::kQueryHeads},
    {"attn_q.bias", "self_attn.q_proj.bias", RowOrder::kQueryHeads},
    {"attn_k.weight", "self_attn.k_proj.weight", RowOrder::kKeyHeads},
    {"attn_k.bias", "self_attn.k_proj.bias", RowOrder::kKeyHeads},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_v.bias", "self_attn.v_proj.bias"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_output.bias", "self_attn.o_proj.bias"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_gate.bias", "mlp.gate_proj.bias"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_up.bias", "mlp.up_proj.bias"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
    {"ffn_down.bias", "mlp.down_proj.bias"},
};

constexpr absl::string_view kRopeFactors = "rope_freqs.weight";

// The sizes of the model, as its metadata give them.
struct LlamaSizes {
  int64_t num_hidden_layers = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double rope_theta = 0;
};

// The shortest decimal that reads back as `value`; metadata floats are single.
std::string JsonNumber(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), static_cast<float>(value)).ptr;
  return std::string(buffer, end);
}

std::string JsonObject(const std::vector<std::string>& members) {
  return absl::StrCat("{\n  ", absl::StrJoin(members, ",\n  "), "\n}\n");
}

template <typename Value>
std::string Member(absl::string_view key, const Value& json) {
  return absl::StrCat("\"", key, "\": ", json);
}

// The `rope_scaling` of Llama 3, which slows down the low frequencies: converters store not its
// parameters but the divisor of each frequency that follows from them, for the parameters that
// every such model has but `factor`.
constexpr double kLlama3LowFrequencyFactor = 1.0;
constexpr double kLlama3HighFrequencyFactor = 4.0;
constexpr int64_t kLlama3OriginalPositions = 8192;

double Llama3Divisor(double factor, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < kLlama3OriginalPositions / kLlama3HighFrequencyFactor) return 1.0;
  if (wavelength > kLlama3OriginalPositions / kLlama3LowFrequencyFactor) return factor;
  const double smooth = (kLlama3OriginalPositions / wavelength - kLlama3LowFrequencyFactor) /
                        (kLlama3HighFrequencyFactor - kLlama3LowFrequencyFactor);
  return 1.0 / ((1.0 - smooth) / factor + smooth);
}

class GgufCheckpoint : public Checkpoint {
 public:
  explicit GgufCheckpoint(GgufFile file) : file_(std::move(file)) {}

  absl::Status Open();

  const std::string& path() const override { return file_.name(); }
  const std::string& config_json() const override { return config_json_; }
  absl::StatusOr<std::optional<std::string>> ReadFile(absl::string_view name) const override {
    if (name == "generation_config.json") return generation_config_json_;
    return std::nullopt;
  }
  const GgufVocabulary* gguf_vocabulary() const override {
    return vocabulary_.has_value() ? &*vocabulary_ : nullptr;
  }

  std::vector<std::string> TensorNames() const override {
    std::vector<std::string> names;
    names.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

  std::optional<std::vector<int64_t>> TensorShape(absl::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return found->second.stored->shape;
  }

  std::string TensorFormat(absl::string_view name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::string()
                                   : std::string(found->second.stored->format->name);
  }

  absl::Status ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                          absl::Span<float> output) const override;

  std::optional<Quantization> TensorQuantization(absl::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end() || found->second.stored->format->bits == 0) return std::nullopt;
    const GgufFile::Tensor& stored = *found->second.stored;
    return Quantization{
        .bits = stored.format->bits,
        .has_minimums = stored.format->has_minimums,
        .in_groups = stored.format->take_apart != nullptr && stored.shape.size() == 2};
  }

  absl::Status AppendQuantized(absl::string_view name, absl::Span<const int64_t> shape,
                               QuantizedMatrix& matrix) const override;

  void Release(absl::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found != tensors_.end()) file_.Release(*found->second.stored);
  }

  std::string Fingerprint() const override { return file_.Fingerprint(); }
  int64_t size_bytes() const override { return file_.size_bytes(); }

 private:
  struct NamedTensor {
    const GgufFile::Tensor* stored;
    absl::string_view stored_name;
    int64_t num_interleaved_heads;  // whose rows are in llama.cpp's order; 0 if none are
  };

  // The tensor, if it has the shape, and a format that is read.
  absl::StatusOr<const NamedTensor*> Find(absl::string_view name,
                                          absl::Span<const int64_t> shape) const;
  // read(blocks, num_blocks) for the runs of blocks of the tensor, in the order of its rows.
  template <typename Read>
  void ForEachRun(const NamedTensor& tensor, const Read& read) const;
  static std::string BothNames(absl::string_view name, const NamedTensor& tensor) {
    return absl::StrCat(name, " (", Printable(tensor.stored_name), " in the file)");
  }

  absl::Status Malformed(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_.name(), ": ", what));
  }
  absl::Status Unimplemented(absl::string_view what) const {
    return absl::UnimplementedError(absl::StrCat(file_.name(), ": ", what));
  }

  absl::StatusOr<int64_t> Size(absl::string_view key, std::optional<int64_t> absent) const;
  absl::StatusOr<double> PositiveFloat(absl::string_view key, std::optional<double> absent) const;

  absl::Status ReadSizes();
  absl::Status NameTensors();
  absl::Status NameTensor(absl::string_view stored_name, const GgufFile::Tensor& stored);
  absl::Status ReadVocabulary();
  absl::StatusOr<std::optional<int32_t>> SpecialId(absl::string_view key) const;
  absl::Status MakeConfig();
  absl::Status MakeGenerationConfig();
  // The JSON of `rope_scaling`; nothing if positions are not scaled.
  absl::StatusOr<std::optional<std::string>> RopeScaling() const;
  absl::StatusOr<std::string> Llama3Scaling(const GgufFile::Tensor& divisors) const;

  GgufFile file_;
  LlamaSizes sizes_;
  std::string config_json_;
  std::string generation_config_json_;
  std::optional<GgufVocabulary> vocabulary_;
  absl::btree_map<std::string, NamedTensor> tensors_;  // by Hugging Face's names
};

absl::Status GgufCheckpoint::Open() {
  ASSIGN_OR_RETURN(const std::optional<std::string> architecture,
                   file_.GetString("general.architecture"));
  if (!architecture.has_value()) return Malformed("general.architecture is missing");
  if (*architecture != "llama") {
    return Unimplemented(absl::StrCat("general.architecture is \"", Printable(*architecture),
                                      "\"; GGUF files of \"llama\" are read"));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> num_experts,
                   file_.GetInteger("llama.expert_count"));
  if (num_experts.value_or(0) != 0) {
    return Unimplemented(
        absl::StrCat("llama.expert_count is ", *num_experts, "; mixtures of experts are not read"));
  }
  RETURN_IF_ERROR(ReadSizes());
  RETURN_IF_ERROR(NameTensors());
  RETURN_IF_ERROR(ReadVocabulary());
  RETURN_IF_ERROR(MakeConfig());
  return MakeGenerationConfig();
}

// An extent: positive, and no more than an int32 holds.
absl::StatusOr<int64_t> GgufCheckpoint::Size(absl::string_view key,
                                             std::optional<int64_t> absent) const {
  ASSIGN_OR_RETURN(const std::optional<int64_t> given, file_.GetInteger(key));
  const std::optional<int64_t> value = given.has_value() ? given : absent;
  if (!value.has_value()) return Malformed(absl::StrCat(key, " is missing"));
  if (*value < 1 || *value > std::numeric_limits<int32_t>::max()) {
    return Malformed(
        absl::StrCat(key, " is ", *value, "; expected 1 to ", std::numeric_limits<int32_t>::max()));
  }
  return *value;
}

absl::StatusOr<double> GgufCheckpoint::PositiveFloat(absl::string_view key,
                                                     std::optional<double> absent) const {
  ASSIGN_OR_RETURN(const std::optional<double> given, file_.GetFloat(key));
  const std::optional<double> value = given.has_value() ? given : absent;
  if (!value.has_value()) return Malformed(absl::StrCat(key, " is missing"));
  if (!(*value > 0 && *value <= std::numeric_limits<float>::max())) {
    return Malformed(absl::StrCat(key, " is ", *value, "; expected a positive number"));
  }
  return *value;
}

absl::Status GgufCheckpoint::ReadSizes() {
  ASSIGN_OR_RETURN(sizes_.num_hidden_layers, Size("llama.block_count", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.hidden_size, Size("llama.embedding_length", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.intermediate_size, Size("llama.feed_forward_length", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.num_attention_heads, Size("llama.attention.head_count", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.num_key_value_heads,
                   Size("llama.attention.head_count_kv", sizes_.num_attention_heads));
  ASSIGN_OR_RETURN(sizes_.head_dim, Size("llama.attention.key_length",
                                         sizes_.hidden_size / sizes_.num_attention_heads));
  ASSIGN_OR_RETURN(const int64_t value_length,
                   Size("llama.attention.value_length", sizes_.head_dim));
  ASSIGN_OR_RETURN(const int64_t rotary_dim, Size("llama.rope.dimension_count", sizes_.head_dim));
  if (value_length != sizes_.head_dim || rotary_dim != sizes_.head_dim) {
    return Unimplemented(absl::StrCat("the heads have keys of ", sizes_.head_dim, " values, ",
                                      rotary_dim, " of them rotated, and values of ", value_length,
                                      "; expected the three to be equal"));
  }
  if (sizes_.head_dim % 2 != 0) {
    return Malformed(
        absl::StrCat("the heads have ", sizes_.head_dim, " values; rotation takes an even number"));
  }
  ASSIGN_OR_RETURN(sizes_.max_position_embeddings, Size("llama.context_length", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.rms_norm_eps,
                   PositiveFloat("llama.attention.layer_norm_rms_epsilon", std::nullopt));
  ASSIGN_OR_RETURN(sizes_.rope_theta, PositiveFloat("llama.rope.freq_base", 10000.0));
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::NameTensors() {
  for (const auto& [name, tensor] : file_.tensors()) RETURN_IF_ERROR(NameTensor(name, tensor));
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::NameTensor(absl::string_view stored_name,
                                        const GgufFile::Tensor& stored) {
  if (stored_name == kRopeFactors) return absl::OkStatus();  // it goes into config.json
  for (const NamePair& pair : kModelNames) {
    if (pair.gguf != stored_name) continue;
    tensors_[std::string(pair.hugging_face)] = {&stored, stored_name, 0};
    return absl::OkStatus();
  }

  absl::string_view rest = stored_name;
  const bool in_layer = absl::ConsumePrefix(&rest, "blk.");
  const size_t dot = rest.find('.');
  int64_t layer;
  if (in_layer && dot != absl::string_view::npos && absl::SimpleAtoi(rest.substr(0, dot), &layer) &&
      absl::StrCat(layer) == rest.substr(0, dot)) {
    if (layer < 0 || layer >= sizes_.num_hidden_layers) {
      return Malformed(absl::StrCat("tensor ", Printable(stored_name), ": llama.block_count is ",
                                    sizes_.num_hidden_layers));
    }
    rest.remove_prefix(dot + 1);
    for (const NamePair& pair : kLayerNames) {
      if (pair.gguf != rest) continue;
      const int64_t num_heads = pair.order == RowOrder::kQueryHeads ? sizes_.num_attention_heads
                                : pair.order == RowOrder::kKeyHeads ? sizes_.num_key_value_heads
                                                                    : 0;
      if (num_heads > 0) {
        const bool is_bias = absl::EndsWith(rest, ".bias");
        std::vector<int64_t> expected = {num_heads * sizes_.head_dim};
        if (!is_bias) expected.push_back(sizes_.hidden_size);
        RETURN_IF_ERROR(CheckShape(file_.name(), stored_name, stored.shape, expected));
        if (is_bias && stored.format->block_size != 1) {
          return Unimplemented(absl::StrCat("tensor ", Printable(stored_name), " is stored as ",
                                            stored.format->name, "; biases are read unquantized"));
        }
      }
      tensors_[absl::StrCat("model.layers.", layer, ".", pair.hugging_face)] = {
          &stored, stored_name, num_heads};
      return absl::OkStatus();
    }
  }
  // Leaving it out could change what the model computes.
  return Unimplemented(
      absl::StrCat("tensor ", Printable(stored_name), " is not one that a Llama model has"));
}

absl::StatusOr<std::optional<int32_t>> GgufCheckpoint::SpecialId(absl::string_view key) const {
  ASSIGN_OR_RETURN(const std::optional<int64_t> id, file_.GetInteger(key));
  if (!id.has_value()) return std::nullopt;
  const int64_t end = vocabulary_.has_value() ? static_cast<int64_t>(vocabulary_->tokens.size())
                                              : std::numeric_limits<int32_t>::max();
  if (*id < 0 || *id >= end) {
    return Malformed(absl::StrCat(key, " is ", *id, "; the vocabulary has ", end, " tokens"));
  }
  return static_cast<int32_t>(*id);
}

absl::Status GgufCheckpoint::ReadVocabulary() {
  ASSIGN_OR_RETURN(std::optional<std::vector<std::string>> tokens,
                   file_.GetStrings("tokenizer.ggml.tokens"));
  if (!tokens.has_value()) return absl::OkStatus();
  if (tokens->size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return Malformed(absl::StrCat("tokenizer.ggml.tokens has ", tokens->size(), " entries"));
  }
  GgufVocabulary& vocabulary = vocabulary_.emplace();
  vocabulary.tokens = *std::move(tokens);

  const auto check_count = [&](absl::string_view key, size_t count) {
    if (count == vocabulary.tokens.size()) return absl::OkStatus();
    return Malformed(absl::StrCat(key, " has ", count, " entries; tokenizer.ggml.tokens has ",
                                  vocabulary.tokens.size()));
  };
  ASSIGN_OR_RETURN(std::optional<std::string> model, file_.GetString("tokenizer.ggml.model"));
  if (!model.has_value()) return Malformed("tokenizer.ggml.model is missing");
  vocabulary.model = *std::move(model);
  ASSIGN_OR_RETURN(std::optional<std::string> pre, file_.GetString("tokenizer.ggml.pre"));
  vocabulary.pre = std::move(pre).value_or("");
  ASSIGN_OR_RETURN(const auto scores, file_.GetFloats("tokenizer.ggml.scores"));
  if (scores.has_value()) {
    RETURN_IF_ERROR(check_count("tokenizer.ggml.scores", scores->size()));
    vocabulary.scores.assign(scores->begin(), scores->end());
  }
  ASSIGN_OR_RETURN(const auto types, file_.GetIntegers("tokenizer.ggml.token_type"));
  if (types.has_value()) {
    RETURN_IF_ERROR(check_count("tokenizer.ggml.token_type", types->size()));
    vocabulary.token_types.assign(types->begin(), types->end());
  }
  ASSIGN_OR_RETURN(std::optional<std::vector<std::string>> merges,
                   file_.GetStrings("tokenizer.ggml.merges"));
  vocabulary.merges = std::move(merges).value_or(std::vector<std::string>());
  ASSIGN_OR_RETURN(vocabulary.bos_id, SpecialId("tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(vocabulary.eos_id, SpecialId("tokenizer.ggml.eos_token_id"));
  ASSIGN_OR_RETURN(vocabulary.unknown_id, SpecialId("tokenizer.ggml.unknown_token_id"));
  ASSIGN_OR_RETURN(vocabulary.add_bos, file_.GetBool("tokenizer.ggml.add_bos_token"));
  ASSIGN_OR_RETURN(vocabulary.add_eos, file_.GetBool("tokenizer.ggml.add_eos_token"));
  ASSIGN_OR_RETURN(vocabulary.add_space_prefix, file_.GetBool("tokenizer.ggml.add_space_prefix"));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> GgufCheckpoint::RopeScaling() const {
  ASSIGN_OR_RETURN(const std::optional<std::string> given,
                   file_.GetString("llama.rope.scaling.type"));
  const std::string type = given.value_or("none");
  if (const GgufFile::Tensor* divisors = file_.Find(kRopeFactors)) {
    if (type != "none") {
      return Unimplemented(absl::StrCat("it has both ", kRopeFactors,
                                        " and llama.rope.scaling.type \"", Printable(type), "\""));
    }
    return Llama3Scaling(*divisors);
  }
  if (type == "none") return std::nullopt;
  ASSIGN_OR_RETURN(const double factor, PositiveFloat("llama.rope.scaling.factor", std::nullopt));
  if (type == "linear") {
    return absl::StrCat(R"({"rope_type": "linear", "factor": )", JsonNumber(factor), "}");
  }
  if (type == "yarn") {
    ASSIGN_OR_RETURN(const int64_t original, Size("llama.rope.scaling.original_context_length",
                                                  sizes_.max_position_embeddings));
    return absl::StrCat(R"({"rope_type": "yarn", "factor": )", JsonNumber(factor),
                        R"(, "original_max_position_embeddings": )", original, "}");
  }
  return Unimplemented(absl::StrCat("llama.rope.scaling.type is \"", Printable(type),
                                    "\"; none, linear and yarn are read"));
}

absl::StatusOr<std::string> GgufCheckpoint::Llama3Scaling(const GgufFile::Tensor& divisors) const {
  const int64_t expected_shape[] = {sizes_.head_dim / 2};
  RETURN_IF_ERROR(CheckShape(file_.name(), kRopeFactors, divisors.shape, expected_shape));
  if (divisors.format->name != "F32") {
    return Unimplemented(absl::StrCat("tensor ", kRopeFactors, " is stored as ",
                                      divisors.format->name, "; expected F32"));
  }
  std::vector<float> stored(expected_shape[0]);
  divisors.format->widen(divisors.data.data(), expected_shape[0], stored.data());
  const double factor = *std::max_element(stored.begin(), stored.end());
  for (int64_t i = 0; i < expected_shape[0]; ++i) {
    const double frequency =
        std::pow(sizes_.rope_theta, -2.0 * static_cast<double>(i) / sizes_.head_dim);
    const double expected = Llama3Divisor(factor, frequency);
    // The stored divisors were computed in single precision.
    if (!(std::abs(stored[i] - expected) <= 1e-4 * expected)) {
      return Unimplemented(absl::StrCat("tensor ", kRopeFactors, " holds ", stored[i], " at ", i,
                                        " where Llama 3's scaling by ", factor, " has ", expected,
                                        "; no other scaling by frequency is read"));
    }
  }
  return absl::StrCat(R"({"rope_type": "llama3", "factor": )", JsonNumber(factor),
                      R"(, "low_freq_factor": )", JsonNumber(kLlama3LowFrequencyFactor),
                      R"(, "high_freq_factor": )", JsonNumber(kLlama3HighFrequencyFactor),
                      R"(, "original_max_position_embeddings": )", kLlama3OriginalPositions, "}");
}

absl::Status GgufCheckpoint::MakeConfig() {
  const auto embedding = tensors_.find("model.embed_tokens.weight");
  if (embedding == tensors_.end()) return NoSuchTensor(file_.name(), "token_embd.weight");
  const GgufFile::Tensor& stored = *embedding->second.stored;
  const int64_t rows = stored.shape.empty() ? 0 : stored.shape[0];
  const int64_t num_tokens =
      vocabulary_.has_value() ? static_cast<int64_t>(vocabulary_->tokens.size()) : rows;
  ASSIGN_OR_RETURN(const int64_t vocab_size, Size("llama.vocab_size", num_tokens));
  const int64_t expected_shape[] = {vocab_size, sizes_.hidden_size};
  RETURN_IF_ERROR(CheckShape(file_.name(), "token_embd.weight", stored.shape, expected_shape));
  if (num_tokens > vocab_size) {
    return Malformed(absl::StrCat("tokenizer.ggml.tokens has ", num_tokens,
                                  " entries; llama.vocab_size is ", vocab_size));
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> rope_scaling, RopeScaling());

  const absl::string_view format = stored.format->name;
  std::vector<std::string> members = {
      Member("model_type", "\"llama\""),
      Member("architectures", "[\"LlamaForCausalLM\"]"),
      Member("hidden_act", "\"silu\""),
      Member("hidden_size", sizes_.hidden_size),
      Member("intermediate_size", sizes_.intermediate_size),
      Member("num_hidden_layers", sizes_.num_hidden_layers),
      Member("num_attention_heads", sizes_.num_attention_heads),
      Member("num_key_value_heads", sizes_.num_key_value_heads),
      Member("head_dim", sizes_.head_dim),
      Member("max_position_embeddings", sizes_.max_position_embeddings),
      Member("vocab_size", vocab_size),
      Member("rms_norm_eps", JsonNumber(sizes_.rms_norm_eps)),
      Member("rope_theta", JsonNumber(sizes_.rope_theta)),
      Member("rope_scaling", rope_scaling.value_or("null")),
      Member("attention_bias",
             tensors_.contains("model.layers.0.self_attn.q_proj.bias") ? "true" : "false"),
      Member("mlp_bias", tensors_.contains("model.layers.0.mlp.up_proj.bias") ? "true" : "false"),
      Member("tie_word_embeddings", tensors_.contains("lm_head.weight") ? "false" : "true"),
      Member("torch_dtype", format == "F32"    ? "\"float32\""
                            : format == "BF16" ? "\"bfloat16\""
                                               : "\"float16\""),
  };
  ASSIGN_OR_RETURN(const std::optional<int32_t> bos_id, SpecialId("tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(const std::optional<int32_t> eos_id, SpecialId("tokenizer.ggml.eos_token_id"));
  if (bos_id.has_value()) members.push_back(Member("bos_token_id", *bos_id));
  if (eos_id.has_value()) members.push_back(Member("eos_token_id", *eos_id));
  config_json_ = JsonObject(members);
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::MakeGenerationConfig() {
  std::vector<std::string> members;
  ASSIGN_OR_RETURN(const std::optional<int32_t> bos_id, SpecialId("tokenizer.ggml.bos_token_id"));
  if (bos_id.has_value()) members.push_back(Member("bos_token_id", *bos_id));
  // The end of the text, and that of a chat's turn.
  std::vector<int32_t> eos_ids;
  for (const absl::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    ASSIGN_OR_RETURN(const std::optional<int32_t> id, SpecialId(key));
    if (id.has_value() && !std::count(eos_ids.begin(), eos_ids.end(), *id)) {
      eos_ids.push_back(*id);
    }
  }
  if (!eos_ids.empty()) {
    members.push_back(Member("eos_token_id", absl::StrCat("[", absl::StrJoin(eos_ids, ", "), "]")));
  }
  generation_config_json_ = JsonObject(members);
  return absl::OkStatus();
}

absl::StatusOr<const GgufCheckpoint::NamedTensor*> GgufCheckpoint::Find(
    absl::string_view name, absl::Span<const int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return NoSuchTensor(file_.name(), name);
  const NamedTensor& tensor = found->second;
  const std::string both_names = BothNames(name, tensor);
  RETURN_IF_ERROR(CheckShape(file_.name(), both_names, tensor.stored->shape, shape));
  if (tensor.stored->format->widen == nullptr) {
    return Unimplemented(absl::StrCat("tensor ", both_names, " is stored as ",
                                      tensor.stored->format->name, ", which is not read"));
  }
  return &tensor;
}

template <typename Read>
void GgufCheckpoint::ForEachRun(const NamedTensor& tensor, const Read& read) const {
  const GgufFile::Tensor& stored = *tensor.stored;
  const int64_t num_blocks = NumElements(stored.shape) / stored.format->block_size;
  const std::byte* data = stored.data.data();
  if (tensor.num_interleaved_heads == 0) return read(data, num_blocks);
  // Row i of the first half of a head was stored as its row 2i, row i of the second half as 2i + 1.
  const int64_t half = sizes_.head_dim / 2;
  const int64_t row_blocks = num_blocks / (tensor.num_interleaved_heads * sizes_.head_dim);
  for (int64_t head = 0; head < tensor.num_interleaved_heads; ++head) {
    for (int64_t i = 0; i < sizes_.head_dim; ++i) {
      const int64_t row = head * sizes_.head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
      read(data + row * row_blocks * stored.format->block_bytes, row_blocks);
    }
  }
}

absl::Status GgufCheckpoint::ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                                        absl::Span<float> output) const {
  ASSIGN_OR_RETURN(const NamedTensor* tensor, Find(name, shape));
  CHECK_EQ(NumElements(shape), static_cast<int64_t>(output.size())) << "output must fit " << name;
  const StorageFormat& format = *tensor->stored->format;
  float* values = output.data();
  ForEachRun(*tensor, [&](const std::byte* blocks, int64_t num_blocks) {
    format.widen(blocks, num_blocks, values);
    values += num_blocks * format.block_size;
  });
  return absl::OkStatus();
}

absl::Status GgufCheckpoint::AppendQuantized(absl::string_view name,
                                             absl::Span<const int64_t> shape,
                                             QuantizedMatrix& matrix) const {
  ASSIGN_OR_RETURN(const NamedTensor* tensor, Find(name, shape));
  const StorageFormat& format = *tensor->stored->format;
  CHECK(format.take_apart != nullptr && shape.size() == 2) << name;
  CHECK(format.bits == matrix.bits && shape[1] == matrix.cols) << name;
  const size_t first_quant = matrix.quants.size(), first_group = matrix.scales.size();
  CHECK(format.has_minimums == matrix.has_minimums() || matrix.rows == 0) << name;
  const size_t num_groups = NumElements(shape) / kQuantizationGroup;
  matrix.rows += shape[0];
  matrix.quants.resize(first_quant + NumElements(shape));
  matrix.scales.resize(first_group + num_groups);
  if (format.has_minimums) matrix.minimums.resize(first_group + num_groups);
  uint8_t* quants = matrix.quants.data() + first_quant;
  uint16_t* scales = matrix.scales.data() + first_group;
  uint16_t* minimums = format.has_minimums ? matrix.minimums.data() + first_group : nullptr;
  ForEachRun(*tensor, [&](const std::byte* blocks, int64_t num_blocks) {
    format.take_apart(blocks, num_blocks, quants, scales, minimums);
    const int64_t num_values = num_blocks * format.block_size;
    quants += num_values;
    scales += num_values / kQuantizationGroup;
    if (minimums != nullptr) minimums += num_values / kQuantizationGroup;
  });
  const auto is_finite = [](uint16_t half) { return (half & 0x7c00) != 0x7c00; };
  if (!std::all_of(matrix.scales.begin() + first_group, matrix.scales.end(), is_finite) ||
      (format.has_minimums &&
       !std::all_of(matrix.minimums.begin() + first_group, matrix.minimums.end(), is_finite))) {
    return Malformed(absl::StrCat("tensor ", BothNames(name, *tensor),
                                  " holds a scale that is infinite or NaN"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path) {
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  return MakeGgufCheckpoint(std::move(file));
}

absl::StatusOr<std::unique_ptr<Checkpoint>> MakeGgufCheckpoint(GgufFile file) {
  auto checkpoint = std::make_unique<GgufCheckpoint>(std::move(file));
  RETURN_IF_ERROR(checkpoint->Open());
  return checkpoint;
}

}  // namespace attendant::engine
