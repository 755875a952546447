"""Images: small files of every kind that is decoded, what Pillow and the image processors of transformers make of them,
and what Pillow's resampling makes of one of them."""

import io
import json
import struct
import warnings
import zlib

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor
from transformers.image_utils import load_image

RANDOM = numpy.random.Generator(numpy.random.PCG64(5))
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}

# Orientation 6 of a TIFF structure with another entry before it, little- and big-endian.
EXIF_LITTLE = struct.pack("<2sHIHHHIIHHIHHI", b"II", 42, 8, 2, 0x100, 3, 1, 9, 0x112, 3, 1, 6, 0, 0)
EXIF_BIG = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x112, 3, 1, 5, 0, 0)


def picture(height, width, channels=3):
    """Smooth colours with noise on them: [height, width, channels]."""
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [numpy.sin(x / (3 + c) + c) + numpy.cos(y / (4 + 2 * c)) for c in range(channels)]
    values = 128 + 50 * numpy.stack(waves, -1) + 30 * RANDOM.standard_normal((height, width, channels))
    return values.clip(0, 255).astype(numpy.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, depth, color_type, chunks=b"", late_chunks=b"", interlaced=False):
    """A PNG of [height, width, samples a pixel], each row with another filter; Pillow writes too few kinds itself."""
    height, width = samples.shape[:2]
    channels = samples.shape[2]

    def pack(row):
        if depth == 16:
            return row.astype(">u2").tobytes()
        bits = "".join(f"{value:0{depth}b}" for value in row.flatten())
        bits += "0" * (-len(bits) % 8)
        return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))

    def filtered(rows):
        step = max(1, channels * depth // 8)
        above, data = None, b""
        for i, row in enumerate(pack(row) for row in rows):
            above = above or bytes(len(row))
            kind = i % 3
            left = bytes(step) + row[:-step] if step < len(row) else bytes(len(row))
            base = (bytes(len(row)), left, above)[kind]
            data += bytes([kind]) + bytes((a - b) % 256 for a, b in zip(row, base))
            above = row
        return data

    if interlaced:
        steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [samples[y::dy, x::dx] for y, x, dy, dx in steps]
        data = b"".join(filtered(part) for part in passes if part.size)
    else:
        data = filtered(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(data, 9))
            + late_chunks + chunk(b"IEND", b""))


def png_files():
    palette = chunk(b"PLTE", RANDOM.integers(0, 256, 3 * 11).astype(numpy.uint8).tobytes())
    transparency = chunk(b"tRNS", bytes([0, 90, 200]))
    random = lambda channels, most: RANDOM.integers(0, most, (5, 9, channels))
    wide = lambda channels: RANDOM.integers(0, 65536, (5, 9, channels))
    yield "grey_1", png(random(1, 2), 1, GREY)
    yield "grey_2", png(random(1, 4), 2, GREY)
    yield "grey_4", png(random(1, 16), 4, GREY)
    yield "grey_8", png(random(1, 256), 8, GREY)
    yield "grey_8_transparent", png(random(1, 256), 8, GREY, chunk(b"tRNS", struct.pack(">H", 7)))
    yield "grey_16", png(RANDOM.integers(0, 400, (5, 9, 1)), 16, GREY)
    yield "grey_16_interlaced", png(RANDOM.integers(0, 400, (5, 9, 1)), 16, GREY, interlaced=True)
    yield "grey_alpha_8", png(random(2, 256), 8, GREY_ALPHA)
    yield "grey_alpha_16", png(wide(2), 16, GREY_ALPHA)
    yield "rgb_8", png(random(3, 256), 8, RGB)
    yield "rgb_8_interlaced", png(random(3, 256), 8, RGB, interlaced=True)
    yield "rgb_8_gamma", png(random(3, 256), 8, RGB, chunk(b"gAMA", struct.pack(">I", 100000)))
    yield "rgb_16", png(wide(3), 16, RGB)
    yield "rgba_8", png(random(4, 256), 8, RGBA)
    yield "rgba_16", png(wide(4), 16, RGBA)
    yield "palette_1", png(random(1, 2), 1, PALETTE, palette)
    yield "palette_2", png(random(1, 4), 2, PALETTE, palette)
    yield "palette_4", png(random(1, 11), 4, PALETTE, palette)
    yield "palette_8", png(random(1, 11), 8, PALETTE, palette)
    yield "palette_8_transparent", png(random(1, 11), 8, PALETTE, palette + transparency)
    yield "palette_8_interlaced", png(random(1, 11), 8, PALETTE, palette, interlaced=True)
    yield "exif_before", png(random(3, 256), 8, RGB, chunk(b"eXIf", EXIF_LITTLE))
    yield "exif_behind", png(random(3, 256), 8, RGB, late_chunks=chunk(b"eXIf", EXIF_BIG))
    yield "one_pixel", png(RANDOM.integers(0, 256, (1, 1, 3)), 8, RGB)


def jpeg(mode, size=(21, 35), **options):
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    pixels = picture(*size, channels)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(file, "JPEG", **options)
    return file.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x112] = orientation
    return data.tobytes()


def xmp(text):
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + text + b"</x:xmpmeta>"


