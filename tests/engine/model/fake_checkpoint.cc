#include "tests/engine/model/fake_checkpoint.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/tensor.h"

namespace attendant::engine {
namespace {

constexpr int kNumLayers = 3;

std::string Layer(absl::string_view before, int layer, absl::string_view after) {
  return absl::StrCat(before, layer, ".", after);
}

}  // namespace

void FakeCheckpoint::Add(const std::string& name, std::vector<int64_t> shape, float spread,
                         float center) {
  std::seed_seq seed(name.begin(), name.end());
  std::mt19937 random(seed);
  FakeTensor tensor;
  tensor.values.resize(NumElements(shape));
  for (float& value : tensor.values) {
    const float unit = static_cast<float>(random() % (1 << 20)) / (1 << 20);  // [0, 1)
    value = center + spread * (2 * unit - 1);
  }
  tensor.shape = std::move(shape);
  tensors[name] = std::move(tensor);
}

void FakeCheckpoint::SetConfig(absl::string_view key, absl::string_view json) {
  // Configs here are flat, one field a line: `  "key": value,`, and end with a field of their own.
  const std::string begin = absl::StrCat("\"", key, "\": ");
  if (const size_t at = config.find(begin); at != std::string::npos) {
    config.erase(at, config.find('\n', at) + 1 - at);
  }
  if (!json.empty()) config.insert(2, absl::StrCat(begin, json, ",\n"));
}

void FakeCheckpoint::RemovePrefix(absl::string_view prefix) {
  std::map<std::string, FakeTensor> renamed;
  for (auto& [name, tensor] : tensors) {
    const size_t begin = absl::StartsWith(name, prefix) ? prefix.size() : 0;
    renamed[name.substr(begin)] = std::move(tensor);
  }
  tensors = std::move(renamed);
}

void FakeCheckpoint::AddPrefix(absl::string_view prefix) {
  std::map<std::string, FakeTensor> renamed;
  for (auto& [name, tensor] : tensors) renamed[absl::StrCat(prefix, name)] = std::move(tensor);
  tensors = std::move(renamed);
}

absl::StatusOr<std::optional<std::string>> FakeCheckpoint::ReadFile(absl::string_view name) const {
  const auto file = files.find(std::string(name));
  if (file == files.end()) return std::nullopt;
  return file->second;
}

std::vector<std::string> FakeCheckpoint::TensorNames() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

std::optional<std::vector<int64_t>> FakeCheckpoint::TensorShape(absl::string_view name) const {
  const auto tensor = tensors.find(std::string(name));
  if (tensor == tensors.end()) return std::nullopt;
  return tensor->second.shape;
}

std::string FakeCheckpoint::TensorFormat(absl::string_view name) const {
  return TensorShape(name) ? "F32" : "";
}

absl::Status FakeCheckpoint::ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                                        absl::Span<float> output) const {
  const FakeTensor& tensor = tensors.at(std::string(name));
  CHECK(absl::MakeConstSpan(tensor.shape) == shape) << name;
  CHECK_EQ(tensor.values.size(), output.size()) << name;
  std::copy(tensor.values.begin(), tensor.values.end(), output.begin());
  return absl::OkStatus();
}

FakeCheckpoint TinyBert() {
  FakeCheckpoint bert;
  bert.config = R"({
"model_type": "bert",
"architectures": ["BertModel"],
"vocab_size": 61,
"hidden_size": 42,
"num_hidden_layers": 3,
"num_attention_heads": 3,
"intermediate_size": 53,
"max_position_embeddings": 40,
"type_vocab_size": 2,
"layer_norm_eps": 1e-12,
"hidden_act": "gelu",
"pad_token_id": 0
})";
  const auto add_norm = [&](const std::string& name) {
    bert.Add(name + ".weight", {42}, 0.3f, 1.0f);
    bert.Add(name + ".bias", {42});
  };
  const auto add_linear = [&](const std::string& name, int64_t out, int64_t in) {
    bert.Add(name + ".weight", {out, in});
    bert.Add(name + ".bias", {out});
  };
  bert.Add("embeddings.word_embeddings.weight", {61, 42});
  bert.Add("embeddings.position_embeddings.weight", {40, 42});
  bert.Add("embeddings.token_type_embeddings.weight", {2, 42});
  add_norm("embeddings.LayerNorm");
  for (int layer = 0; layer < kNumLayers; ++layer) {
    const std::string prefix = Layer("encoder.layer.", layer, "");
    add_linear(prefix + "attention.self.query", 42, 42);
    add_linear(prefix + "attention.self.key", 42, 42);
    add_linear(prefix + "attention.self.value", 42, 42);
    add_linear(prefix + "attention.output.dense", 42, 42);
    add_norm(prefix + "attention.output.LayerNorm");
    add_linear(prefix + "intermediate.dense", 53, 42);
    add_linear(prefix + "output.dense", 42, 53);
    add_norm(prefix + "output.LayerNorm");
  }
  return bert;
}

