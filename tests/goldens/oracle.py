"""What the makers of goldens share: random weights, checkpoint files, and what a reference model gives.

Everything here asks transformers and torch, in single precision unless it says otherwise, and nothing of ours.
"""

import json
import math
import os
import pathlib

import numpy
import torch
import transformers
from safetensors.torch import save_file

transformers.utils.logging.disable_progress_bar()
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)

LENGTHS = (1, 2, 17, 63)
LONGEST_MAPS = 17  # attention maps grow with the square; the long input leaves them out
GREEDY_TOKENS = 64
MIN_MARGIN = 1e-3  # between the two best logits of every greedy step: far above f32 noise


class NoGood(Exception):
    """These weights do not make a useful golden; the next seed may."""


def first_good_seed(attempt):
    """attempt(seed) of the first seed that it does not refuse."""
    for seed in range(200):
        try:
            return attempt(seed)
        except NoGood:
            continue
    raise SystemExit("no seed of 200 makes a golden; the sizes or gains must change")


def randomize(model, seed, gain, embedding_std=1.0, position_std=None, attention_gain=1.0):
    """Gives every parameter a random value, norms and biases included, so that none is left out unnoticed.

    A smaller `attention_gain` makes what attention adds smaller than what it is added to."""
    position_std = embedding_std if position_std is None else position_std
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    conv1d = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, transformers.pytorch_utils.Conv1D)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # a table that is computed
            continue
        noise = torch.from_numpy(random.standard_normal(tuple(parameter.shape))).float()
        if parameter.dim() == 1:
            is_scale = name.endswith("weight")
            parameter.copy_(noise * 0.2 + (1.0 if is_scale else 0.0))
        elif any(part in name for part in ("embed", ".wte", ".wpe", "shared", "relative_attention_bias")):
            parameter.copy_(noise * (position_std if "position" in name else embedding_std))
        else:
            fan_in = parameter.shape[0] if name in conv1d else parameter.shape[1]
            parameter.copy_(noise * (gain / math.sqrt(fan_in)))
        if name.split(".")[-2] in ("out_proj", "o"):
            parameter.mul_(attention_gain)


def fetched_model(name):
    """A real model, where deploy/models/fetch has put it."""
    cache = os.environ.get("ATTENDANT_MODELS_DIR") or pathlib.Path.home() / ".cache/attendant/models"
    path = pathlib.Path(cache) / name
    if not path.exists():
        raise SystemExit(f"{path} is absent; deploy/models/fetch fetches it")
    return path


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_checkpoint(folder, config, state, dtype=torch.float32, num_shards=1):
    """config.json and model.safetensors, or shards with their index, as Hugging Face folders hold them."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*"):
        stale.unlink()
    write_json(folder / "config.json", config)
    state = {name: tensor.to(dtype).contiguous().clone() for name, tensor in state.items()}
    metadata = {"format": "pt"}
    if num_shards == 1:
        save_file(state, folder / "model.safetensors", metadata=metadata)
        return
    weight_map = {}
    names = sorted(state)
    for shard in range(num_shards):
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        part = {name: state[name] for name in names[shard::num_shards]}
        save_file(part, folder / file, metadata=metadata)
        weight_map.update({name: file for name in part})
    total = sum(tensor.nbytes for tensor in state.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def save_checkpoint(folder, model, config):
    """A checkpoint of `model` whose tensors have the names that transformers saves them under."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*"):
        stale.unlink()
    model.save_pretrained(folder)
    write_json(folder / "config.json", config)


def load(auto_class, folder, dtype=torch.float32, attention="eager"):
    """The checkpoint as transformers reads it; any weight missing or left over is an error."""
    model, report = auto_class.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise SystemExit(f"{folder}: {problem}: {sorted(report[problem])}")
    return model.eval()


def random_inputs(seed, vocab_size, token_types=False, first_id=0):
    """One input for each of LENGTHS: {name: {"input_ids": [T], ...}}, with ids from `first_id` on."""
    random = numpy.random.Generator(numpy.random.PCG64(10_000 + seed))
    inputs = {}
    for length in LENGTHS:
        ids = torch.from_numpy(random.integers(first_id, vocab_size, length))
        inputs[f"length_{length}"] = {"input_ids": ids}
        if token_types:
            # The second half is the second segment.
            inputs[f"length_{length}"]["token_type_ids"] = (
                torch.arange(length) >= (length + 1) // 2
            ).long()
    return inputs


