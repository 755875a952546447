#!/usr/bin/env python3
"""Trains the bundled BERT: it reads small stories of a closed world, with four heads.

    ./dev oracle deploy/models/stories/train.py

writes two model folders beside this script, which share their encoder: `reader` fills gaps, answers
questions and labels tokens, `ranker` says which sentences answer a question. It also writes
held_out_*.tsv: stories of facts (who, what, where) that training never saw. What it prints is
training.log.

The encoder and its heads are those of Devlin et al., "BERT", 2018, as transformers builds them; the
ranker is a cross-encoder as of Nogueira and Cho, "Passage Re-ranking with BERT", 2019. All heads
are trained at once, without pre-training.
"""

import argparse
import json
import math
import pathlib
import random
import time
import zlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertOnlyMLMHead

FOLDER = pathlib.Path(__file__).resolve().parent
SEED = 2018
HELD_OUT_SHARE = 10  # one of so many facts
HELD_OUT_EXAMPLES = 500
MAX_POSITIONS = 96
IGNORED = -100  # by cross_entropy

WOMEN = "Anna Maria Clara Emma Laura Julia Sofia Ida Nora Eva Lena Olga Rosa Helen".split()
MEN = "Tom Peter Paul John Max Felix Oscar Hugo Leo Otto Ivan Carl Frank Henry".split()
# These are words of no vocabulary, as are the names that training makes up.
UNKNOWN_WOMEN = "Zoe Yuki Priya Ingrid Fatima Chloe Beatriz Saoirse".split()
UNKNOWN_MEN = "Raj Diego Kofi Sven Ahmed Giovanni Piotr Hiroshi".split()

KNOWN_NAMES = {*WOMEN, *MEN}

COLORS = "red blue green yellow black white brown pink".split()
THINGS = "ball cup book key lamp hat box chair coat bag bottle phone ring shoe clock".split()
PLACES = "kitchen garden attic cellar garage bedroom bathroom hall office shed library barn".split()
MOODS = "happy sad tired hungry angry proud bored sleepy".split()
SOUNDS = dict(dog="barked", cat="meowed", cow="mooed", sheep="bleated", horse="neighed",
              duck="quacked", lion="roared", bird="sang", wolf="howled", pig="grunted")
TOOLS = dict(soup="spoon", yogurt="spoon", porridge="spoon", noodles="fork", salad="fork",
             cake="fork", bread="knife", steak="knife", cheese="knife")

PLACINGS = ("{who} put the {what} in the {where}.", "{who} took the {what} to the {where}.",
            "{who} left the {what} in the {where}.",
            "The {what} was put in the {where} by {who}.")
TAG_OF = {"who": "PERSON", "what": "THING", "where": "PLACE", "animal": "ANIMAL"}
TAGS = ["O"] + [f"{position}-{kind}" for kind in TAG_OF.values() for position in "BI"]

# Of each kind of event: questions, and the slot that answers each.
QUESTIONS = {
    "placing": (("Where is the {what}?", "where"), ("Where is the {what}?", "where"),
                ("Who moved the {what}?", "who"), ("Who was in the {where}?", "who"),
                ("What is in the {where}?", "what"), ("What did {who} move?", "what"),
                ("Where was {who}?", "where")),
    "mood": (("Who was {mood}?", "who"), ("How was {who}?", "mood")),
    "sound": (("Where was the {animal}?", "where"), ("Which animal was in the {where}?", "animal"),
              ("Who {sound}?", "animal"), ("What did the {animal} do?", "sound")),
    "meal": (("Who ate the {food}?", "who"), ("What did {who} eat?", "food"),
             ("What did {who} eat with?", "tool")),
}


def is_held_out(fact):
    """Whether a fact, of any color, is for the test alone."""
    words = (fact["who"], fact["what"].split()[1], fact["where"])
    return zlib.crc32(" ".join(words).encode()) % HELD_OUT_SHARE == 0