def jpeg_files():
    yield "jpeg_grey", jpeg("L", quality=90)
    yield "jpeg_444", jpeg("RGB", quality=90, subsampling=0)
    yield "jpeg_422", jpeg("RGB", quality=80, subsampling=1)
    yield "jpeg_420", jpeg("RGB", quality=80, subsampling=2)
    yield "jpeg_progressive", jpeg("RGB", quality=80, progressive=True)
    yield "jpeg_progressive_grey", jpeg("L", quality=80, progressive=True)
    yield "jpeg_restarts", jpeg("RGB", quality=80, restart_marker_blocks=1)
    yield "jpeg_rgb", jpeg("RGB", quality=90, keep_rgb=True)
    cmyk = jpeg("CMYK", quality=90)
    yield "jpeg_cmyk", cmyk
    adobe = cmyk.index(b"Adobe") + 11
    yield "jpeg_ycck", cmyk[:adobe] + b"\x02" + cmyk[adobe + 1 :]
    for orientation in range(0, 10):
        yield f"jpeg_exif_{orientation}", jpeg("RGB", (7, 12), quality=90, exif=exif(orientation))
    yield "jpeg_xmp_8", jpeg("RGB", (7, 12), xmp=xmp(b'<a tiff:Orientation="8"/>'))
    yield "jpeg_xmp_3", jpeg("RGB", (7, 12), xmp=xmp(b"<tiff:Orientation>3</tiff:Orientation>"))
    yield "jpeg_exif_before_xmp", jpeg("RGB", (7, 12), exif=exif(2), xmp=xmp(b'<a tiff:Orientation="8"/>'))


def decoded(file):
    return torch.from_numpy(numpy.array(load_image(Image.open(io.BytesIO(file)))))


# What checkpoints of the two families say, over images of 37 x 50 and 19 x 11 pixels.
PROCESSORS = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}},
    "vit_of_old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 16, "resample": 2, "do_resize": True,
                   "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    "vit_fast": {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 16, "width": 16}, "resample": 3,
                 "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "vit_lanczos": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 1},
    "vit_nearest": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "resample": 0},
    "vit_not_normalized": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16},
                           "do_normalize": False},
    "vit_not_rescaled": {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16},
                         "do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 70.0, 80.0]},
    "deit": {"image_processor_type": "DeiTImageProcessor", "size": {"height": 20, "width": 20},
             "crop_size": {"height": 16, "width": 16}, "resample": 3,
             "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "deit_of_old": {"feature_extractor_type": "DeiTFeatureExtractor", "size": 19, "crop_size": 16, "resample": 3,
                    "do_center_crop": True, "do_resize": True, "do_normalize": True,
                    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "deit_shortest_edge": {"image_processor_type": "DeiTImageProcessor", "size": {"shortest_edge": 18},
                           "crop_size": {"height": 16, "width": 16}},
    "deit_padded": {"image_processor_type": "DeiTImageProcessor", "size": {"height": 13, "width": 20},
                    "crop_size": {"height": 16, "width": 16}},
    "deit_cropped_alone": {"image_processor_type": "DeiTImageProcessor", "do_resize": False,
                           "crop_size": {"height": 16, "width": 16}},
}


def processed(folder, config, files):
    """pixel_values of each of `files`: by the backend that transformers takes by itself, and by Pillow's."""
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    for backend in ("torchvision", "pil"):
        processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
        assert processor.backend == backend
        for name, file in files.items():
            image = load_image(Image.open(io.BytesIO(file)))
            yield backend, name, processor(images=image, return_tensors="pt").pixel_values[0].contiguous()


def make(folder):
    warnings.simplefilter("ignore")
    for stale in folder.glob("files/*"):
        stale.unlink()
    (folder / "files").mkdir(exist_ok=True)
    tensors = {}
    for name, file in [*png_files(), *jpeg_files()]:
        extension = "jpg" if name.startswith("jpeg") else "png"
        (folder / "files" / f"{name}.{extension}").write_bytes(file)
        tensors[f"decoded.{name}"] = decoded(file)

    source = picture(37, 50)
    tensors["source"] = torch.from_numpy(source)
    for name, number in FILTERS.items():
        for height, width in ((16, 16), (37, 12), (9, 50), (1, 1), (61, 83), (80, 13)):
            resized = Image.fromarray(source).resize((width, height), number)
            tensors[f"resized.{name}.{height}x{width}"] = torch.from_numpy(numpy.array(resized))

    files = {}
    for name, size in {"landscape": (37, 50), "portrait": (19, 11)}.items():
        files[name] = png(picture(*size), 8, RGB)
        (folder / "files" / f"{name}.png").write_bytes(files[name])
    default = {}
    for name, config in PROCESSORS.items():
        for backend, image, values in processed(folder, config, files):
            tensors[f"processed.{name}.{image}.{backend}"] = values
        default[name] = type(AutoImageProcessor.from_pretrained(folder)).__name__
    (folder / "preprocessor_config.json").unlink()
    (folder / "processors.json").write_text(json.dumps(PROCESSORS, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors")
    print(f"images: {len(tensors)} tensors, default processors {sorted(set(default.values()))}")

