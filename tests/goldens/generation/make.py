"""Greedy text and the n best of beam searches by the reference's generate(), of the tiny checkpoints beside this folder.

A case is a generation_config.json and, for each of some inputs and settings of a request, what comes out.
"""

import json

import numpy
import torch
import transformers

import oracle

# Other models, a little off, must give the same: rounding is then no matter.
NUM_NOISES = 3
NOISE = 1e-5

# Many ends, for a random model seldom says any one token.
ENDS = [3, 11, 24, 37, 52, 61, 80]

CONFIGS = {
    "plain": {"eos_token_id": ENDS},
    # As summarization checkpoints have it.
    "search": {
        "eos_token_id": ENDS,
        "num_beams": 4,
        "num_return_sequences": 4,
        "length_penalty": 2.0,
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "min_length": 8,
        "max_length": 30,
        "forced_bos_token_id": 5,
        "forced_eos_token_id": 3,
    },
    "never": {
        "eos_token_id": ENDS[:2],
        "num_beams": 3,
        "length_penalty": 0.6,
        "early_stopping": "never",
        "bad_words_ids": [[7], [30, 31]],
        "suppress_tokens": [1, 2],
        "begin_suppress_tokens": [9, 10],
        "repetition_penalty": 1.2,
    },
}


def configs_of(checkpoint):
    """A trained model ends by itself, and not with the ends of a random one."""
    if checkpoint.parent.name != "models":
        return CONFIGS
    own = json.loads((checkpoint / "generation_config.json").read_text())
    return {
        "plain": {"eos_token_id": own["eos_token_id"], "forced_eos_token_id": own["forced_eos_token_id"]},
        "search": dict(CONFIGS["search"], eos_token_id=own["eos_token_id"], forced_bos_token_id=None),
        "never": dict(CONFIGS["never"], eos_token_id=own["eos_token_id"]),
    }


def requests():
    """What a request says beside the input; see the test for the fields that they become."""
    yield "plain", {"max_new_tokens": 24}
    yield "plain", {"max_new_tokens": 24, "no_repeat_ngram_size": 3, "min_new_tokens": 6, "repetition_penalty": 1.3}
    for length_penalty in (0.6, 1.0, 2.0):
        for early_stopping in (False, True, "never"):
            yield (
                "plain",
                {
                    "num_beams": 4,
                    "num_return_sequences": 4,
                    "length_penalty": length_penalty,
                    "early_stopping": early_stopping,
                    "max_new_tokens": 24,
                },
            )
    searched = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 20}
    yield "plain", dict(searched, no_repeat_ngram_size=3)
    yield "plain", dict(searched, min_new_tokens=8)
    yield "search", {}
    yield "search", {"max_new_tokens": 10, "num_return_sequences": 2}
    yield "never", {"max_new_tokens": 20}


def generate(model, ids, config, request):
    settings = {key: value for key, value in {**config, **request}.items()}
    if "max_new_tokens" in settings:
        settings.pop("max_length", None)
    if "min_new_tokens" in settings:
        settings.pop("min_length", None)
    output = model.generate(
        ids[None],
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    num_prompt = 1 if model.config.is_encoder_decoder else len(ids)
    if settings.get("num_beams", 1) == 1:
        return [output.sequences[0, num_prompt:].tolist()], []
    lengths = (output.beam_indices >= 0).sum(1).tolist()
    hypotheses = [row[num_prompt : num_prompt + length].tolist() for row, length in zip(output.sequences, lengths)]
    return hypotheses, output.sequences_scores.tolist()


def noisy(model, seed):
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    for parameter in model.parameters():
        parameter.mul_(1 + NOISE * torch.from_numpy(random.standard_normal(tuple(parameter.shape))).float())
    return model


def load(folder):
    seq2seq = json.loads((folder / "config.json").read_text()).get("is_encoder_decoder", False)
    auto_class = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = oracle.load(auto_class, folder)
    # What is compared is asked for in each call.
    start = model.generation_config.decoder_start_token_id
    model.generation_config = transformers.GenerationConfig(decoder_start_token_id=start)
    return model


def make_checkpoint(folder, checkpoint):
    vocab_size = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    model = load(checkpoint)
    others = [noisy(load(checkpoint), seed) for seed in range(NUM_NOISES)]
    random = numpy.random.Generator(numpy.random.PCG64(31))
    cases = []
    all_configs = configs_of(checkpoint)
    for config, request in requests():
        kept = 0
        for attempt in range(40):
            ids = torch.from_numpy(random.integers(4, vocab_size, int((1, 5, 17)[kept % 3])))
            hypotheses, scores = generate(model, ids, all_configs[config], request)
            if scores and min(scores) < -1e6:
                continue
            if any(generate(other, ids, all_configs[config], request)[0] != hypotheses for other in others):
                continue
            cases.append(
                {"config": config, "request": request, "input_ids": ids.tolist(), "hypotheses": hypotheses, "scores": scores}
            )
            kept += 1
            if kept == 3:
                break
        else:
            raise SystemExit(f"{checkpoint}: {config} {request}: everything is a near tie")
    lines = ",\n".join(json.dumps(case) for case in cases)
    start = model.generation_config.decoder_start_token_id
    configs = {
        name: dict(config, **({} if start is None else {"decoder_start_token_id": start}))
        for name, config in all_configs.items()
    }
    name = f"{checkpoint.parent.name}_{checkpoint.name}"
    (folder / f"{name}.json").write_text(
        f'{{"checkpoint": "{checkpoint.parent.name}/{checkpoint.name}",\n"configs": {json.dumps(configs)},\n'
        f'"cases": [\n{lines}\n]}}\n'
    )
    print(f"generation/{name}: {len(cases)} cases", flush=True)


def make(folder):
    for checkpoint in ("gpt2/plain", "llama/plain", "bart/plain", "marian/shared", "t5/v1_1", "mbart/plain"):
        make_checkpoint(folder, folder.parent / checkpoint)
    # A trained one, beside the repository.
    make_checkpoint(folder, folder.parents[3] / "shared" / "models" / "bart-g2p-en-us")