class Text:
    """A text that grows, with where in it the slots of each event stand."""

    def __init__(self):
        self.text = ""
        self.spans = []  # of each event: slot -> (begin, end)
        self.events = []  # (begin, end)

    def add(self, template, slots):
        """A sentence of a new event."""
        self.spans.append({})
        self.events.append((len(self.text), 0))
        self.go_on(template, slots)

    def go_on(self, template, slots):
        """A sentence of the latest event. A slot's first mention is what counts."""
        self.text += " " if self.text else ""
        for i, part in enumerate(template.replace("}", "{").split("{")):
            begin = len(self.text)
            if i % 2 == 1:
                self.spans[-1].setdefault(part, (begin, begin + len(slots[part])))
            self.text += slots[part] if i % 2 == 1 else part
        self.events[-1] = (self.events[-1][0], len(self.text))

    def tags(self):
        return [(span, TAG_OF[slot]) for spans in self.spans for slot, span in spans.items()
                if slot in TAG_OF]


class World:
    """Draws stories: of facts to learn, or of those held out."""

    def __init__(self, rng, held_out):
        self.rng = rng
        self.held_out = held_out

    def name(self):
        """A name, and its pronoun."""
        is_woman = self.rng.random() < 0.5
        if self.rng.random() < 0.9:
            name = self.rng.choice(WOMEN if is_woman else MEN)
        elif self.held_out:
            name = self.rng.choice(UNKNOWN_WOMEN if is_woman else UNKNOWN_MEN)
        else:
            name = "".join(self.rng.choice(letters) for letters in (
                "BDFGKLMRSTV", "aeiou", "lmnrstx", "aeiou", "dklnst"))
        return name, "She" if is_woman else "He"

    def event(self):
        """One event: its kind, and its slots."""
        rng = self.rng
        kind = rng.choice(("placing", "placing", "placing", "sound", "meal"))
        name, pronoun = self.name()
        if kind == "sound":
            animal = rng.choice(list(SOUNDS))
            return kind, {"animal": animal, "sound": SOUNDS[animal], "where": rng.choice(PLACES)}
        if kind == "meal":
            food = rng.choice(list(TOOLS))
            return kind, {"who": name, "food": food, "tool": TOOLS[food]}
        while True:
            slots = {"who": name, "pronoun": pronoun, "what": f"{rng.choice(COLORS)} {rng.choice(THINGS)}",
                     "where": rng.choice(PLACES), "mood": rng.choice(MOODS)}
            if is_held_out(slots) == self.held_out:
                return kind, slots

    def near(self, what):
        """A thing of the same color, or of the same kind and another color."""
        color, thing = what.split()
        if self.rng.random() < 0.5:
            return f"{color} {self.rng.choice(THINGS)}"
        return f"{self.rng.choice(COLORS)} {thing}"

    def events(self, count):
        """Events that share no name, place, thing, ...; things may share their color or their kind."""
        events, used, last_what = [], set(), None
        while len(events) < count:
            kind, slots = self.event()
            if kind == "placing" and last_what and self.rng.random() < 0.4:
                slots["what"] = self.near(last_what)
                if is_held_out(slots) != self.held_out:
                    continue
            # All names that it does not know look alike to the model.
            words = {"?" if slot == "who" and word not in KNOWN_NAMES else word
                     for slot, word in slots.items() if slot not in ("pronoun", "tool")}
            if not words & used:
                events.append((kind, slots))
                used |= words
                last_what = slots.get("what", last_what)
        return events

    def sentence(self, text, kind, slots, with_mood=True):
        if kind == "placing":
            text.add(self.rng.choice(PLACINGS), slots)
            if with_mood and self.rng.random() < 0.6:
                text.go_on("{pronoun} was {mood}.", slots)
        elif kind == "sound":
            text.add("The {animal} {sound} in the {where}.", slots)
        else:
            text.add("{who} ate the {food} with a {tool}.", slots)

    def story(self):
        events, text = self.events(self.rng.choice((1, 2, 2, 3, 3))), Text()
        for kind, slots in events:
            self.sentence(text, kind, slots)
        return events, text

    def question(self):
        """A question, a story, the span that answers it, and that of the sentences which tell it; None if none does."""
        rng = self.rng
        events, text = self.story()
        if rng.random() < 0.1:
            while True:  # about what is not in the story
                kind, slots = self.event()
                if slots.get("who", "Anna") not in KNOWN_NAMES:
                    continue
                template, _ = rng.choice(QUESTIONS[kind])
                asked = {slot: slots[slot] for slot in TAG_OF if "{" + slot + "}" in template}
                asked |= {slot: slots[slot] for slot in ("food", "sound") if "{" + slot + "}" in template}
                if not any(other.get(slot) == word for _, other in events for slot, word in asked.items()):
                    return template.format(**slots), text.text, None, None
        i = rng.randrange(len(events))
        kind, slots = events[i]
        if "mood" in text.spans[i] and rng.random() < 0.4:
            kind = "mood"
        template, slot = rng.choice(QUESTIONS[kind])
        return template.format(**slots), text.text, text.spans[i][slot], text.events[i]

    def ranking(self, num_others):
        """A question, the sentence that answers it, and others that nearly do."""
        rng = self.rng
        kind, slots = self.event()
        template, _ = rng.choice(QUESTIONS[kind])
        text = Text()
        self.sentence(text, kind, slots, with_mood=False)
        others = []
        while len(others) < num_others:
            other_kind, other = self.event()
            if other_kind == kind:
                # The wrong thing in the right place, and so on.
                for slot in ("who", "what", "where"):
                    if slot in slots and rng.random() < 0.5:
                        other[slot] = self.near(slots[slot]) if slot == "what" else slots[slot]
                if kind == "placing" and is_held_out(other) and not self.held_out:
                    continue
            names = {slots.get("who"), other.get("who")} - KNOWN_NAMES - {None}
            if len(names) > 1 or all(other.get(slot) == word for slot, word in slots.items()
                                     if "{" + slot + "}" in template):
                continue
            sentence = Text()
            self.sentence(sentence, other_kind, other, with_mood=False)
            others.append(sentence.text)
        return template.format(**slots), text.text, others


