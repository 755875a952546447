"""XLM-RoBERTa: RoBERTa under another name, with a larger vocabulary."""

import transformers

import heads
from roberta.make import CONFIG, FIRST_ID, make_plain, small


def make(folder):
    config = dict(CONFIG, architectures=["XLMRobertaModel"], model_type="xlm-roberta", vocab_size=131)
    make_plain(folder / "plain", config, transformers.XLMRobertaConfig, transformers.XLMRobertaModel)
    for head in ("masked_lm", "sequence_classification"):
        heads.make_head(folder / head, head, transformers.XLMRobertaConfig, small(config), seed=3, first_id=FIRST_ID)
