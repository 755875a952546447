"""What the reference's generate() and its logits processors make of small tables, for engine/sampler alone.

The "model" is a table: the logits behind ... a, b at position p (b's) are last[p % P][b] + previous[a].
"""

import json

import numpy
import torch
import transformers
from safetensors.torch import save_file
from transformers.modeling_outputs import CausalLMOutput

import oracle

VOCAB_SIZE = 23
PERIOD = 5
NUM_TABLES = 6
NUM_SEARCHES = 240
NUM_NOISES = 4  # other tables, a little off, that must give the same hypotheses
NOISE = 2e-5


class Table(transformers.PreTrainedModel, transformers.GenerationMixin):
    config_class = transformers.GPT2Config

    def __init__(self, config):
        super().__init__(config)
        self.last = torch.nn.Parameter(torch.zeros(PERIOD, VOCAB_SIZE, VOCAB_SIZE))
        self.previous = torch.nn.Parameter(torch.zeros(VOCAB_SIZE, VOCAB_SIZE))
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **kwargs):
        positions = torch.arange(input_ids.shape[1]) % PERIOD
        before = torch.roll(input_ids, 1, dims=1)
        logits = self.last[positions, input_ids] + self.previous[before]
        # The first token follows nothing.
        logits[:, 0] = self.last[0, input_ids[:, 0]]
        return CausalLMOutput(logits=logits)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids}


def tables(seed):
    random = numpy.random.Generator(numpy.random.PCG64(seed))
    last = torch.from_numpy(random.standard_normal((PERIOD, VOCAB_SIZE, VOCAB_SIZE))).float() * 1.2
    previous = torch.from_numpy(random.standard_normal((VOCAB_SIZE, VOCAB_SIZE))).float() * 0.8
    return last, previous


def table_model(last, previous):
    model = Table(transformers.GPT2Config(vocab_size=VOCAB_SIZE, use_cache=False, bos_token_id=None, eos_token_id=None))
    model.last.copy_(last)
    model.previous.copy_(previous)
    return model.eval()


def random_settings(random):
    """Arguments of generate(): what is absent has the reference's default."""
    choose = lambda *values: values[int(random.integers(len(values)))]
    num_beams = choose(2, 3, 4, 5)
    settings = {
        "num_beams": num_beams,
        "num_return_sequences": int(random.integers(1, num_beams + 1)),
        "length_penalty": choose(-1.0, 0.0, 0.6, 1.0, 1.0, 2.0),
        "early_stopping": choose(False, False, True, "never"),
        "max_new_tokens": choose(1, 3, 8, 14, 24),
        "eos_token_id": choose([20], [20], [20, 21], [19, 20], []),
    }
    maybe = lambda share: random.random() < share
    if maybe(0.25):
        settings["no_repeat_ngram_size"] = choose(2, 3)
    if maybe(0.2):
        settings["repetition_penalty"] = choose(0.8, 1.3)
    if settings["eos_token_id"] and maybe(0.25):
        settings["min_new_tokens"] = min(choose(2, 5), settings["max_new_tokens"] - 1)
    if settings["max_new_tokens"] > 1:
        if maybe(0.2):
            settings["forced_bos_token_id"] = choose(3, 7)
        if settings["eos_token_id"] and maybe(0.2):
            settings["forced_eos_token_id"] = settings["eos_token_id"][0]
    if maybe(0.15):
        settings["bad_words_ids"] = [[5], [8, 2], [1, 1, 4]]
    if maybe(0.15):
        settings["suppress_tokens"] = [6, 11]
    if maybe(0.15):
        settings["begin_suppress_tokens"] = [0, 9, 13]
    return settings


def search(model, prompt, settings):
    arguments = dict(settings, eos_token_id=settings["eos_token_id"] or None)
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        pad_token_id=0,
        use_cache=False,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **arguments,
    )
    lengths = (output.beam_indices >= 0).sum(1).tolist()
    hypotheses = [
        ids[len(prompt) : len(prompt) + length].tolist() for ids, length in zip(output.sequences, lengths)
    ]
    return hypotheses, output.sequences_scores.tolist()


def make_searches(folder):
    tensors, models = {}, []
    for table in range(NUM_TABLES):
        last, previous = tables(table)
        tensors[f"table_{table}.last"], tensors[f"table_{table}.previous"] = last, previous
        random = numpy.random.Generator(numpy.random.PCG64(100 + table))
        noisy = [
            table_model(*(t + NOISE * torch.from_numpy(random.standard_normal(t.shape)).float() for t in (last, previous)))
            for _ in range(NUM_NOISES)
        ]
        models.append([table_model(last, previous)] + noisy)
    save_file(tensors, folder / "tables.safetensors")

    random = numpy.random.Generator(numpy.random.PCG64(7))
    searches = []
    while len(searches) < NUM_SEARCHES:
        table = int(random.integers(NUM_TABLES))
        prompt = random.integers(0, 19, int(random.integers(1, 5))).tolist()
        settings = random_settings(random)
        hypotheses, scores = search(models[table][0], prompt, settings)
        # Fewer hypotheses than are asked for: the reference fills up with what is impossible.
        if min(scores) < -1e6:
            continue
        # A near tie, which rounding might turn.
        if any(search(model, prompt, settings)[0] != hypotheses for model in models[table][1:]):
            continue
        searches.append(
            {"table": table, "prompt": prompt, "settings": settings, "hypotheses": hypotheses, "scores": scores}
        )
    lines = ",\n".join(json.dumps(search) for search in searches)
    (folder / "searches.json").write_text(f"[\n{lines}\n]\n")
    lengths = {len(h) for s in searches for h in s["hypotheses"]}
    print(f"beam_search: {len(searches)} searches, lengths {sorted(lengths)}", flush=True)


def make_processed(folder):
    """Logits after the reference's own list of processors, behind random tokens."""
    random = numpy.random.Generator(numpy.random.PCG64(11))
    model = table_model(*tables(0))
    cases, tensors = [], {}
    for case in range(60):
        settings = random_settings(random)
        settings = {key: value for key, value in settings.items() if not key.startswith(("num_", "length", "early"))}
        num_prompt = int(random.integers(1, 4))
        num_output = int(random.integers(0, settings["max_new_tokens"]))
        tokens = random.integers(0, 10, num_prompt + num_output).tolist()
        logits = torch.from_numpy(random.standard_normal(VOCAB_SIZE)).float() * 3
        config, _ = model._prepare_generation_config(None, **dict(settings, eos_token_id=settings["eos_token_id"] or None))
        model._prepare_special_tokens(config)
        config.max_length = num_prompt + settings["max_new_tokens"]
        processors = model._get_logits_processor(config, input_ids_seq_length=num_prompt)
        tensors[f"case_{case}.logits"] = logits
        tensors[f"case_{case}.processed"] = processors(torch.tensor([tokens]), logits[None].clone())[0].contiguous()
        cases.append({"prompt_tokens": num_prompt, "tokens": tokens, "settings": settings})
    save_file(tensors, folder / "processed.safetensors")
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "processed.json").write_text(f"[\n{lines}\n]\n")


def make(folder):
    make_searches(folder)
    make_processed(folder)
