"""A Marian checkpoint of random weights, as large as the usual bilingual ones: for measurements, not for its words.

    ./dev oracle python3 tests/benchmarks/make_translator.py FOLDER
"""

import sys

import torch
import transformers


def main():
    folder = sys.argv[1]
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        vocab_size=32000,
        decoder_vocab_size=32000,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        max_position_embeddings=512,
        activation_function="swish",
        scale_embedding=True,
        static_position_embeddings=True,
        pad_token_id=2,
        eos_token_id=0,
        decoder_start_token_id=2,
        forced_eos_token_id=0,
    )
    model = transformers.MarianMTModel(config)
    # Larger than a model begins with, so that the source changes the answer.
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "embed" not in name and "shared" not in name:
            weight.data.mul_(4)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=2, eos_token_id=0, decoder_start_token_id=2, max_length=512
    )
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
