"""make/llama.py llama15m|llama110m|llama1b FOLDER: a Llama of that shape, of random bfloat16 weights."""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

#             hidden  layers  heads  key heads  inner  tied
SHAPES = {
    "llama15m": (288, 6, 6, 6, 768, True),
    "llama110m": (768, 12, 12, 12, 2048, True),
    "llama1b": (2048, 22, 32, 4, 5632, False),
}
VOCABULARY = 32000

name, folder = sys.argv[1:]
hidden, layers, heads, key_heads, inner, tied = SHAPES[name]
key_width = hidden // heads * key_heads
torch.manual_seed(1)


def random(rows, columns):
    return (torch.randn(rows, columns) * 0.02).to(torch.bfloat16)


ones = torch.ones(hidden, dtype=torch.bfloat16)
tensors = {"model.embed_tokens.weight": random(VOCABULARY, hidden), "model.norm.weight": ones}
if not tied:
    tensors["lm_head.weight"] = random(VOCABULARY, hidden)
for index in range(layers):
    layer = f"model.layers.{index}."
    for part, rows, columns in (
        ("self_attn.q_proj", hidden, hidden),
        ("self_attn.k_proj", key_width, hidden),
        ("self_attn.v_proj", key_width, hidden),
        ("self_attn.o_proj", hidden, hidden),
        ("mlp.gate_proj", inner, hidden),
        ("mlp.up_proj", inner, hidden),
        ("mlp.down_proj", hidden, inner),
    ):
        tensors[f"{layer}{part}.weight"] = random(rows, columns)
    tensors[f"{layer}input_layernorm.weight"] = ones.clone()
    tensors[f"{layer}post_attention_layernorm.weight"] = ones.clone()
config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": hidden,
    "intermediate_size": inner,
    "num_hidden_layers": layers,
    "num_attention_heads": heads,
    "num_key_value_heads": key_heads,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": tied,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
pathlib.Path(folder, "config.json").write_text(json.dumps(config, indent=1))
save_file(tensors, pathlib.Path(folder, "model.safetensors"), metadata={"format": "pt"})