FakeCheckpoint TinyGpt2() {
  FakeCheckpoint gpt2;
  gpt2.config = R"({
"model_type": "gpt2",
"architectures": ["GPT2LMHeadModel"],
"vocab_size": 61,
"n_embd": 42,
"n_layer": 3,
"n_head": 3,
"n_inner": null,
"n_positions": 40,
"layer_norm_epsilon": 1e-05,
"activation_function": "gelu_new",
"eos_token_id": 1
})";
  const auto add_norm = [&](const std::string& name) {
    gpt2.Add(name + ".weight", {42}, 0.3f, 1.0f);
    gpt2.Add(name + ".bias", {42});
  };
  const auto add_conv1d = [&](const std::string& name, int64_t out, int64_t in) {
    gpt2.Add(name + ".weight", {in, out});
    gpt2.Add(name + ".bias", {out});
  };
  gpt2.Add("transformer.wte.weight", {61, 42});
  gpt2.Add("transformer.wpe.weight", {40, 42});
  for (int layer = 0; layer < kNumLayers; ++layer) {
    const std::string prefix = Layer("transformer.h.", layer, "");
    add_norm(prefix + "ln_1");
    add_conv1d(prefix + "attn.c_attn", 126, 42);
    add_conv1d(prefix + "attn.c_proj", 42, 42);
    add_norm(prefix + "ln_2");
    add_conv1d(prefix + "mlp.c_fc", 168, 42);
    add_conv1d(prefix + "mlp.c_proj", 42, 168);
  }
  add_norm("transformer.ln_f");
  return gpt2;
}

FakeCheckpoint TinyLlama() {
  FakeCheckpoint llama;
  llama.config = R"({
"model_type": "llama",
"architectures": ["LlamaForCausalLM"],
"vocab_size": 61,
"hidden_size": 42,
"num_hidden_layers": 3,
"num_attention_heads": 6,
"num_key_value_heads": 2,
"head_dim": 10,
"intermediate_size": 53,
"max_position_embeddings": 40,
"rms_norm_eps": 1e-05,
"hidden_act": "silu",
"tie_word_embeddings": false,
"eos_token_id": 1
})";
  llama.Add("model.embed_tokens.weight", {61, 42});
  for (int layer = 0; layer < kNumLayers; ++layer) {
    const std::string prefix = Layer("model.layers.", layer, "");
    llama.Add(prefix + "input_layernorm.weight", {42}, 0.3f, 1.0f);
    llama.Add(prefix + "self_attn.q_proj.weight", {60, 42});
    llama.Add(prefix + "self_attn.k_proj.weight", {20, 42});
    llama.Add(prefix + "self_attn.v_proj.weight", {20, 42});
    llama.Add(prefix + "self_attn.o_proj.weight", {42, 60});
    llama.Add(prefix + "post_attention_layernorm.weight", {42}, 0.3f, 1.0f);
    llama.Add(prefix + "mlp.gate_proj.weight", {53, 42});
    llama.Add(prefix + "mlp.up_proj.weight", {53, 42});
    llama.Add(prefix + "mlp.down_proj.weight", {42, 53});
  }
  llama.Add("model.norm.weight", {42}, 0.3f, 1.0f);
  llama.Add("lm_head.weight", {61, 42});
  return llama;
}