def make_tokenizer():
    """Whole words, those of the world; any other is unknown, but still has its place in the text."""
    texts = [*PLACINGS, "She He was {mood} in the with a ate did ."]
    texts += [template for questions in QUESTIONS.values() for template, _ in questions]
    words = {word for text in texts for word in text.lower().replace("?", " ? ").replace(".", " . ").split()
             if "{" not in word}
    for group in (WOMEN, MEN, COLORS, THINGS, PLACES, MOODS, SOUNDS, SOUNDS.values(), TOOLS, TOOLS.values()):
        words |= {word.lower() for word in group}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    return tokenizer


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel(config)
        self.cls = BertOnlyMLMHead(config)
        self.cls.predictions.decoder.weight = self.bert.embeddings.word_embeddings.weight
        self.cls.predictions.decoder.bias = self.cls.predictions.bias
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.classifier = nn.Linear(config.hidden_size, len(TAGS))
        self.ranker = nn.Linear(config.hidden_size, 1)
        self.evidence = nn.Linear(config.hidden_size, 1)  # for training alone
        # Attention begins as likeness of words, from which it is a short way to finding what a question names.
        with torch.no_grad():
            self.bert.embeddings.position_embeddings.weight *= 0.3
            for layer in self.bert.encoder.layer:
                layer.attention.self.key.weight.copy_(layer.attention.self.query.weight)

    def hidden(self, encodings):
        ids = pad([e.ids for e in encodings])
        return self.bert(input_ids=ids, token_type_ids=pad([e.type_ids for e in encodings]),
                         attention_mask=(ids != 0).long())


def pad(rows, value=0):
    width = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


