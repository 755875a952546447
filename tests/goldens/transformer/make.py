"""The Transformer of PyTorch's own modules, in the wrappings that people write; PyTorch is the reference."""

import copy
import math
import types

import torch
from torch import nn

import oracle

torch.backends.mha.set_fastpath_enabled(False)

CONFIG = {
    "model_type": "transformer",
    "activation": "relu",
    "d_model": 36,
    "decoder_start_token_id": 1,
    "dim_feedforward": 52,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 140,
    "nhead": 3,
    "norm_first": False,
    "num_decoder_layers": 3,
    "num_encoder_layers": 2,
    "pad_token_id": 0,
    "scale_embedding": True,
    "target_vocab_size": 61,
    "vocab_size": 97,
}


class PositionalEncoding(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config["d_model"]
        position = torch.arange(config["max_position_embeddings"])[:, None]
        frequency = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
        pe = torch.zeros(1, config["max_position_embeddings"], size)
        pe[0, :, 0::2] = torch.sin(position * frequency)
        pe[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class Model(nn.Module):
    """Embeddings, positions and head around the two stacks, which are held apart or by an nn.Transformer."""

    def __init__(self, config, whole=False, final_norm=False):
        super().__init__()
        size = config["d_model"]
        self.scale = math.sqrt(size) if config["scale_embedding"] else 1.0
        self.encoder_embedding = nn.Embedding(config["vocab_size"], size)
        self.decoder_embedding = nn.Embedding(config["target_vocab_size"], size)
        self.positional_encoding = PositionalEncoding(config)
        layer = {key: config[key] for key in ("d_model", "nhead", "dim_feedforward", "activation", "norm_first", "layer_norm_eps")}
        layer.update(dropout=0.0, batch_first=True)
        layers = {key: config[key] for key in ("num_encoder_layers", "num_decoder_layers")}
        if whole:
            self.transformer = nn.Transformer(**layer, **layers)
        else:

            def norm():
                return nn.LayerNorm(size, eps=config["layer_norm_eps"]) if final_norm else None

            encoder, decoder = nn.TransformerEncoderLayer(**layer), nn.TransformerDecoderLayer(**layer)
            self.encoder = nn.TransformerEncoder(encoder, config["num_encoder_layers"], norm(), enable_nested_tensor=False)
            self.decoder = nn.TransformerDecoder(decoder, config["num_decoder_layers"], norm())
        self.fc_out = nn.Linear(size, config["target_vocab_size"])

    def stacks(self):
        return (self.transformer.encoder, self.transformer.decoder) if hasattr(self, "transformer") else (self.encoder, self.decoder)

    def get_encoder(self):
        return lambda input_ids: self.encode(input_ids)

    def encode(self, ids):
        x = self.positional_encoding(self.encoder_embedding(ids) * self.scale)
        return run_stack(self.stacks()[0], x)

    def forward(self, input_ids=None, decoder_input_ids=None, encoder_outputs=None, **_):
        encoded = self.encode(input_ids) if encoder_outputs is None else encoder_outputs
        length = decoder_input_ids.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=self.fc_out.weight.dtype)
        x = self.positional_encoding(self.decoder_embedding(decoder_input_ids) * self.scale)
        decoded = run_stack(self.stacks()[1], x, encoded.states[-1], tgt_mask=mask, tgt_is_causal=True)
        return types.SimpleNamespace(
            encoder_hidden_states=encoded.states,
            decoder_hidden_states=decoded.states,
            encoder_attentions=encoded.maps["self_attn"],
            decoder_attentions=decoded.maps["self_attn"],
            cross_attentions=decoded.maps["multihead_attn"],
            logits=self.fc_out(decoded.states[-1]),
        )


def run_stack(stack, x, *memory, **mask):
    """A stack layer by layer: its states, the last behind the final norm, and what each attention looked at."""
    states, maps = [x], {"self_attn": [], "multihead_attn": []}
    for layer in stack.layers:
        plain = {}
        for name in maps:
            if not hasattr(layer, name):
                continue
            attention = getattr(layer, name)
            plain[name] = attention.forward
            attention.forward = watched(attention.forward, maps[name])
        x = layer(x, *memory, **mask)
        for name, forward in plain.items():
            getattr(layer, name).forward = forward
        states.append(x)
    if stack.norm is not None:
        states[-1] = stack.norm(x)
    return types.SimpleNamespace(states=states, maps=maps)


def watched(forward, maps):
    def call(*inputs, **options):
        output, weights = forward(*inputs, **dict(options, need_weights=True, average_attn_weights=False))
        maps.append(weights)
        return output, weights

    return call


class Bf16Attention(nn.Module):
    """nn.MultiheadAttention, every product on bf16 operands."""

    def __init__(self, attention):
        super().__init__()
        self.of = attention

    def forward(self, query, key, value, attn_mask=None, **_):
        round_bf16 = oracle.round_bf16
        projected = []
        weights, biases = self.of.in_proj_weight.chunk(3), self.of.in_proj_bias.chunk(3)
        for x, weight, bias in zip((query, key, value), weights, biases):
            y = nn.functional.linear(round_bf16(x), weight, bias)
            projected.append(y.unflatten(-1, (self.of.num_heads, -1)).transpose(1, 2))
        query, key, value = projected
        scores = round_bf16(query * query.size(-1) ** -0.5) @ round_bf16(key).transpose(-1, -2)
        if attn_mask is not None:
            scores = scores + attn_mask
        weights = scores.softmax(-1)
        attended = (round_bf16(weights) @ round_bf16(value)).transpose(1, 2).flatten(2)
        return nn.functional.linear(round_bf16(attended), self.of.out_proj.weight, self.of.out_proj.bias), weights


def with_bf16_products(model):
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(oracle.round_bf16(parameter))
    for stack in model.stacks():
        for layer in stack.layers:
            for name in ("self_attn", "multihead_attn"):
                if hasattr(layer, name):
                    setattr(layer, name, Bf16Attention(getattr(layer, name)))
            for linear in (layer.linear1, layer.linear2):
                linear.register_forward_pre_hook(lambda _, inputs: (oracle.round_bf16(inputs[0]),))
    model.fc_out.register_forward_pre_hook(lambda _, inputs: (oracle.round_bf16(inputs[0]),))
    return model


def without_positions(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith(".pe")}


def as_in_tutorials(state):
    """The same weights under the names of the tutorials, whose attention has four matrices."""
    result = {}
    for name, tensor in without_positions(state).items():
        stack = name.split(".")[0]
        own = "mha1" if stack == "decoder" else "mha"
        for old, new in (
            ("encoder_embedding", "encoder.embedding"),
            ("decoder_embedding", "decoder.embedding"),
            ("encoder.layers", "encoder.enc_layers"),
            ("decoder.layers", "decoder.dec_layers"),
            ("self_attn", own),
            ("multihead_attn", "mha2"),
            ("out_proj", "dense"),
            (".linear1", ".ffn.0"),
            (".linear2", ".ffn.2"),
            (".norm", ".layernorm"),
            ("fc_out", "final_layer"),
        ):
            name = name.replace(old, new)
        if "in_proj_" not in name:
            result[name] = tensor
            continue
        for part, rows in zip(("wq", "wk", "wv"), tensor.chunk(3)):
            result[name.replace("in_proj_", f"{part}.")] = rows
    return result


def make_case(folder, changes, stored=lambda state: state, embedding_std=0.15, **wrapping):
    config = dict(CONFIG, **changes)

    def attempt(seed):
        model = Model(config, **wrapping).eval()
        oracle.randomize(model, seed, gain=1.4, embedding_std=embedding_std, attention_gain=0.3)
        oracle.write_checkpoint(folder, config, stored(model.state_dict()))
        inputs = oracle.random_pairs(seed, config, config["decoder_start_token_id"])
        models = {
            "f32": model,
            "f64": copy.deepcopy(model).double(),
            "bf16_products": with_bf16_products(model),
            "bf16_throughout": copy.deepcopy(model).bfloat16(),
        }
        oracle.make_expected(folder, None, inputs, seed, generates=True, models=models)

    oracle.first_good_seed(attempt)


def make(folder):
    make_case(folder / "plain", {}, stored=without_positions)
    make_case(folder / "pre_norm", {"norm_first": True, "activation": "gelu"}, final_norm=True)
    make_case(folder / "module", {"activation": "gelu", "scale_embedding": False}, embedding_std=0.9, whole=True)
    make_case(folder / "tutorial", {"num_encoder_layers": 1, "num_decoder_layers": 1}, stored=as_in_tutorials)
