"""GPT-2: pre-norm decoder, learned positions, fused query-key-value, weights stored input by output, tied head."""

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

import oracle

VOCAB_SIZE = 97

CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "attn_pdrop": 0.1,
    "bos_token_id": 96,
    "embd_pdrop": 0.1,
    "eos_token_id": 96,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "n_embd": 36,
    "n_head": 3,
    "n_inner": 52,
    "n_layer": 3,
    "n_positions": 130,
    "resid_pdrop": 0.1,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": VOCAB_SIZE,
}


def tokenizer():
    """Byte-level BPE that knows only ASCII: its 95 printable characters, the line feed, and the end of text."""
    alphabet = ["Ġ" if code == 32 else chr(code) for code in range(32, 127)] + ["Ċ"]
    result = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.post_processor = processors.ByteLevel(trim_offsets=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    assert result.get_vocab_size() == VOCAB_SIZE
    return result


def make_case(folder, config, prefix, **storage):
    def attempt(seed):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
        oracle.randomize(model, seed, gain=2.0, embedding_std=0.5)
        state = {
            prefix + name.removeprefix("transformer."): tensor
            for name, tensor in model.state_dict().items()
            if name != "lm_head.weight"
        }
        oracle.write_checkpoint(folder, config, state, **storage)
        oracle.write_json(folder / "generation_config.json", {"bos_token_id": 96, "eos_token_id": 96})
        inputs = oracle.random_inputs(seed, VOCAB_SIZE)
        oracle.make_expected(folder, transformers.AutoModelForCausalLM, inputs, seed, generates=True)

    oracle.first_good_seed(attempt)


def make(folder):
    make_case(folder / "plain", CONFIG, prefix="transformer.")
    tokenizer().save(str(folder / "plain" / "tokenizer.json"))

    # Named as in the first GPT-2 checkpoints, by the bare model; feed-forward of the default width, 4 x n_embd.
    sharded = dict(CONFIG, n_embd=40, n_head=5, n_inner=None)
    make_case(folder / "sharded", sharded, prefix="", num_shards=3)
