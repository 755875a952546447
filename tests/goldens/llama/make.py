"""Llama: pre-norm decoder, RMSNorm, rotary positions, grouped queries, gated feed-forward; folders and a GGUF file."""

import gguf
import numpy
import torch
import transformers
from gpt2.make import tokenizer as ascii_tokenizer
from tokenizers import AddedToken, processors

import oracle

VOCAB_SIZE = 98

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 97,
    "eos_token_id": 96,
    "hidden_act": "silu",
    "hidden_size": 36,
    "initializer_range": 0.02,
    "intermediate_size": 52,
    "max_position_embeddings": 140,
    "mlp_bias": False,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": VOCAB_SIZE,
}


def tokenizer():
    """GPT-2's, and a begin-of-text token that is put before every text."""
    result = ascii_tokenizer()
    result.add_special_tokens([AddedToken("<|begin_of_text|>", special=True, normalized=False)])
    result.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", 97)],
    )
    return result


def state_of(model, config):
    tied = config["tie_word_embeddings"]
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}


def make_case(folder, config, round_trip=lambda name, tensor: tensor, **storage):
    """`round_trip` gives each weight the value that it has after being stored in another format."""

    def attempt(seed):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
        oracle.randomize(model, seed, gain=1.4, embedding_std=0.5)
        state = state_of(model, config)
        stored = {name: round_trip(name, tensor) for name, tensor in state.items()}
        oracle.write_checkpoint(folder, config, stored, **storage)
        oracle.write_json(folder / "generation_config.json", {"bos_token_id": 97, "eos_token_id": 96})
        inputs = oracle.random_inputs(seed, VOCAB_SIZE)
        oracle.make_expected(folder, transformers.AutoModelForCausalLM, inputs, seed, generates=True)
        return state

    return oracle.first_good_seed(attempt)


GGUF_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

# One format for each matrix of a layer, so that one small file has them all.
GGUF_FORMATS = {
    "attn_q.weight": gguf.GGMLQuantizationType.Q8_0,
    "attn_k.weight": gguf.GGMLQuantizationType.Q5_1,
    "attn_v.weight": gguf.GGMLQuantizationType.F16,
    "attn_output.weight": gguf.GGMLQuantizationType.Q5_0,
    "ffn_gate.weight": gguf.GGMLQuantizationType.Q4_0,
    "ffn_up.weight": gguf.GGMLQuantizationType.BF16,
    "ffn_down.weight": gguf.GGMLQuantizationType.Q4_1,
    "token_embd.weight": gguf.GGMLQuantizationType.Q8_0,
}


def gguf_name(name):
    layer, _, suffix = name.removeprefix("model.layers.").partition(".")
    if name.startswith("model.layers."):
        return f"blk.{layer}.{GGUF_NAMES[suffix]}", GGUF_NAMES[suffix]
    return GGUF_NAMES[name], GGUF_NAMES[name]


def quantize_gguf(name, tensor):
    kind = GGUF_FORMATS.get(gguf_name(name)[1], gguf.GGMLQuantizationType.F32)
    return gguf.quantize(tensor.numpy(), kind), kind


def through_gguf(name, tensor):
    return torch.from_numpy(numpy.array(gguf.dequantize(*quantize_gguf(name, tensor))))


def interleave(tensor, num_heads):
    """The rows of each head, of which rotation pairs i and i + half, in llama.cpp's order: 2i and 2i + 1."""
    rows = tensor.reshape(num_heads, 2, tensor.shape[0] // num_heads // 2, *tensor.shape[1:])
    return rows.transpose(1, 2).reshape(tensor.shape).contiguous()


def write_gguf(path, config, state):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("golden")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
    for name, tensor in state.items():
        if name.endswith("q_proj.weight"):
            tensor = interleave(tensor, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            tensor = interleave(tensor, config["num_key_value_heads"])
        data, kind = quantize_gguf(name, tensor)
        writer.add_tensor(gguf_name(name)[0], data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(folder):
    make_case(folder / "plain", CONFIG)
    tokenizer().save(str(folder / "plain" / "tokenizer.json"))

    # Head size given, and not hidden_size / heads; settings as transformers 5 spells them. The five wavelengths of
    # a head fall on all three branches of the scaling.
    llama3 = dict(CONFIG, head_dim=10, tie_word_embeddings=False)
    del llama3["rope_theta"], llama3["rope_scaling"], llama3["torch_dtype"]
    llama3["dtype"] = "float32"
    llama3["rope_parameters"] = {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 32,
        "rope_theta": 500.0,
        "rope_type": "llama3",
    }
    make_case(folder / "llama3", llama3)

    bf16 = dict(CONFIG, num_key_value_heads=6, torch_dtype="bfloat16", tie_word_embeddings=False)
    make_case(folder / "sharded_bf16", bf16, dtype=torch.bfloat16, num_shards=2)

    # Rows of whole blocks of 32. The folder holds, in f32, the values that the file beside it stores in its formats.
    quantized = dict(CONFIG, hidden_size=64, num_attention_heads=4, num_hidden_layers=2, intermediate_size=96)
    state = make_case(folder / "gguf", quantized, round_trip=through_gguf)
    write_gguf(folder / "gguf" / "model.gguf", quantized, state)