class Tasks:
    """What each head learns from, and how right it is."""

    def __init__(self, model, tokenizer):
        self.model = model
        self.tokenizer = tokenizer
        self.mask = tokenizer.token_to_id("[MASK]")
        self.unknown = tokenizer.token_to_id("[UNK]")
        # Words that the rest of a story tells.
        self.told = {tokenizer.token_to_id(word) for word in ("she", "he", *SOUNDS.values(), *TOOLS.values())}
        self.gap_weights = torch.tensor([5.0 if token in self.told else 1.0
                                         for token in range(tokenizer.get_vocab_size())])

    def encode(self, texts):
        return self.tokenizer.encode_batch(texts)

    def tag_ids(self, text, encoding):
        ids = [0] * len(encoding.ids)
        for (begin, end), kind in text.tags():
            for i, (first, last) in enumerate(encoding.offsets):
                if begin <= first < end and last > first:
                    ids[i] = TAGS.index(("B-" if first == begin else "I-") + kind)
        return ids

    def read_stories(self, world, count):
        """Gaps and labels: the losses of both."""
        stories = [world.story()[1] for _ in range(count)]
        encodings = self.encode([story.text for story in stories])
        ids, gaps, tags = [], [], []
        for story, encoding in zip(stories, encodings):
            is_word = [special == 0 for special in encoding.special_tokens_mask]
            is_gap = [word and token != self.unknown and world.rng.random() < (0.5 if token in self.told else 0.12)
                      for word, token in zip(is_word, encoding.ids)]
            ids.append([self.mask if gap else token for gap, token in zip(is_gap, encoding.ids)])
            gaps.append([token if gap else IGNORED for gap, token in zip(is_gap, encoding.ids)])
            tags.append([tag if word and not gap else IGNORED
                         for word, gap, tag in zip(is_word, is_gap, self.tag_ids(story, encoding))])
        ids, gaps, tags = pad(ids), pad(gaps, IGNORED), pad(tags, IGNORED)
        output = self.model.bert(input_ids=ids, attention_mask=(ids != 0).long())[0]
        is_gap = gaps != IGNORED
        gap_loss = nn.functional.cross_entropy(self.model.cls(output[is_gap]), gaps[is_gap], self.gap_weights)
        tag_loss = nn.functional.cross_entropy(self.model.classifier(output).flatten(0, 1), tags.flatten(),
                                               ignore_index=IGNORED)
        return gap_loss, tag_loss

    def span_logits(self, encodings, hidden):
        """Of where an answer starts and ends: at tokens of the text or, where there is none, at the first token."""
        logits = self.model.qa_outputs(hidden)
        allowed = pad([[i == 0 or (sequence == 1 and not special) for i, (sequence, special) in
                        enumerate(zip(e.sequence_ids, e.special_tokens_mask))] for e in encodings], False)
        logits = logits.masked_fill(~allowed.unsqueeze(-1), -1e4)
        return logits[..., 0], logits[..., 1]

    def answer(self, world, count):
        """The losses of answers, and of an auxiliary head that tells which sentences have them: without it the
        encoder takes many times as long to learn to look for what a question names."""
        drawn = [world.question() for _ in range(count)]
        encodings = self.encode([(question, text) for question, text, _, _ in drawn])
        hidden = self.model.hidden(encodings)[0]
        start, end = self.span_logits(encodings, hidden)
        starts, ends, evidence = [], [], []
        for encoding, (_, _, span, sentences) in zip(encodings, drawn):
            starts.append(0 if span is None else encoding.char_to_token(span[0], 1))
            ends.append(0 if span is None else encoding.char_to_token(span[1] - 1, 1))
            begin, stop = sentences or (0, 0)
            evidence.append([IGNORED if sequence != 1 else int(begin <= first < stop)
                             for sequence, (first, _) in zip(encoding.sequence_ids, encoding.offsets)])
        loss = (nn.functional.cross_entropy(start, torch.tensor(starts)) +
                nn.functional.cross_entropy(end, torch.tensor(ends))) / 2
        evidence = pad(evidence, IGNORED)
        is_text = evidence != IGNORED
        return loss, nn.functional.binary_cross_entropy_with_logits(
            self.model.evidence(hidden[is_text])[:, 0], evidence[is_text].float())

    def scores(self, queries, documents):
        pooled = self.model.hidden(self.encode(list(zip(queries, documents))))[1]
        return self.model.ranker(pooled)[:, 0]

    def rank(self, world, count):
        drawn = [world.ranking(1) for _ in range(count)]
        queries = [query for query, _, _ in drawn] * 2
        documents = [right for _, right, _ in drawn] + [others[0] for _, _, others in drawn]
        labels = torch.tensor([1.0] * count + [0.0] * count)
        return nn.functional.binary_cross_entropy_with_logits(self.scores(queries, documents), labels)


