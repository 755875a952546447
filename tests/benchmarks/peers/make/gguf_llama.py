"""make/gguf_llama.py LLAMA_FOLDER FILE: the same weights for llama.cpp, in bfloat16, with made-up words."""

import json
import pathlib
import sys

import gguf
import torch
from safetensors import safe_open

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def name_of(name):
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


def interleaved(matrix, heads):
    """llama.cpp rotates neighbours, the reference library halves."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()


folder, file = sys.argv[1:]
config = json.loads(pathlib.Path(folder, "config.json").read_text())
heads, key_heads, vocabulary = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "vocab_size"))
writer = gguf.GGUFWriter(file, "llama")
writer.add_name("random")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(key_heads)
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_rope_dimension_count(config["hidden_size"] // heads)
writer.add_rope_freq_base(config["rope_theta"])
writer.add_vocab_size(vocabulary)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
writer.add_tokenizer_model("llama")
tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
words = vocabulary - len(tokens)
writer.add_token_list([*tokens, *(f"t{index}" for index in range(words))])
writer.add_token_types([*kinds, *[gguf.TokenType.NORMAL] * words])
writer.add_token_scores([-float(index) for index in range(vocabulary)])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)

with safe_open(pathlib.Path(folder, "model.safetensors"), "pt") as tensors:
    for name in tensors.keys():
        tensor = tensors.get_tensor(name)
        if name.endswith("q_proj.weight"):
            tensor = interleaved(tensor, heads)
        elif name.endswith("k_proj.weight"):
            tensor = interleaved(tensor, key_heads)
        if tensor.dim() == 1:
            writer.add_tensor(name_of(name), tensor.to(torch.float32).numpy())
        else:
            raw = tensor.view(torch.uint8).numpy()
            writer.add_tensor(name_of(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file(progress=False)
writer.close()