def random_pairs(seed, config, start):
    """Inputs of an encoder-decoder: a source of each of LENGTHS, and a target of another length that begins with `start`."""
    inputs = random_inputs(seed, config["vocab_size"])
    target_vocab_size = config.get("decoder_vocab_size") or config.get("target_vocab_size") or config["vocab_size"]
    random = numpy.random.Generator(numpy.random.PCG64(20_000 + seed))
    for input, length in zip(inputs.values(), (9, 1, 5, 33)):
        ids = torch.from_numpy(random.integers(0, target_vocab_size, length))
        ids[0] = start
        input["decoder_input_ids"] = ids
    return inputs


def random_images(seed, height, width):
    """Images as a model reads them: {name: {"pixel_values": [3, height, width]}}."""
    random = numpy.random.Generator(numpy.random.PCG64(20_000 + seed))
    images = random.standard_normal((3, 3, height, width))
    return {f"image_{i}": {"pixel_values": torch.from_numpy(image).float()} for i, image in enumerate(images)}


def run(model, input):
    """What the model gives for one input: every tensor without its batch axis."""
    dtype = next(model.parameters()).dtype
    batch = {
        name: tensor[None].to(dtype) if tensor.is_floating_point() else tensor[None] for name, tensor in input.items()
    }
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    if "decoder_input_ids" in input:
        return {
            "encoder_hidden_states": torch.stack(output.encoder_hidden_states).squeeze(1),
            "hidden_states": torch.stack(output.decoder_hidden_states).squeeze(1),
            "encoder_attentions": torch.stack(output.encoder_attentions).squeeze(1),  # [layers, heads, S, S]
            "decoder_attentions": torch.stack(output.decoder_attentions).squeeze(1),  # [layers, heads, T, T]
            "cross_attentions": torch.stack(output.cross_attentions).squeeze(1),  # [layers, heads, T, S]
            "logits": output.logits[0],
        }
    result = {
        "hidden_states": torch.stack(output.hidden_states).squeeze(1),  # [layers + 1, T, hidden]
        "attentions": torch.stack(output.attentions).squeeze(1),  # [layers, heads, T, T]
    }
    if "pixel_values" in input:
        # Of an image transformers gives the last layer's states as they were before the final norm.
        result["hidden_states"][-1] = model.base_model.layernorm(result["hidden_states"][-1])
    if "logits" in output:
        result["logits"] = output.logits[0]  # [T, vocab], of classifiers [T, labels] or [labels]
    if "start_logits" in output:
        result["logits"] = torch.stack((output.start_logits[0], output.end_logits[0]), -1)  # [T, 2]
    if output.get("pooler_output") is not None:
        result["pooler_output"] = output.pooler_output[0]  # [hidden]
    return result


def pooled(last_hidden):
    """The vectors that each kind of pooling makes of [T, hidden]."""
    return {
        "mean": last_hidden.mean(0),
        "cls": last_hidden[0],
        "max": last_hidden.max(0).values,
        "last_token": last_hidden[-1],
    }


def greedy(model, ids, use_cache=False):
    """GREEDY_TOKENS tokens after `ids`, end-of-text ignored, and how far each was ahead of the second best."""
    tokens, margins = [], []
    step, cache = ids, None
    for _ in range(GREEDY_TOKENS):
        output = model(step[None], use_cache=use_cache, past_key_values=cache)
        best = output.logits[0, -1].topk(2)
        margins.append(best.values[0] - best.values[1])
        tokens.append(best.indices[:1])
        cache = output.past_key_values if use_cache else None
        step = tokens[-1] if use_cache else torch.cat([step, tokens[-1]])
    return torch.cat(tokens), torch.stack(margins)


def greedy_target(model, input):
    """The same for an encoder-decoder: the target after its first token."""
    tokens, margins = input["decoder_input_ids"][:1], []
    encoded = model.get_encoder()(input_ids=input["input_ids"][None])
    for _ in range(GREEDY_TOKENS):
        output = model(encoder_outputs=encoded, decoder_input_ids=tokens[None], use_cache=False)
        best = output.logits[0, -1].topk(2)
        margins.append(best.values[0] - best.values[1])
        tokens = torch.cat([tokens, best.indices[:1]])
    return tokens[1:], torch.stack(margins)


def check_greedy(tokens, margins, may_loop):
    """Refuses continuations that settle into a loop, or that rounding might change."""
    if margins.min() <= MIN_MARGIN:
        raise NoGood
    if may_loop:
        return
    tail = tokens[-32:].tolist()
    if any(tail[period:] == tail[:-period] for period in range(1, 17)):
        raise NoGood
    if len(set(tokens.tolist())) < 12:
        raise NoGood


