"""Checkpoints with a head beside the stack, one for each head that a family has, and what transformers' pipelines make of
texts with them: tests/goldens/<family>/<head>/answers.json."""

import numpy
import torch
import transformers
from tokenizers import Tokenizer
from transformers.pipelines.document_question_answering import select_starts_ends

import oracle

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
MOODS = ["bad", "so-so", "good"]

# head -> its class, and what its config.json adds
HEADS = {
    "masked_lm": (transformers.AutoModelForMaskedLM, {}),
    "sequence_classification": (transformers.AutoModelForSequenceClassification, {"labels": MOODS}),
    "token_classification": (transformers.AutoModelForTokenClassification, {"labels": TAGS}),
    "question_answering": (transformers.AutoModelForQuestionAnswering, {}),
    "ranking": (transformers.AutoModelForSequenceClassification, {"labels": ["LABEL_0"]}),
}

TEXTS = [
    "the man is eating food",
    "a girl carried the baby to the red tree, and the cat played on.",
    "músic? 3.14 of it -- the sun!",
    "É",
]
QUESTIONS = [
    {"question": "who eats?", "context": "the man is eating food, and the cat is in the tree"},
    {"question": "where is the sun", "context": "the sün is red. " * 12 + "the girl is in the tree"},
]
QUERY = "the man eating"
WINDOW = {"top_k": 4, "max_answer_tokens": 6, "window_overlap_tokens": 9}


def fill_mask(model, tokenizer, texts):
    pipe = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer)
    mask = tokenizer.mask_token
    answers = []
    for text in texts:
        words = text.split()
        masked = " ".join(mask if i in (1, 3) else word for i, word in enumerate(words)) if len(words) > 1 else mask
        # A target is one token: the pipeline would take the first of several.
        known = [word for word in ("the", "cat", "ing", "a") if word in tokenizer.get_vocab()]
        for targets in (None, known):
            found = pipe(masked, top_k=3, **({"targets": targets} if targets else {}))
            found = found if isinstance(found[0], list) else [found]
            masks = [
                [{"id": c["token"], "token": c["token_str"], "score": c["score"]} for c in candidates]
                for candidates in found
            ]
            answers.append({"text": masked, "targets": targets or [], "masks": masks})
    return answers


def classify(model, tokenizer, texts):
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    inputs = [{"text": text} for text in texts] + [{"text": QUERY, "text_pair": texts[0]}]
    return [
        {**input, "labels": pipe([input], top_k=None)[0], "raw": pipe([input], top_k=None, function_to_apply="none")[0]}
        for input in inputs
    ]


def label_tokens(model, tokenizer, texts):
    def spans(text, aggregation):
        pipe = transformers.pipeline(
            "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=aggregation
        )
        found = pipe(text, ignore_labels=[] if aggregation == "none" else ["O"])
        return [
            {
                "label": entity["entity" if aggregation == "none" else "entity_group"],
                "score": float(entity["score"]),
                "char_start": entity["start"],
                "char_end": entity["end"],
            }
            for entity in found
        ]

    return [{"text": text, "tokens": spans(text, "none"), "entities": spans(text, "simple")} for text in texts]


def answer(model, tokenizer, inputs, allow_no_answer):
    """What the question-answering pipeline did: its steps, with the parts of it that transformers 5 still has."""
    answers = []
    for input in inputs:
        encoded = tokenizer(
            input["question"],
            input["context"],
            truncation="only_second",
            max_length=tokenizer.model_max_length,
            stride=WINDOW["window_overlap_tokens"],
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        spans, null_score = {}, 1e6
        for window, ids in enumerate(encoded["input_ids"]):
            sequences = encoded.sequence_ids(window)
            p_mask = numpy.array([[s != 1 for s in sequences]]).astype(int)
            p_mask[0, 0] = 0
            batch = {
                key: torch.tensor([encoded[key][window]]) for key in ("input_ids", "token_type_ids") if key in encoded
            }
            output = model(**batch)
            starts, ends, scores, null_score = select_starts_ends(
                output.start_logits.double().numpy(),
                output.end_logits.double().numpy(),
                p_mask,
                None,
                null_score,
                # More than are asked for: among these there are ones that are no answers, such as the first token.
                10 * WINDOW["top_k"],
                True,
                WINDOW["max_answer_tokens"],
            )
            for start, end, score in zip(starts, ends, scores):
                if sequences[start] != 1 or sequences[end] != 1 or score <= 0:
                    continue
                offsets = encoded["offset_mapping"][window]
                span = (offsets[start][0], offsets[end][1])
                spans[span] = max(spans.get(span, 0.0), float(score))
        found = [
            {"text": input["context"][start:end], "char_start": start, "char_end": end, "score": score}
            for (start, end), score in spans.items()
        ]
        if allow_no_answer:
            found.append({"text": "", "score": float(null_score)})
        found.sort(key=lambda a: -a["score"])
        num_tokens = sum(len(ids) for ids in encoded["input_ids"])
        answers.append({**input, "num_tokens": num_tokens, "answers": found[: WINDOW["top_k"]]})
    return answers


def rank(model, tokenizer, texts):
    logits = [
        float(model(**tokenizer(QUERY, text, return_tensors="pt")).logits[0, 0]) for text in texts
    ]
    return {"query": QUERY, "documents": texts, "logits": logits}


def answers_of(head, model, tokenizer):
    if head == "masked_lm":
        return fill_mask(model, tokenizer, TEXTS)
    if head == "sequence_classification":
        return classify(model, tokenizer, TEXTS)
    if head == "token_classification":
        return label_tokens(model, tokenizer, TEXTS)
    if head == "question_answering":
        return {
            **WINDOW,
            "answers": answer(model, tokenizer, QUESTIONS, False),
            "answers_or_none": answer(model, tokenizer, QUESTIONS, True),
        }
    return rank(model, tokenizer, TEXTS)


def make_head(
    folder, head, config_class, config, seed, token_types=False, first_id=0, tokenizer=None, special_tokens=None
):
    """One case: `config` with the head, random weights, and what comes of token ids. With a tokenizer also of texts."""
    auto_class, extra = HEADS[head]
    config = dict(config)
    if "labels" in extra:
        config["id2label"] = {str(i): label for i, label in enumerate(extra["labels"])}
        config["label2id"] = {label: i for i, label in enumerate(extra["labels"])}
    model = auto_class.from_config(config_class(**config))
    config["architectures"] = [type(model).__name__]
    oracle.randomize(model, seed, gain=1.0)
    tied = getattr(model, "_tied_weights_keys", None) or {}
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "position_ids" not in name and name not in tied
    }
    oracle.write_checkpoint(folder, config, state)
    inputs = oracle.random_inputs(seed, config["vocab_size"], token_types, first_id)
    oracle.make_expected(folder, auto_class, inputs, seed, generates=False)
    if tokenizer is None:
        return
    tokenizer.save(str(folder / "tokenizer.json"))
    special = special_tokens or BERT_SPECIAL_TOKENS
    oracle.write_json(folder / "special_tokens_map.json", special)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")),
        model_max_length=config["max_position_embeddings"] - first_id,
        model_input_names=["input_ids", "token_type_ids"] if token_types else ["input_ids"],
        **special,
    )
    found = answers_of(head, oracle.load(auto_class, folder), wrapped)
    oracle.write_json(folder / "answers.json", found)


BERT_SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
