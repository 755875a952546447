"""M2M-100: norms before the sublayers, scaled embeddings, sines and cosines as fairseq computes them."""

import transformers
from bart.make import CONFIG as BART
from bart.make import make_case

CONFIG = dict(
    BART,
    activation_function="relu",
    architectures=["M2M100ForConditionalGeneration"],
    model_type="m2m_100",
    scale_embedding=True,
)


def make(folder):
    # Half the positions' width is not a power of two; an odd width has a last column of zeros.
    make_case(
        folder / "plain",
        CONFIG,
        lambda: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**CONFIG)),
        embedding_std=0.2,
    )
    odd = dict(CONFIG, d_model=33, encoder_attention_heads=3, decoder_attention_heads=11, decoder_layers=2)
    make_case(
        folder / "odd",
        odd,
        lambda: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**odd)),
        embedding_std=0.2,
    )
