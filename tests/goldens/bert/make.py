"""BERT: post-norm encoder, learned positions, token types."""

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import heads
import oracle

VOCAB_SIZE = 97

CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 40,
    "initializer_range": 0.02,
    "intermediate_size": 52,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 70,
    "num_attention_heads": 5,
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "type_vocab_size": 2,
    "vocab_size": VOCAB_SIZE,
}


def tokenizer():
    """WordPiece over 97 pieces: special tokens, letters at the start and inside of words, a few words and marks."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    pieces += list("0123456789.,!?'-")
    pieces += ["the", "of", "and", "to", "in", "is", "man", "eat", "##ing", "##er", "food", "bread", "girl"]
    pieces += ["baby", "piece", "carry", "play", "music", "red", "##ed", "on", "tree", "cat", "sun"]
    assert len(pieces) == VOCAB_SIZE == len(set(pieces))
    result = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    result.normalizer = normalizers.BertNormalizer()
    result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    result.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    result.decoder = decoders.WordPiece()
    result.add_special_tokens(pieces[:5])
    return result


def make_case(folder, config, auto_class, model_class, **storage):
    seed = 1
    model = model_class(transformers.BertConfig(**config))
    oracle.randomize(model, seed, gain=1.0)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "position_ids" not in name and name not in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    }
    oracle.write_checkpoint(folder, config, state, **storage)
    inputs = oracle.random_inputs(seed, VOCAB_SIZE, token_types=True)
    oracle.make_expected(folder, auto_class, inputs, seed, generates=False)


def make(folder):
    make_case(folder / "plain", CONFIG, transformers.AutoModel, transformers.BertModel)
    tokenizer().save(str(folder / "plain" / "tokenizer.json"))

    # As BertForMaskedLM saves it: names begin with "bert.", there is no pooler, and the head shares the embedding.
    masked_lm = dict(CONFIG, architectures=["BertForMaskedLM"], hidden_size=36, num_attention_heads=3)
    masked_lm.update(layer_norm_eps=1e-5, torch_dtype="bfloat16")
    make_case(
        folder / "masked_lm_bf16",
        masked_lm,
        transformers.AutoModelForMaskedLM,
        transformers.BertForMaskedLM,
        dtype=torch.bfloat16,
    )

    small = dict(CONFIG, hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=36)
    for head in heads.HEADS:
        heads.make_head(
            folder / head, head, transformers.BertConfig, small, seed=3, token_types=True, tokenizer=tokenizer()
        )
