"""mBART: BART with norms before the sublayers, and a norm behind each stack."""

import transformers
from bart.make import CONFIG as BART
from bart.make import make_case

CONFIG = dict(BART, architectures=["MBartForConditionalGeneration"], model_type="mbart", scale_embedding=True)


def make(folder):
    make_case(
        folder / "plain",
        CONFIG,
        lambda: transformers.MBartForConditionalGeneration(transformers.MBartConfig(**CONFIG)),
        embedding_std=0.2,
    )
