#!/usr/bin/env python3
"""Writes the seeds of the fuzzers, tests/fuzz/corpus/: small files of every kind that the loaders read."""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
IMAGES = CORPUS.parents[1] / "goldens/images/files"
IMAGE_SEEDS = ("grey_1.png", "grey_16_interlaced.png", "palette_8_transparent.png", "rgba_16.png", "exif_behind.png",
               "jpeg_420.jpg", "jpeg_progressive.jpg", "jpeg_cmyk.jpg", "jpeg_exif_6.jpg", "jpeg_xmp_8.jpg",
               "jpeg_restarts.jpg")


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, contents) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(contents)]}
        data += contents
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


class Gguf:
    """A GGUF file: metadata as (key, type, packed value), tensors as (name, dimensions, ggml type, bytes)."""

    ALIGNMENT = 32
    UINT32, FLOAT32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9

    def __init__(self):
        self.metadata, self.tensors = [], []

    @staticmethod
    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def add(self, key: str, value) -> None:
        kind, packed = self.pack(value)
        self.metadata.append(self.string(key) + struct.pack("<I", kind) + packed)

    def pack(self, value) -> tuple[int, bytes]:
        if isinstance(value, bool):
            return self.BOOL, struct.pack("<?", value)
        if isinstance(value, int):
            return self.UINT32, struct.pack("<I", value)
        if isinstance(value, float):
            return self.FLOAT32, struct.pack("<f", value)
        if isinstance(value, str):
            return self.STRING, self.string(value)
        items = [self.pack(item) for item in value]
        return self.ARRAY, struct.pack("<IQ", items[0][0], len(items)) + b"".join(packed for _, packed in items)

    def to_bytes(self) -> bytes:
        header = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)) + b"".join(self.metadata)
        data = b""
        for name, dimensions, kind, contents in self.tensors:
            data += b"\0" * (-len(data) % self.ALIGNMENT)
            header += self.string(name) + struct.pack("<I", len(dimensions))
            header += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, len(data))
            data += contents
        return header + b"\0" * (-len(header) % self.ALIGNMENT) + data


def gguf(tokenizer_model: str) -> bytes:
    file = Gguf()
    file.add("general.architecture", "llama")
    for key, value in {"block_count": 1, "context_length": 64, "embedding_length": 32, "feed_forward_length": 32,
                       "attention.head_count": 2, "attention.head_count_kv": 1, "vocab_size": 4,
                       "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e4,
                       "rope.dimension_count": 16}.items():
        file.add(f"llama.{key}", value)
    file.add("tokenizer.ggml.model", tokenizer_model)
    file.add("tokenizer.ggml.pre", "smollm")
    file.add("tokenizer.ggml.tokens", ["<unk>", "H", "e", "He"])
    file.add("tokenizer.ggml.scores", [0.0, -1.0, -2.0, -3.0])
    file.add("tokenizer.ggml.token_type", [2, 1, 1, 1])
    file.add("tokenizer.ggml.merges", ["H e"])
    file.add("tokenizer.ggml.bos_token_id", 0)
    file.add("tokenizer.ggml.add_bos_token", True)
    f32, f16, q4_1, q8_0 = 0, 1, 3, 8
    sizes = {f32: 128, f16: 64, q4_1: 20, q8_0: 34}  # bytes of 32 values
    def tensor(name, rows, kind):
        dimensions = [32] if rows == 1 else [32, rows]
        file.tensors.append((name, dimensions, kind, bytes(range(sizes[kind])) * rows))
    tensor("token_embd.weight", 4, q8_0)
    tensor("output_norm.weight", 1, f32)
    tensor("blk.0.attn_norm.weight", 1, f32)
    tensor("blk.0.attn_q.weight", 32, q4_1)
    tensor("blk.0.attn_k.weight", 16, q4_1)
    tensor("blk.0.attn_v.weight", 16, f16)
    tensor("blk.0.attn_output.weight", 32, q4_1)
    tensor("blk.0.ffn_norm.weight", 1, f32)
    for name in ("ffn_gate", "ffn_up", "ffn_down"):
        tensor(f"blk.0.{name}.weight", 32, q4_1)
    return file.to_bytes()


def tokenizer(text: str, **parts) -> bytes:
    added = [{"id": 0, "content": "<unk>", "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True}]
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None} | parts
    return json.dumps(whole, ensure_ascii=False).encode() + b"\0" + text.encode()


def bert() -> bytes:
    vocabulary = ["<unk>", "[CLS]", "[SEP]", "he", "##llo", "world", ",", "w", "##o"]
    return tokenizer(
        "Héllo, world 世界",
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                    "strip_accents": None, "lowercase": True},
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor={"type": "TemplateProcessing",
                        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                                   {"Sequence": {"id": "A", "type_id": 0}},
                                   {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                        "special_tokens": {name: {"id": name, "ids": [vocabulary.index(name)], "tokens": [name]}
                                           for name in ("[CLS]", "[SEP]")}},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 100, "vocab": {token: i for i, token in enumerate(vocabulary)}})


