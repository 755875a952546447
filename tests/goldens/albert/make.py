"""ALBERT: BERT with narrow embeddings, and layers that share their weights."""

import transformers

import heads
import oracle

CONFIG = {
    "architectures": ["AlbertModel"],
    "model_type": "albert",
    "embedding_size": 20,
    "hidden_act": "gelu_new",
    "hidden_size": 40,
    "inner_group_num": 1,
    "intermediate_size": 52,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 70,
    "num_attention_heads": 5,
    "num_hidden_groups": 2,
    "num_hidden_layers": 5,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 97,
}


def make(folder):
    seed = 1
    model = transformers.AlbertModel(transformers.AlbertConfig(**CONFIG))
    oracle.randomize(model, seed, gain=1.0)
    state = {name: tensor for name, tensor in model.state_dict().items() if "position_ids" not in name}
    oracle.write_checkpoint(folder / "plain", CONFIG, state)
    inputs = oracle.random_inputs(seed, CONFIG["vocab_size"], token_types=True)
    oracle.make_expected(folder / "plain", transformers.AutoModel, inputs, seed, generates=False)
    small = dict(CONFIG, hidden_size=24, embedding_size=14, num_attention_heads=3, intermediate_size=36)
    small.update(num_hidden_layers=3, num_hidden_groups=1)
    for head in ("masked_lm", "sequence_classification", "token_classification", "question_answering"):
        heads.make_head(folder / head, head, transformers.AlbertConfig, small, seed=3, token_types=True)
