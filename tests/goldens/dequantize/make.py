"""Blocks of random bytes in each quantized format, and the values that the gguf package finds in them."""

import gguf
import numpy
import torch
from safetensors.torch import save_file

NUM_BLOCKS = 8

# Where the binary16 numbers of a block are.
HALVES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}


def make(folder):
    random = numpy.random.Generator(numpy.random.PCG64(0))
    tensors = {}
    for name, halves in HALVES.items():
        kind = gguf.GGMLQuantizationType[name]
        _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (NUM_BLOCKS, block_bytes), dtype=numpy.uint8)
        for at in halves:
            scales = (random.standard_normal(NUM_BLOCKS) * 0.05).astype(numpy.float16)
            blocks[:, at : at + 2] = scales.view(numpy.uint8).reshape(NUM_BLOCKS, 2)
        values = numpy.array(gguf.dequantize(blocks, kind), dtype=numpy.float32)
        tensors[f"{name}.blocks"] = torch.from_numpy(blocks)
        tensors[f"{name}.values"] = torch.from_numpy(values)
    save_file(tensors, folder / "expected.safetensors")
    print(f"dequantize: {', '.join(HALVES)}", flush=True)