def byte_level() -> bytes:
    vocabulary = ["<unk>", "H", "e", "l", "o", "Ġ", "w", "He", "ll", "Hell"]
    return tokenizer(
        "Hello wool\n é",
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model={"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
               "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
               "vocab": {token: i for i, token in enumerate(vocabulary)}, "merges": ["H e", "l l", "He ll"]})


def unigram() -> bytes:
    return tokenizer(
        "hello  wörld",
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {
            "type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        model={"type": "Unigram", "unk_id": 0, "byte_fallback": False,
               "vocab": [["<unk>", 0.0], ["▁", -1.0], ["▁hello", -2.0], ["w", -3.0], ["rld", -4.5]]})


def sentence_piece(family: int, text: str, algorithm: int, byte_fallback: bool = False) -> bytes:
    """A SentencePiece file in Protocol Buffers' wire format, behind a family and a text."""
    def varint(value: int) -> bytes:
        low = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
        return low + varint(value >> 7) if value > 0x7F else low

    def field(number: int, value: int | float | bytes) -> bytes:
        if isinstance(value, bytes):
            return varint(number << 3 | 2) + varint(len(value)) + value
        if isinstance(value, float):
            return varint(number << 3 | 5) + struct.pack("<f", value)
        return varint(number << 3) + varint(value)

    normal, unknown, control, user_defined, unused, byte = range(1, 7)
    pieces = [("<unk>", 0.0, unknown), ("<s>", 0.0, control), ("</s>", 0.0, control), ("[CLS]", 0.0, control),
              ("[SEP]", 0.0, control), ("[x]", 0.0, user_defined), ("he", -1.5, unused), ("h", -4.0, normal),
              ("e", -4.5, normal), ("l", -5.0, normal), ("o", -5.5, normal), ("ll", -2.0, normal),
              ("\u2581", -3.0, normal), ("\u2581he", -2.5, normal), ("\u2581hello", -1.0, normal), ("w", -6.0, normal)]
    if byte_fallback:
        pieces += [("<0x%02X>" % i, 0.0, byte) for i in range(256)]
    # One rule: a tab becomes a space. Units of Darts-clone: the root, and the tab with its leaf.
    units = [0] * 256
    units[0] = 1 << 10
    units[1 ^ 9] = 2 << 10 | 0x100 | 9
    units[1 ^ 9 ^ 2] = 0x80000000
    charsmap = struct.pack("<I256I", 1024, *units) + b" \0"
    file = b"".join(field(1, field(1, piece.encode()) + field(2, score) + field(3, kind))
                    for piece, score, kind in pieces)
    file += field(2, field(3, algorithm) + field(35, int(byte_fallback)))
    file += field(3, field(1, b"rules") + field(2, charsmap))
    return bytes([family, len(text.encode())]) + text.encode() + file


def packed_file() -> bytes:
    """The fuzzer puts its size and its checksums right."""
    text = lambda value: struct.pack("<I", len(value)) + value.encode()
    table = struct.pack("<I", 1) + text("dtype") + text("bf16")
    table += text("head") + text("int4 [16, 32], panels of 16, 1") + struct.pack("<QQQ", 4096, 20, 0)
    header = b"ATTNPACK" + struct.pack("<I20xQQQQ", 1, 0, len(table), 0, 0)
    return (header + table).ljust(4096, b"\0") + bytes(20)


def main() -> None:
    f32 = struct.pack("<6f", *range(6))
    seeds = {
        "safetensors/two": safetensors({"a": ("F32", [2, 3], f32), "b.weight": ("BF16", [2, 2], bytes(8))}),
        "safetensors/empty": safetensors({}),
        "safetensors/scalar": safetensors({"a": ("F16", [], bytes(2)), "b": ("I64", [0, 3], b"")}),
        "gguf/gpt2": gguf("gpt2"),
        "gguf/llama": gguf("llama"),
        "packed_file/one": packed_file(),
        "tokenizer/bert": bert(),
        "tokenizer/byte_level": byte_level(),
        "tokenizer/unigram": unigram(),
        "sentence_piece/unigram": sentence_piece(0, "hello  w[x]\tö", 1),
        "sentence_piece/byte_pair": sentence_piece(0, " hello hell[x]o é", 2, byte_fallback=True),
        "sentence_piece/albert": sentence_piece(2, "``HÉLLO''", 1),
        "sentence_piece/mbart": sentence_piece(4, "hello</s> w <mask>", 1),
        "sentence_piece/marian": sentence_piece(5, ">>fra<<hello w<unk>", 2),
    }
    seeds |= {f"image/{pathlib.Path(name).stem}": (IMAGES / name).read_bytes() for name in IMAGE_SEEDS}
    for name, contents in seeds.items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


if __name__ == "__main__":
    main()
