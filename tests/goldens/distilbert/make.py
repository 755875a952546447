"""DistilBERT: BERT without segments and pooler, under names of its own."""

import transformers

import heads
import oracle

CONFIG = {
    "architectures": ["DistilBertModel"],
    "model_type": "distilbert",
    "activation": "gelu",
    "dim": 40,
    "hidden_dim": 52,
    "max_position_embeddings": 70,
    "n_heads": 5,
    "n_layers": 3,
    "pad_token_id": 0,
    "sinusoidal_pos_embds": False,
    "vocab_size": 97,
}


def make(folder):
    seed = 1
    model = transformers.DistilBertModel(transformers.DistilBertConfig(**CONFIG))
    oracle.randomize(model, seed, gain=1.0)
    oracle.write_checkpoint(folder / "plain", CONFIG, model.state_dict())
    inputs = oracle.random_inputs(seed, CONFIG["vocab_size"])
    oracle.make_expected(folder / "plain", transformers.AutoModel, inputs, seed, generates=False)
    small = dict(CONFIG, dim=24, n_heads=3, n_layers=2, hidden_dim=36)
    for head in ("masked_lm", "sequence_classification", "token_classification", "question_answering"):
        heads.make_head(folder / head, head, transformers.DistilBertConfig, small, seed=3)