FakeCheckpoint TinyT5() {
  FakeCheckpoint t5;
  t5.config = R"({
"model_type": "t5",
"architectures": ["T5ForConditionalGeneration"],
"vocab_size": 61,
"d_model": 42,
"d_kv": 10,
"d_ff": 53,
"num_layers": 2,
"num_decoder_layers": 3,
"num_heads": 3,
"n_positions": 100,
"relative_attention_num_buckets": 8,
"relative_attention_max_distance": 20,
"feed_forward_proj": "gated-gelu",
"layer_norm_epsilon": 1e-06,
"tie_word_embeddings": false,
"eos_token_id": 1
})";
  const auto add_attention = [&](const std::string& name) {
    for (const char* part : {"q", "k", "v"}) t5.Add(name + part + ".weight", {30, 42}, 0.15f);
    t5.Add(name + "o.weight", {42, 30});
  };
  const auto add_stack = [&](const std::string& stack, int num_layers) {
    t5.Add(stack + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight", {8, 3}, 1.0f);
    for (int layer = 0; layer < num_layers; ++layer) {
      const std::string prefix = Layer(stack + ".block.", layer, "layer.");
      const bool cross = stack == "decoder";
      add_attention(prefix + "0.SelfAttention.");
      if (cross) add_attention(prefix + "1.EncDecAttention.");
      const std::string last = prefix + (cross ? "2" : "1");
      t5.Add(last + ".DenseReluDense.wi_0.weight", {53, 42});
      t5.Add(last + ".DenseReluDense.wi_1.weight", {53, 42});
      t5.Add(last + ".DenseReluDense.wo.weight", {42, 53});
      for (const char* sublayer : {"0", "1", "2"}) {
        if (!cross && *sublayer == '2') continue;
        t5.Add(prefix + sublayer + ".layer_norm.weight", {42}, 0.3f, 1.0f);
      }
    }
    t5.Add(stack + ".final_layer_norm.weight", {42}, 0.3f, 1.0f);
  };
  t5.Add("shared.weight", {61, 42});
  add_stack("encoder", 2);
  add_stack("decoder", 3);
  t5.Add("lm_head.weight", {61, 42});
  return t5;
}

FakeCheckpoint TinyTransformer() {
  FakeCheckpoint model;
  model.config = R"({
"model_type": "transformer",
"vocab_size": 67,
"target_vocab_size": 61,
"d_model": 42,
"nhead": 3,
"num_encoder_layers": 2,
"num_decoder_layers": 3,
"dim_feedforward": 53,
"activation": "relu",
"norm_first": false,
"scale_embedding": true,
"max_position_embeddings": 100,
"eos_token_id": 2
})";
  const auto add_linear = [&](const std::string& name, int64_t out, int64_t in) {
    model.Add(name + ".weight", {out, in});
    model.Add(name + ".bias", {out});
  };
  const auto add_attention = [&](const std::string& name) {
    model.Add(name + ".in_proj_weight", {126, 42});
    model.Add(name + ".in_proj_bias", {126});
    add_linear(name + ".out_proj", 42, 42);
  };
  const auto add_stack = [&](const std::string& stack, int num_layers) {
    for (int layer = 0; layer < num_layers; ++layer) {
      const std::string prefix = Layer(stack + ".layers.", layer, "");
      const bool cross = stack == "decoder";
      add_attention(prefix + "self_attn");
      if (cross) add_attention(prefix + "multihead_attn");
      add_linear(prefix + "linear1", 53, 42);
      add_linear(prefix + "linear2", 42, 53);
      for (int norm = 1; norm <= (cross ? 3 : 2); ++norm) {
        const std::string name = prefix + "norm" + std::to_string(norm);
        model.Add(name + ".weight", {42}, 0.3f, 1.0f);
        model.Add(name + ".bias", {42});
      }
    }
  };
  model.Add("encoder_embedding.weight", {67, 42});
  model.Add("decoder_embedding.weight", {61, 42});
  add_stack("encoder", 2);
  add_stack("decoder", 3);
  add_linear("fc_out", 61, 42);
  return model;
}

}  // namespace attendant::engine