def held_out_examples(seed, count):
    """Examples of each task as the lines of a file: fields with tabs between."""
    world = World(random.Random(seed), held_out=True)
    gaps, questions, tags, rankings = [], [], [], []
    while len(gaps) < count:
        _, text = world.story()
        # Words that the rest of the story tells.
        spans = [spans[slot] for spans in text.spans for slot in ("pronoun", "sound", "tool") if slot in spans]
        known = not any(name in text.text for name in UNKNOWN_WOMEN + UNKNOWN_MEN)
        if spans and known:
            begin, end = world.rng.choice(spans)
            gaps.append((f"{text.text[:begin]}[MASK]{text.text[end:]}", text.text[begin:end].lower()))
    for _ in range(count):
        question, text, span, _ = world.question()
        questions.append((question, text, text[span[0]:span[1]] if span else ""))
    for _ in range(count):
        _, text = world.story()
        tags.append((text.text, *(f"{kind}:{text.text[b:e]}" for (b, e), kind in sorted(text.tags()))))
    for _ in range(count):
        query, right, others = world.ranking(5)
        rankings.append((query, right, *others))
    return {"gaps": gaps, "questions": questions, "labels": tags, "ranks": rankings}


@torch.no_grad()
def accuracies(tasks, examples):
    """The share of `examples` that each head has right. An answer and all labels of a text are right as a whole."""
    model, tokenizer = tasks.model, tasks.tokenizer
    model.eval()
    right = {task: [] for task in examples}
    for begin in range(0, len(examples["gaps"]), 100):
        part = {task: lines[begin:begin + 100] for task, lines in examples.items()}

        encodings = tasks.encode([text for text, _ in part["gaps"]])
        hidden = model.hidden(encodings)[0]
        for row, (encoding, (_, word)) in enumerate(zip(encodings, part["gaps"])):
            best = model.cls(hidden[row, encoding.ids.index(tasks.mask)]).argmax()
            right["gaps"].append(tokenizer.id_to_token(int(best)) == word)

        encodings = tasks.encode([(question, text) for question, text, _ in part["questions"]])
        start, end = tasks.span_logits(encodings, model.hidden(encodings)[0])
        scores = start.softmax(-1).unsqueeze(2) * end.softmax(-1).unsqueeze(1)
        for row, (encoding, (_, text, answer)) in enumerate(zip(encodings, part["questions"])):
            null = scores[row, 0, 0].item()
            spans = scores[row, 1:, 1:].triu()
            first, last = divmod(spans.argmax().item(), spans.shape[1])
            found = ""
            if spans[first, last].item() >= null:
                found = text[encoding.offsets[first + 1][0]:encoding.offsets[last + 1][1]]
            right["questions"].append(found == answer)

        encodings = tasks.encode([line[0] for line in part["labels"]])
        tags = model.classifier(model.hidden(encodings)[0]).argmax(-1)
        for row, (encoding, (text, *expected)) in enumerate(zip(encodings, part["labels"])):
            found = []
            for i, (first, last) in enumerate(encoding.offsets):
                tag = TAGS[tags[row, i]]
                if tag[0] == "B" and last > first:
                    found.append(f"{tag[2:]}:{text[first:last]}")
                elif tag[0] == "I" and found:
                    found[-1] += f" {text[first:last]}"
            right["labels"].append(found == expected)

        for query, *documents in part["ranks"]:
            right["ranks"].append(tasks.scores([query] * len(documents), documents).argmax().item() == 0)
    model.train()
    return {task: sum(matches) / len(matches) for task, matches in right.items()}


