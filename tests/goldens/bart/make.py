"""BART: post-norm encoder and decoder, learned positions behind two rows of padding, norms of the embeddings."""

import torch
import transformers

import oracle

CONFIG = {
    "architectures": ["BartForConditionalGeneration"],
    "model_type": "bart",
    "activation_function": "gelu",
    "bos_token_id": 0,
    "d_model": 36,
    "decoder_attention_heads": 6,
    "decoder_ffn_dim": 44,
    "decoder_layers": 3,
    "decoder_start_token_id": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 52,
    "encoder_layers": 2,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "is_encoder_decoder": True,
    "max_position_embeddings": 140,
    "pad_token_id": 1,
    "scale_embedding": False,
    "torch_dtype": "float32",
    "vocab_size": 97,
}

GENERATION = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_eos_token_id", "pad_token_id")


def stored(model, untied=False):
    """The tensors that a checkpoint holds: tied ones once, and no table that is computed."""
    left_out = ["model.encoder.embed_positions.weights", "model.decoder.embed_positions.weights"]
    if hasattr(model, "lm_head") and not untied:
        left_out += ["lm_head.weight"]
    state = model.state_dict()
    shared = {id(tensor) for name, tensor in model.named_parameters() if name.endswith("shared.weight")}
    if shared:
        left_out += [name for name in state if name.endswith("embed_tokens.weight")]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in state.items() if name not in frozen and name not in left_out}


def make_case(folder, config, model, gain=1.4, embedding_std=0.5, position_std=1.0, attention_gain=0.3, untied=False, **storage):
    """`model` makes one of a config. A family of this build: its weights are stored under the same names."""

    def attempt(seed):
        made = model()
        oracle.randomize(made, seed, gain=gain, embedding_std=embedding_std, position_std=position_std, attention_gain=attention_gain)
        if "final_logits_bias" in made.state_dict():
            random = torch.Generator().manual_seed(seed)
            made.final_logits_bias.copy_(torch.randn(made.final_logits_bias.shape, generator=random))
        oracle.write_checkpoint(folder, config, stored(made, untied), **storage)
        oracle.write_json(folder / "generation_config.json", {k: config[k] for k in GENERATION if k in config})
        inputs = oracle.random_pairs(seed, config, config["decoder_start_token_id"])
        oracle.make_expected(folder, transformers.AutoModelForSeq2SeqLM, inputs, seed, generates=True)

    oracle.first_good_seed(attempt)


def make(folder):
    make_case(folder / "plain", CONFIG, lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**CONFIG)))

    # What real checkpoints vary: another activation, scaled embeddings, bf16, shards.
    scaled = dict(CONFIG, activation_function="relu", scale_embedding=True, torch_dtype="bfloat16")
    make_case(
        folder / "scaled_bf16",
        scaled,
        lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**scaled)),
        embedding_std=0.1,
        dtype=torch.bfloat16,
        num_shards=2,
    )
