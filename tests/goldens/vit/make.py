"""ViT: pre-norm encoder over the patches of an image."""

import transformers

import oracle

CONFIG = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "attention_probs_dropout_prob": 0.0,
    "encoder_stride": 4,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 36,
    "id2label": {"0": "cat", "1": "dog", "2": "tree", "3": "car", "4": "cup"},
    "image_size": 14,
    "initializer_range": 0.02,
    "intermediate_size": 52,
    "label2id": {"cat": 0, "dog": 1, "tree": 2, "car": 3, "cup": 4},
    "layer_norm_eps": 1e-12,
    "num_attention_heads": 3,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 4,
    "qkv_bias": True,
    "torch_dtype": "float32",
}
PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 14, "width": 14},
}


def case(folder, config, model_class, seed, processor=PROCESSOR):
    """A checkpoint of `model_class`, and what it makes of three random images."""
    model = model_class(model_class.config_class(**config)).eval()
    oracle.randomize(model, seed, gain=1.0)
    # As transformers saves them: under the names that checkpoints have had since 2020.
    oracle.save_checkpoint(folder, model, config)
    oracle.write_json(folder / "preprocessor_config.json", processor)
    size = config["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    inputs = oracle.random_images(seed, height, width)
    oracle.make_expected(folder, model_class, inputs, seed, generates=False)


def make(folder):
    # A square of patches with a rest of two pixels.
    case(folder / "classifier", CONFIG, transformers.ViTForImageClassification, 0)
    # A bare model with its pooler, whose patches and images are no squares; no biases of queries, keys and values.
    wide = {**CONFIG, "architectures": ["ViTModel"], "image_size": [12, 20], "patch_size": [4, 5], "qkv_bias": False}
    processor = {**PROCESSOR, "size": {"height": 12, "width": 20}, "image_mean": [0.485, 0.456, 0.406],
                 "image_std": [0.229, 0.224, 0.225], "resample": 3}
    case(folder / "bare", wide, transformers.ViTModel, 1, processor)
