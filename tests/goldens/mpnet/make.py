"""MPNet: RoBERTa without segments at all, whose scores have a bias by distance that all layers share."""

import transformers

import heads
import oracle

FIRST_ID = 2  # positions count what is not padding, 1: no random id may be

CONFIG = {
    "architectures": ["MPNetModel"],
    "model_type": "mpnet",
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
    "relative_attention_num_buckets": 32,
    "vocab_size": 97,
}


def make(folder):
    seed = 1
    model = transformers.MPNetModel(transformers.MPNetConfig(**CONFIG))
    oracle.randomize(model, seed, gain=1.0)
    state = {name: tensor for name, tensor in model.state_dict().items() if "position_ids" not in name}
    oracle.write_checkpoint(folder / "plain", CONFIG, state)
    inputs = oracle.random_inputs(seed, CONFIG["vocab_size"], first_id=FIRST_ID)
    oracle.make_expected(folder / "plain", transformers.AutoModel, inputs, seed, generates=False)
    small = dict(CONFIG, hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=36)
    for head in ("masked_lm", "sequence_classification", "token_classification", "question_answering"):
        heads.make_head(folder / head, head, transformers.MPNetConfig, small, seed=3, first_id=FIRST_ID)
