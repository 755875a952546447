"""all-MiniLM-L6-v2 on the sentences of sentences.json: mean pooling, normalized, each sentence alone."""

import json

import torch
import transformers
from safetensors.torch import save_file

import oracle

MODEL = "all-MiniLM-L6-v2"


def make(folder):
    sentences = json.loads((folder / "sentences.json").read_text())
    assert len(sentences) == 100 == len(set(sentences))
    path = oracle.fetched_model(MODEL)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = oracle.load(transformers.AutoModel, path)
    embeddings, counts = [], []
    for sentence in sentences:
        batch = tokenizer(sentence, return_tensors="pt")
        counts.append(batch["input_ids"].shape[1])
        vector = model(**batch).last_hidden_state[0].mean(0)
        embeddings.append(vector / vector.norm())
    tensors = {"embeddings": torch.stack(embeddings), "num_tokens": torch.tensor(counts)}
    save_file(tensors, folder / "expected.safetensors")
    print(f"minilm: {len(sentences)} sentences of {min(counts)} to {max(counts)} tokens", flush=True)