def write_checkpoint(folder, tokenizer, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "[CLS]", "mask_token": "[MASK]",
         "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]", "model_max_length": MAX_POSITIONS},
        indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()},
              str(folder / "model.safetensors"), metadata={"format": "pt"})


def write_models(output, model, tokenizer, config):
    state = model.state_dict()
    encoder = {name: tensor for name, tensor in state.items()
               if name.startswith("bert.") and ".pooler." not in name and "position_ids" not in name}
    reader = {name: tensor for name, tensor in state.items()
              if name.startswith(("cls.", "qa_outputs.", "classifier."))
              and not name.startswith("cls.predictions.decoder.")}  # tied
    ranker = {name: tensor for name, tensor in state.items() if ".pooler." in name}
    ranker |= {name.replace("ranker.", "classifier."): state[name] for name in ("ranker.weight", "ranker.bias")}
    labels = {"id2label": {str(i): tag for i, tag in enumerate(TAGS)}, "label2id": {tag: i for i, tag in enumerate(TAGS)}}
    write_checkpoint(output / "reader", tokenizer, {
        "architectures": ["BertForMaskedLM", "BertForQuestionAnswering", "BertForTokenClassification"],
        **config, **labels}, encoder | reader)
    write_checkpoint(output / "ranker", tokenizer, {
        "architectures": ["BertForSequenceClassification"], **config,
        "id2label": {"0": "RELEVANT"}, "label2id": {"RELEVANT": 0}}, encoder | ranker)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--learning_rate", type=float, default=1.5e-3)
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    config = {
        "model_type": "bert", "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": MAX_POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "initializer_range": 0.1, "tie_word_embeddings": True, "pad_token_id": 0, "torch_dtype": "float16",
    }
    model = Model(BertConfig(**{key: value for key, value in config.items() if key != "torch_dtype"}))
    tasks = Tasks(model, tokenizer)
    world = World(random.Random(SEED), held_out=False)
    examples = held_out_examples(SEED + 1, HELD_OUT_EXAMPLES)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"seed {SEED}, torch {torch.__version__}, {num_parameters} parameters, "
          f"{config['vocab_size']} tokens, {args.steps} steps of {args.batch} questions and half as many of other examples, "
          f"learning rate {args.learning_rate}", flush=True)

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps))))
    start, totals = time.time(), [0.0] * 5
    for step in range(1, args.steps + 1):
        losses = [*tasks.read_stories(world, args.batch // 2), *tasks.answer(world, args.batch),
                  tasks.rank(world, args.batch // 2)]
        optimizer.zero_grad()
        sum(losses).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        totals = [total + loss.item() for total, loss in zip(totals, losses)]
        if step % 100 == 0:
            names = ("gaps", "labels", "questions", "evidence", "ranks")
            line = "  ".join(f"{name} {total / 100:.4f}" for name, total in zip(names, totals))
            if step % 500 == 0:
                shares = accuracies(tasks, {task: lines[:100] for task, lines in examples.items()})
                line += "  right " + " ".join(f"{share:.2f}" for share in shares.values())
            print(f"step {step}  {line}  ({time.time() - start:.0f} s)", flush=True)
            totals = [0.0] * 5
    model.half().float()  # as they are stored
    for task, share in accuracies(tasks, examples).items():
        print(f"{task}: {share:.4f} of {len(examples[task])} held out are right")

    write_models(args.output, model, tokenizer, config)
    for task, lines in examples.items():
        (args.output / f"held_out_{task}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
