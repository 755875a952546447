"""make/ctranslate2_marian.py MARIAN_FOLDER FOLDER: the same weights for CTranslate2, in float, with made-up words."""

import os
import sys

import transformers
from ctranslate2.converters.transformers import BartLoader

source, folder = sys.argv[1:]
model = transformers.MarianMTModel.from_pretrained(source)
# What the converter asks of every BART, and Marian leaves out: each block's norm comes after it, and none comes first.
model.config.normalize_before = False
model.config.normalize_embedding = False
spec = BartLoader().get_model_spec(model)
words = [f"t{index}" for index in range(model.config.vocab_size)]
spec.register_source_vocabulary(words)
spec.register_target_vocabulary(words)
spec.config.eos_token = words[model.config.eos_token_id]
spec.config.unk_token = words[1]
spec.config.decoder_start_token = words[model.config.decoder_start_token_id]
spec.validate()
spec.optimize()
os.makedirs(folder)
spec.save(folder)
