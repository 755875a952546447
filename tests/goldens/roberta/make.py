"""RoBERTa: BERT without segments, whose positions begin behind that of padding; a byte-level tokenizer."""

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

import heads
import oracle

FIRST_ID = 2  # positions count what is not padding, 1: no random id may be
WORDS = ["the", " the", " man", " is", " eat", "ing", " food", " cat", " in", " tree", " red", " sun", "a", " a"]

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}

CONFIG = {
    "architectures": ["RobertaModel"],
    "model_type": "roberta",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_size": 40,
    "intermediate_size": 52,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 72,
    "num_attention_heads": 5,
    "num_hidden_layers": 3,
    "pad_token_id": 1,
    "type_vocab_size": 1,
}


def tokenizer():
    """Byte-level BPE: special tokens, all bytes, and what a few words are merged from."""
    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    merges = []
    for word in WORDS:
        pieces = list(word.replace(" ", "\u0120"))
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            pieces = ["".join(merge), *pieces[2:]]
            if pieces[0] not in vocab:
                vocab[pieces[0]] = len(vocab)
                merges.append(merge)
    result = Tokenizer(models.BPE(vocab, merges))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return result


def make_plain(folder, config, config_class, model_class):
    seed = 1
    model = model_class(config_class(**config))
    oracle.randomize(model, seed, gain=1.0)
    state = {name: tensor for name, tensor in model.state_dict().items() if "position_ids" not in name}
    oracle.write_checkpoint(folder, config, state)
    inputs = oracle.random_inputs(seed, config["vocab_size"], first_id=FIRST_ID)
    oracle.make_expected(folder, transformers.AutoModel, inputs, seed, generates=False)


def small(config):
    return dict(config, hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=36)


def make(folder):
    config = dict(CONFIG, vocab_size=tokenizer().get_vocab_size())
    make_plain(folder / "plain", config, transformers.RobertaConfig, transformers.RobertaModel)
    for head in ("masked_lm", "sequence_classification", "token_classification", "question_answering"):
        heads.make_head(
            folder / head,
            head,
            transformers.RobertaConfig,
            small(config),
            seed=3,
            first_id=FIRST_ID,
            tokenizer=tokenizer(),
            special_tokens=SPECIAL_TOKENS,
        )
