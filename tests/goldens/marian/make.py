"""Marian: norms after the sums, scaled embeddings, halves of sines and cosines, a bias of the logits; one vocabulary or two."""

import transformers
from bart.make import CONFIG as BART
from bart.make import make_case

CONFIG = dict(
    BART,
    activation_function="swish",
    architectures=["MarianMTModel"],
    bos_token_id=None,
    decoder_start_token_id=96,
    decoder_vocab_size=97,
    eos_token_id=0,
    forced_eos_token_id=0,
    model_type="marian",
    pad_token_id=96,
    scale_embedding=True,
    share_encoder_decoder_embeddings=True,
)


def make(folder):
    make_case(
        folder / "shared", CONFIG, lambda: transformers.MarianMTModel(transformers.MarianConfig(**CONFIG)), embedding_std=0.2
    )
    separate = dict(
        CONFIG,
        activation_function="relu",
        decoder_start_token_id=60,
        decoder_vocab_size=61,
        pad_token_id=60,
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
    )
    make_case(
        folder / "separate",
        separate,
        lambda: transformers.MarianMTModel(transformers.MarianConfig(**separate)),
        embedding_std=0.2,
        untied=True,
    )
