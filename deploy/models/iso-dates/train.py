#!/usr/bin/env python3
"""Trains the bundled model: dates as people write them, in ten languages, to ISO 8601.

    ./dev oracle deploy/models/iso-dates/train.py

writes the model folder beside this script: config.json, generation_config.json, tokenizer.json,
target_tokenizer.json, model.safetensors, and held_out.tsv, pairs of dates that training never saw
in any language or wording. What it prints is training.log.

The model is the one of Vaswani et al., "Attention Is All You Need", 2017, as PyTorch's modules
build it. The wordings come from the Unicode CLDR (python3-babel), the numbers in words from
python3-num2words.
"""

import argparse
import datetime
import json
import math
import pathlib
import random
import time

import torch
from babel.dates import format_date
from num2words import num2words
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent
SEED = 2017
FIRST_DAY, LAST_DAY = datetime.date(1850, 1, 1), datetime.date(2149, 12, 31)
HELD_OUT_SHARE = 0.05  # of all days
HELD_OUT_PAIRS = 2000
MAX_POSITIONS = 128

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl")

# CLDR patterns beside the "long" and "full" of each language, and the wordings with numbers in
# words: {day} and {year} are words, {month} is the name as it stands behind a day.
PATTERNS = {
    "en": ("d MMMM y", "MMMM d y", "d MMM y", "EEEE d MMMM y"),
    "de": ("d. MMMM y", "d MMMM y", "'den' d. MMMM y", "EEEE, 'den' d. MMMM y"),
    "fr": ("d MMMM y", "'le' d MMMM y", "'le' EEEE d MMMM y"),
    "es": ("d MMMM y", "d 'de' MMMM 'del' y", "'el' EEEE d 'de' MMMM 'de' y"),
    "it": ("d MMMM y", "'il' d MMMM y", "'il' EEEE d MMMM y"),
    "pt": ("d MMMM y", "d 'de' MMMM y", "EEEE d 'de' MMMM 'de' y"),
    "nl": ("d MMMM y", "'op' d MMMM y", "EEEE, d MMMM y"),
    "sv": ("d MMMM y", "'den' d MMMM y", "EEEE 'den' d MMMM y"),
    "da": ("d. MMMM y", "'den' d. MMMM y", "EEEE 'den' d. MMMM y"),
    "pl": ("d MMMM y", "'dnia' d MMMM y", "EEEE d MMMM y"),
}
WORDINGS = {
    "en": ("the {ordinal} of {month} {year}", "{month} {ordinal}, {year}", "{ordinal} {month} {year}"),
    "de": ("{ordinal} {month} {year}", "der {ordinal} {month} {year}"),
    "fr": ("le {day} {month} {year}", "{day} {month} {year}"),
    "es": ("{day} de {month} de {year}", "el {day} de {month} de {year}"),
    "it": ("{day} {month} {year}", "il {day} {month} {year}"),
    "pt": ("{day} de {month} de {year}",),
    "nl": ("{day} {month} {year}", "{ordinal} {month} {year}"),
    "sv": ("{day} {month} {year}", "den {ordinal} {month} {year}"),
    "da": ("{day} {month} {year}", "den {ordinal} {month} {year}"),
    "pl": ("{day} {month} {year}",),
}
ENGLISH_SUFFIX = ("{day}{suffix} of {month} {year}", "{month} {day}{suffix}, {year}")


def english_suffix(day):
    if day in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def in_words(number, language, kind):
    try:
        return num2words(number, lang=language, to=kind)
    except NotImplementedError:
        return num2words(number, lang=language)


def wording(date, language, rng):
    """One of the ways to write `date` in `language`."""
    kind = rng.random()
    if kind < 0.3:
        text = format_date(date, rng.choice(("long", "full")), locale=language)
    elif kind < 0.6:
        text = format_date(date, rng.choice(PATTERNS[language]), locale=language)
    elif kind < 0.7 and language == "en":
        text = rng.choice(ENGLISH_SUFFIX).format(
            day=date.day, suffix=english_suffix(date.day), year=date.year,
            month=format_date(date, "MMMM", locale=language))
    else:
        text = rng.choice(WORDINGS[language]).format(
            day=in_words(date.day, language, "cardinal"),
            ordinal=in_words(date.day, language, "ordinal"),
            month=format_date(date, "d MMMM", locale=language).split(" ")[-1],
            year=in_words(date.year, language, "year") if rng.random() < 0.7 else date.year)
        if language == "en":
            text = text.replace(format_date(date, "d MMMM", locale="en").split(" ")[-1],
                                format_date(date, "MMMM", locale="en"))
    return text.upper() if rng.random() < 0.03 else text.lower() if rng.random() < 0.1 else text


