"""T5: RMS norms before the sublayers, buckets of distances, unscaled scores; v1.0 with relu and a scaled tied head, v1.1 gated."""

import transformers
from bart.make import make_case

CONFIG = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_ff": 52,
    "d_kv": 10,
    "d_model": 36,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "feed_forward_proj": "relu",
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-6,
    "n_positions": 140,
    "num_decoder_layers": 3,
    "num_heads": 5,
    "num_layers": 2,
    "pad_token_id": 0,
    # Small enough for every bucket to be met, and the last by many distances.
    "relative_attention_max_distance": 24,
    "relative_attention_num_buckets": 12,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": 97,
}


def make(folder):
    # Scores are not scaled: smaller weights keep softmax away from its ends.
    make_case(
        folder / "v1_0",
        CONFIG,
        lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**CONFIG)),
        gain=0.8,
        attention_gain=1.0,
    )
    gated = dict(CONFIG, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    del gated["num_decoder_layers"]
    make_case(
        folder / "v1_1",
        gated,
        lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**gated)),
        gain=0.8,
        attention_gain=1.0,
        untied=True,
    )
