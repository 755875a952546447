"""SmolLM2-135M-Instruct from its Q4_1 GGUF file: next-token logits of a few prompts, and greedy continuations."""

import gguf
import numpy
import torch
import transformers
from llama.make import GGUF_NAMES
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import oracle

MODEL = "SmolLM2-135M-Instruct.gguf"
TOP = 20

PROMPTS = [
    "Gravity is",
    "The three primary colours are",
    "def fibonacci(n):\n",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nName two animals that live in the sea, and say one sentence about each.<|im_end|>\n"
    "<|im_start|>assistant\n",
]


def read_tokenizer(reader):
    """The byte-level BPE that the file carries; "smollm" splits digits one by one, then as GPT-2 does."""
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    assert reader.get_field("tokenizer.ggml.pre").contents() == "smollm"
    vocabulary = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token, type in zip(tokens, types) if type == control]
    )
    return tokenizer


def separate(tensor, num_heads):
    """The rows of each head from llama.cpp's order, in which 2i and 2i + 1 rotate together, to that of i and i + half."""
    rows = tensor.reshape(num_heads, tensor.shape[0] // num_heads // 2, 2, *tensor.shape[1:])
    return rows.transpose(1, 2).reshape(tensor.shape).contiguous()


def read_model(reader):
    """A transformers model with the weights that the file stores, widened to f32."""

    def field(key):
        return reader.get_field(key).contents()

    config = transformers.LlamaConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=field("llama.rope.freq_base"),
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    names = {stored: name for name, stored in GGUF_NAMES.items()}
    state = {}
    for stored in reader.tensors:
        tensor = torch.from_numpy(numpy.array(gguf.dequantize(stored.data, stored.tensor_type)))
        if stored.name.startswith("blk."):
            _, layer, suffix = stored.name.split(".", 2)
            name = f"model.layers.{layer}.{names[suffix]}"
        else:
            name = names[stored.name]
        if name.endswith("q_proj.weight"):
            tensor = separate(tensor, config.num_attention_heads)
        if name.endswith("k_proj.weight"):
            tensor = separate(tensor, config.num_key_value_heads)
        state[name] = tensor
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def make(folder):
    reader = gguf.GGUFReader(oracle.fetched_model(MODEL))
    tokenizer = read_tokenizer(reader)
    model = read_model(reader)
    tensors, facts = {}, {}
    for index, prompt in enumerate(PROMPTS):
        name = f"prompt_{index}"
        ids = torch.tensor(tokenizer.encode(prompt).ids)
        logits = model(ids[None]).logits[0, -1]
        top = logits.topk(TOP)
        tokens, margins = oracle.greedy(model, ids, use_cache=True)
        tensors[f"{name}.input_ids"] = ids
        tensors[f"{name}.top_ids"] = top.indices
        tensors[f"{name}.top_logits"] = top.values
        tensors[f"{name}.greedy_ids"] = tokens
        tensors[f"{name}.greedy_margins"] = margins
        facts[name] = {
            "text": prompt,
            "greedy_text": tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
            "smallest_greedy_margin": float(f"{float(margins.min()):.4g}"),
        }
        print(f"smollm2: {facts[name]}", flush=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "expected.safetensors")
    oracle.write_json(folder / "expected.json", facts)