def split_days(rng):
    days = [FIRST_DAY + datetime.timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    rng.shuffle(days)
    held_out = round(len(days) * HELD_OUT_SHARE)
    return days[held_out:], days[:held_out]


def train_source_tokenizer(texts):
    """Byte pairs over lower-case words; digits stand alone, so that no year is a word of its own."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<pad>", "<s>", "</s>", "<unk>"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def make_target_tokenizer():
    """One token for each digit, and one for the hyphen."""
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "-", *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


class PositionalEncoding(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        position = torch.arange(MAX_POSITIONS).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(MAX_POSITIONS, d_model)
        pe[:, 0::2] = torch.sin(position * frequency)
        pe[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, x):
        return x + self.pe[: x.size(1)]


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        d_model = config["d_model"]
        layer = dict(d_model=d_model, nhead=config["nhead"], dropout=config["dropout"],
                     dim_feedforward=config["dim_feedforward"], activation=config["activation"],
                     layer_norm_eps=config["layer_norm_eps"], norm_first=config["norm_first"],
                     batch_first=True)
        self.scale = math.sqrt(d_model)
        self.encoder_embedding = nn.Embedding(config["vocab_size"], d_model)
        self.decoder_embedding = nn.Embedding(config["target_vocab_size"], d_model)
        self.positional_encoding = PositionalEncoding(d_model)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer),
                                             config["num_encoder_layers"], enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer),
                                             config["num_decoder_layers"])
        self.fc_out = nn.Linear(d_model, config["target_vocab_size"])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.encoder_embedding.weight, std=d_model ** -0.5)
        nn.init.normal_(self.decoder_embedding.weight, std=d_model ** -0.5)

    def encode(self, source, padding):
        x = self.positional_encoding(self.encoder_embedding(source) * self.scale)
        return self.encoder(x, src_key_padding_mask=padding)

    def decode(self, target, memory, padding):
        x = self.positional_encoding(self.decoder_embedding(target) * self.scale)
        causal = torch.triu(torch.full((target.size(1),) * 2, float("-inf")), diagonal=1)
        x = self.decoder(x, memory, tgt_mask=causal, tgt_is_causal=True,
                         memory_key_padding_mask=padding.float().masked_fill(padding, float("-inf")))
        return self.fc_out(x)

    def forward(self, source, target):
        padding = source == 0
        float_padding = padding.float().masked_fill(padding, float("-inf"))
        return self.decode(target, self.encode(source, float_padding), padding)


def pad(rows):
    width = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


@torch.no_grad()
def exact_matches(model, pairs, source_tokenizer, target_tokenizer):
    """Whether greedy decoding gives the date, for each pair."""
    model.eval()
    matches = []
    for begin in range(0, len(pairs), 250):
        batch = pairs[begin:begin + 250]
        source = pad([e.ids for e in source_tokenizer.encode_batch([text for text, _ in batch])])
        padding = source == 0
        memory = model.encode(source, padding.float().masked_fill(padding, float("-inf")))
        target = torch.full((len(batch), 1), 1)
        for _ in range(12):
            logits = model.decode(target, memory, padding)[:, -1]
            target = torch.cat([target, logits.argmax(-1, keepdim=True)], 1)
        for ids, (_, iso) in zip(target.tolist(), batch):
            ids = ids[1:ids.index(2)] if 2 in ids else ids[1:]
            matches.append(target_tokenizer.decode(ids) == iso)
    model.train()
    return matches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    train_days, held_out_days = split_days(rng)

    def pair(days):
        date, language = rng.choice(days), rng.choice(LANGUAGES)
        return wording(date, language, rng), date.isoformat()

    held_out = [pair(held_out_days) for _ in range(HELD_OUT_PAIRS)]
    source_tokenizer = train_source_tokenizer([pair(train_days)[0] for _ in range(30000)])
    target_tokenizer = make_target_tokenizer()
    config = {
        "model_type": "transformer",
        "vocab_size": source_tokenizer.get_vocab_size(),
        "target_vocab_size": target_tokenizer.get_vocab_size(),
        "d_model": 128, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2,
        "dim_feedforward": 256, "dropout": 0.0, "activation": "relu", "norm_first": False,
        "layer_norm_eps": 1e-5, "scale_embedding": True, "max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    }
    model = Transformer(config)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"seed {SEED}, torch {torch.__version__}, {num_parameters} parameters, "
          f"{len(train_days)} days to learn, {len(held_out_days)} held out, {args.steps} steps of "
          f"{args.batch} pairs, learning rate {args.learning_rate}", flush=True)

    def make_batches():
        """Batches of texts of about one length, so that little is padding."""
        while True:
            pairs = sorted((pair(train_days) for _ in range(16 * args.batch)),
                           key=lambda pair: len(pair[0]))
            groups = [pairs[i:i + args.batch] for i in range(0, len(pairs), args.batch)]
            rng.shuffle(groups)
            yield from groups

    batches = make_batches()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98),
                                  weight_decay=0.01)
    warmup = 200
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps))))
    start, total = time.time(), 0.0
    for step in range(1, args.steps + 1):
        pairs = next(batches)
        source = pad([e.ids for e in source_tokenizer.encode_batch([text for text, _ in pairs])])
        target = pad([[1, *target_tokenizer.encode(iso).ids, 2] for _, iso in pairs])
        logits = model(source, target[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(),
                                           ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            line = f"step {step} loss {total / 100:.5f}"
            if step % 500 == 0:
                matches = exact_matches(model, held_out[:500], source_tokenizer, target_tokenizer)
                line += f" exact on 500 held out {sum(matches) / len(matches):.4f}"
            print(f"{line} ({time.time() - start:.0f} s)", flush=True)
            total = 0.0

    matches = exact_matches(model, held_out, source_tokenizer, target_tokenizer)
    print(f"exact on {len(matches)} held out: {sum(matches) / len(matches):.4f}")
    for (text, iso), match in zip(held_out, matches):
        if not match:
            print(f"  wrong: {text!r}, which is {iso}")

    args.output.mkdir(parents=True, exist_ok=True)
    source_tokenizer.save(str(args.output / "tokenizer.json"))
    target_tokenizer.save(str(args.output / "target_tokenizer.json"))
    (args.output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (args.output / "generation_config.json").write_text(json.dumps(
        {"bos_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
         "max_new_tokens": 16}, indent=2) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              str(args.output / "model.safetensors"), metadata={"format": "pt"})
    (args.output / "held_out.tsv").write_text(
        "".join(f"{text}\t{iso}\n" for text, iso in held_out))


if __name__ == "__main__":
    main()
