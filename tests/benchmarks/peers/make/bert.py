"""make/bert.py FOLDER: BERT-base of random weights."""

import sys

import torch
import transformers

torch.manual_seed(0)
config = transformers.BertConfig(vocab_size=30522, max_position_embeddings=512)  # all else is BERT-base's
transformers.BertModel(config, add_pooling_layer=False).eval().save_pretrained(sys.argv[1])
