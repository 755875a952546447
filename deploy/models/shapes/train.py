#!/usr/bin/env python3
"""Trains the bundled Vision Transformer: it tells drawn shapes and their colors apart.

    ./dev oracle deploy/models/shapes/train.py

writes config.json, preprocessor_config.json and model.safetensors beside this script, held_out.jpg,
a sheet of drawings that training never saw, a column for each label, and examples/, a few larger
drawings. What it prints is training.log.

The model is that of Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020, as transformers
builds it, at a small size and without pre-training.
"""

import argparse
import io
import json
import math
import pathlib
import time

import numpy
import torch
from PIL import Image
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

FOLDER = pathlib.Path(__file__).resolve().parent
SEED = 2020
SIDE = 48  # pixels
HELD_OUT_ROWS = 25
EXAMPLES = ("red star", "blue circle", "green triangle", "yellow square")
EXAMPLE_SIDE = 192

COLORS = {"red": (0.85, 0.1, 0.1), "green": (0.1, 0.65, 0.15), "blue": (0.1, 0.25, 0.85), "yellow": (0.95, 0.85, 0.1)}
SHAPES = ("circle", "square", "triangle", "star")
LABELS = [f"{color} {shape}" for color in COLORS for shape in SHAPES]


def polygon_distance(x, y, points):
    """Beyond each edge of a convex polygon around the origin, in the order of its corners; the largest is how far
    outside a point is."""
    distance = numpy.full_like(x, -numpy.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
        length = math.hypot(x1 - x0, y1 - y0)
        distance = numpy.maximum(distance, ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length)
    return distance


def regular_polygon(corners, radius):
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def star_distance(x, y, radius=1.15, inner=0.5):
    """Folded onto half of one point of five, whose tip lies at angle 0."""
    angle = numpy.mod(numpy.arctan2(y, x) + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
    along, across = numpy.hypot(x, y) * numpy.cos(angle), numpy.hypot(x, y) * numpy.abs(numpy.sin(angle))
    inner_x, inner_y = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)
    normal = (inner_y, radius - inner_x)
    return ((along - radius) * normal[0] + across * normal[1]) / math.hypot(*normal)


DISTANCES = {
    "circle": lambda x, y: numpy.hypot(x, y) - 0.9,
    "square": lambda x, y: polygon_distance(x, y, regular_polygon(4, 1.1)),
    "triangle": lambda x, y: polygon_distance(x, y, regular_polygon(3, 1.2)),
    "star": star_distance,
}
UPRIGHT = {"circle": 0.0, "square": math.pi / 4, "triangle": -math.pi / 2, "star": -math.pi / 2}


def draw(label, rng, side=SIDE, noise=0.02):
    """A shape of any place, size, tilt and shade, before a grey background: u8 [side, side, 3]."""
    color, shape = label.split()
    radius = rng.uniform(0.2, 0.38)
    x0, y0 = rng.uniform(1.1 * radius, 1 - 1.1 * radius, 2)
    tilt = UPRIGHT[shape] + rng.uniform(-0.25, 0.25)
    y, x = (numpy.mgrid[:side, :side] + 0.5) / side
    x, y = (x - x0) / radius, (y - y0) / radius
    x, y = x * math.cos(tilt) + y * math.sin(tilt), y * math.cos(tilt) - x * math.sin(tilt)
    inside = numpy.clip(0.5 - DISTANCES[shape](x, y) * radius * side, 0, 1)[..., None]
    background = rng.uniform(0.1, 1.0) * numpy.linspace(1, rng.uniform(0.6, 1.0), side)[:, None, None]
    foreground = numpy.clip(numpy.array(COLORS[color]) * rng.uniform(0.75, 1.1) + rng.normal(0, 0.04, 3), 0, 1)
    image = background + inside * (foreground - background) + rng.normal(0, noise, (side, side, 1))
    return numpy.clip(image * 255 + 0.5, 0, 255).astype(numpy.uint8)


def draw_sheet(rng):
    """Rows of drawings, a column for each label, as a JPEG file."""
    rows = [numpy.concatenate([draw(label, rng) for label in LABELS], 1) for _ in range(HELD_OUT_ROWS)]
    file = io.BytesIO()
    Image.fromarray(numpy.concatenate(rows)).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()


def cut_sheet(file):
    """The drawings of a sheet, row by row. They are of whole blocks of 8 x 8 pixels, so none shows in its neighbors."""
    sheet = numpy.asarray(Image.open(io.BytesIO(file)))
    return [sheet[y:y + SIDE, x:x + SIDE]
            for y in range(0, sheet.shape[0], SIDE) for x in range(0, sheet.shape[1], SIDE)]


def pixel_values(images):
    return torch.from_numpy(numpy.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    best = torch.cat([model(pixel_values(images[i:i + 100])).logits.argmax(-1) for i in range(0, len(images), 100)])
    model.train()
    return (best == torch.tensor(labels)).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    train_seed, held_out_seed, example_seed = numpy.random.SeedSequence(SEED).spawn(3)
    rng = numpy.random.default_rng(train_seed)
    sheet = draw_sheet(numpy.random.default_rng(held_out_seed))
    held_out = cut_sheet(sheet)
    held_out_labels = list(range(len(LABELS))) * HELD_OUT_ROWS

    config = {
        "architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": SIDE, "patch_size": 8,
        "num_channels": 3, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "qkv_bias": True,
        "layer_norm_eps": 1e-12, "initializer_range": 0.08, "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
    }
    model = ViTForImageClassification(ViTConfig(**config))
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"seed {SEED}, torch {torch.__version__}, {num_parameters} parameters, {len(LABELS)} labels, {args.steps} "
          f"steps of {args.batch} drawings, learning rate {args.learning_rate}", flush=True)

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps))))
    start, total = time.time(), 0.0
    for step in range(1, args.steps + 1):
        labels = rng.integers(len(LABELS), size=args.batch)
        images = [draw(LABELS[label], rng) for label in labels]
        loss = nn.functional.cross_entropy(model(pixel_values(images)).logits, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            line = f"step {step} loss {total / 100:.4f}"
            if step % 500 == 0:
                line += f" right of held out {accuracy(model, held_out, held_out_labels):.4f}"
            print(f"{line} ({time.time() - start:.0f} s)", flush=True)
            total = 0.0
    model.half().float()  # as it is stored
    print(f"{accuracy(model, held_out, held_out_labels):.4f} of {len(held_out)} held out are right")

    model.half().save_pretrained(args.output)
    (args.output / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}, indent=2) + "\n")
    (args.output / "preprocessor_config.json").write_text(json.dumps(
        {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": SIDE, "width": SIDE},
         "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
         "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, indent=2) + "\n")
    (args.output / "held_out.jpg").write_bytes(sheet)
    (args.output / "examples").mkdir(exist_ok=True)
    example_rng = numpy.random.default_rng(example_seed)
    for label in EXAMPLES:
        Image.fromarray(draw(label, example_rng, EXAMPLE_SIDE, noise=0)).save(
            args.output / "examples" / f"{label.replace(' ', '-')}.png", optimize=True)


if __name__ == "__main__":
    main()