# How far other arithmetic strays from the golden, over the root mean square of the golden.


def rms(tensor):
    return tensor.double().square().mean().sqrt()


def worst_stray(found, expected):
    return (found.double() - expected.double()).abs().max() / rms(expected)


def rms_stray(found, expected):
    return rms(found.double() - expected.double()) / rms(expected)


def round_bf16(tensor):
    return tensor.to(torch.bfloat16).to(tensor.dtype)


def bf16_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention whose two products have bf16 operands and single-precision sums."""
    groups = query.shape[1] // key.shape[1]
    key = round_bf16(key).repeat_interleave(groups, 1)
    value = round_bf16(value).repeat_interleave(groups, 1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = round_bf16(query) @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1)
    return (round_bf16(weights) @ value).transpose(1, 2).contiguous(), weights


transformers.AttentionInterface.register("bf16_products", bf16_attention)
transformers.masking_utils.AttentionMaskInterface.register(
    "bf16_products", transformers.masking_utils.eager_mask
)


def with_bf16_products(auto_class, folder):
    """The model with every matrix product on bf16 operands, summed in f32; all else in f32: what our engine does."""
    model = load(auto_class, folder, attention="bf16_products")
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(round_bf16(parameter))
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, transformers.pytorch_utils.Conv1D)):
            module.register_forward_pre_hook(lambda _, inputs: (round_bf16(inputs[0]),))
    return model


def load_arithmetics(auto_class, folder):
    """The checkpoint as transformers computes it in single precision, and in each other arithmetic."""
    return {
        "f32": load(auto_class, folder),
        "f64": load(auto_class, folder, dtype=torch.float64),
        "bf16_products": with_bf16_products(auto_class, folder),
        "bf16_throughout": load(auto_class, folder, dtype=torch.bfloat16),
    }


def measure_stray(models, inputs, expected):
    """For each arithmetic, the worst stray of hidden states and of logits over all inputs: of one value, and of the
    root mean square of all values."""
    models = {arithmetic: model for arithmetic, model in models.items() if arithmetic != "f32"}
    strays = {"stray_over_rms": worst_stray, "rms_stray_over_rms": rms_stray}
    facts = {fact: {arithmetic: {} for arithmetic in models} for fact in strays}
    for arithmetic, model in models.items():
        for name, input in inputs.items():
            found = run(model, input)
            for tensor in ("hidden_states", "encoder_hidden_states", "logits"):
                if tensor not in found:
                    continue
                for fact, measure in strays.items():
                    value = float(f"{measure(found[tensor], expected[name][tensor]):.3g}")
                    known = facts[fact][arithmetic].get(tensor, 0.0)
                    facts[fact][arithmetic][tensor] = max(known, value)
    return facts


def make_expected(folder, auto_class, inputs, seed, generates, models=None):
    """Writes expected.safetensors and expected.json of the checkpoint in `folder`; `models` are those of
    load_arithmetics, where transformers has no such class."""
    models = load_arithmetics(auto_class, folder) if models is None else models
    model = models["f32"]
    expected = {}
    facts = {"seed": seed}
    for name, input in inputs.items():
        expected[name] = run(model, input)
        is_pair = "decoder_input_ids" in input
        states = expected[name]["encoder_hidden_states" if is_pair else "hidden_states"]
        for kind, vector in pooled(states[-1]).items():
            expected[name][f"pooled_{kind}"] = vector
        if generates:
            tokens, margins = greedy_target(model, input) if is_pair else greedy(model, input["input_ids"])
            # A random decoder that looks at one source and its own words soon repeats itself.
            check_greedy(tokens, margins, may_loop=is_pair)
            expected[name]["greedy_ids"] = tokens
            expected[name]["greedy_margins"] = margins
    if generates:
        facts["smallest_greedy_margin"] = float(
            f"{min(float(e['greedy_margins'].min()) for e in expected.values()):.4g}"
        )
    facts.update(measure_stray(models, inputs, expected))

    tensors = {}
    for name, input in inputs.items():
        for key, tensor in {**input, **expected[name]}.items():
            if key.endswith("attentions") and len(input.get("input_ids", ())) > LONGEST_MAPS:
                continue
            tensors[f"{name}.{key}"] = tensor.contiguous().clone()
    save_file(tensors, folder / "expected.safetensors")
    write_json(folder / "expected.json", facts)
    print(f"{folder.parent.name}/{folder.name}: {facts}", flush=True)
