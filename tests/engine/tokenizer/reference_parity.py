#!/usr/bin/env python3
"""Compares our tokenizers with the reference library on 20,000 lines of real and of nasty text.

  reference_parity.py ENCODE_LINES SHARED_DIR

ENCODE_LINES is the program of encode_lines.cc; SHARED_DIR has real tokenizers. Every token id and offset, and what the
ids decode to, must be equal. The library comes from PyPI, pinned, into a virtual environment under ~/.cache. Exits with
77 where there is no PyPI or no SHARED_DIR.
"""

import glob
import gettext
import json
import os
import random
import struct
import subprocess
import sys
import time

VERSION = "0.22.2"
SKIPPED = 77
NUM_LINES = 20000


def reenter_with_library():
    """Runs this script again in a virtual environment that has the library, unless this is one."""
    try:
        import tokenizers
        if tokenizers.__version__ == VERSION:
            return
    except ImportError:
        pass
    home = os.path.expanduser("~/.cache/attendant/tokenizers-%s-py%d%d" % (VERSION, *sys.version_info[:2]))
    python = os.path.join(home, "bin", "python3")
    if os.environ.get("ATTENDANT_PARITY_VENV") == home:
        print("SKIPPED: the virtual environment %s lacks tokenizers %s" % (home, VERSION))
        sys.exit(SKIPPED)
    probe = [python, "-c", "import tokenizers; assert tokenizers.__version__ == '%s'" % VERSION]
    if not os.path.exists(python) or subprocess.run(probe, capture_output=True).returncode != 0:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        # No dependencies: what they add is the download of models, which is not used.
        install = [python, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "tokenizers==" + VERSION]
        result = subprocess.run(install, capture_output=True, text=True)
        if result.returncode != 0:
            print("SKIPPED: cannot install tokenizers %s from PyPI:\n%s" % (VERSION, result.stderr[-500:]))
            sys.exit(SKIPPED)
    os.environ["ATTENDANT_PARITY_VENV"] = home
    os.execv(python, [python] + sys.argv)


def real_lines(rng):
    """Lines of what any system with the toolchain has: translations in some forty languages, sources, manuals."""
    lines = []
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/*.mo")):
        try:
            with open(path, "rb") as file:
                catalog = gettext.GNUTranslations(file)._catalog
        except (OSError, ValueError, LookupError):
            continue
        texts = [text for text in catalog.values() if isinstance(text, str) and text]
        lines += rng.sample(texts, min(len(texts), 60))
    for folder in (os.path.dirname(os.__file__), "/usr/share/perl", "/usr/share/vim", "/usr/share/doc"):
        paths = [path for path in glob.glob(folder + "/**/*", recursive=True)
                 if path.endswith((".py", ".pm", ".pl", ".vim", ".txt", "copyright"))]
        for path in rng.sample(sorted(paths), min(len(paths), 150)):
            try:
                with open(path, encoding="utf-8") as file:
                    texts = file.read().split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            start = rng.randrange(max(1, len(texts) - 40))
            lines += texts[start:start + 40]
    rng.shuffle(lines)
    return lines


def nasty_lines(rng, count):
    """Strings that exercise every edge: scripts, marks, controls, emoji, spaces, contractions, special tokens."""
    words = ("the don't I'LL we've ' 's 'S 're Straße İstanbul ﬁnance ½ ² Ⅷ ㈱ x² naïve café e\u0301 A\u030a\u0323 "
             "各国 日本語 ｶﾞ 한국어 ᄀ각ᆨ ไทย हिन्दी क्ष த​மிழ் עברית العربية \u0644\u0627 русский Ελληνικά ΣΑΣ "
             "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ☃️ [CLS] [SEP] [MASK] [UNK] [PAD] <s> </s> <unk> <|endoftext|> <|im_start|> "
             "<|im_end|> ##ing ▁the Ġthe <0x0A> http://a.b/?c=d&e#f user@example.com 1234567 3.14 1,000 ٣٤٥ a_b_c "
             "__init__ C++ $100 #tag @user ... -- — … “quoted” ‘it’s’ ~^`|<>").split(" ")
    spaces = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\u200d", "\u0085",
              "\u180e", "\ufeff", "\x0b", "\x0c", ""]
    blocks = [(0x00, 0x7F), (0x80, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
              (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1D00, 0x20CF), (0x2100, 0x27BF), (0x3000, 0x30FF),
              (0x3300, 0x33FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0xF900, 0xFB4F), (0xFE00, 0xFFFF),
              (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x1D100, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x200FF),
              (0xE0000, 0xE01FF)]
    lines = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 12)):
            kind = rng.random()
            if kind < 0.5:
                parts.append(rng.choice(words))
            elif kind < 0.7:
                first, last = rng.choice(blocks)
                parts.append("".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(1, 6))))
            elif kind < 0.75:
                parts.append(rng.choice(words)[:1] * rng.randrange(1, 150))
            elif kind < 0.8:
                parts.append("".join(chr(rng.choice(range(0x300, 0x345))) for _ in range(rng.randrange(1, 6))))
            if rng.random() < 0.8:
                parts.append(rng.choice(spaces) * rng.choice((1, 1, 1, 2, 5)))
        lines.append("".join(c for c in "".join(parts) if not 0xD800 <= ord(c) < 0xE000))
    return lines


def all_characters():
    """Every code point of the planes in use: this is what finds a difference between tables of Unicode."""
    for first in [*range(0, 0xD800, 256), *range(0xE000, 0x20000, 256), *range(0xE0000, 0xE0200, 256)]:
        yield " ".join("a" + chr(c) for c in range(first, first + 256))


def read_gguf(path):
    """The tokenizer.ggml.* keys of a GGUF file."""
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:
        def read(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(read("Q")).decode()
            if kind == 9:
                inner, count = read("I"), read("Q")
                return [value(inner) for _ in range(count)]
            return read(formats[kind])

        assert file.read(4) == b"GGUF"
        read("I"), read("Q")
        keys = {}
        for _ in range(read("Q")):
            key = value(8)
            keys[key] = value(read("I"))
        return {key[len("tokenizer.ggml."):]: v for key, v in keys.items() if key.startswith("tokenizer.ggml.")}


def smollm_tokenizer(gguf, path):
    """SmolLM2's tokenizer as its tokenizer.json describes it, and its GGUF vocabulary written to `path`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    vocab = {token: i for i, token in enumerate(gguf["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in gguf["merges"]]
    reference = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    reference.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    reference.decoder = decoders.ByteLevel()
    for token, kind in zip(gguf["tokens"], gguf["token_type"]):
        if kind in (2, 3):
            reference.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"model": gguf["model"], "pre": gguf["pre"], "tokens": gguf["tokens"], "scores": [],
                   "token_types": gguf["token_type"], "merges": gguf["merges"], "bos_id": gguf.get("bos_token_id"),
                   "eos_id": gguf.get("eos_token_id"), "unknown_id": gguf.get("unknown_token_id")}, file)
    return reference


def encode_ours(program, form, path, lines):
    data = b"".join(struct.pack("<I", len(raw)) + raw for raw in (line.encode() for line in lines))
    result = subprocess.run([program, form, path], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode != 0:
        sys.exit("encode_lines failed: %s" % result.stderr.decode()[-2000:])
    out, position, encodings = result.stdout, 0, []
    for _ in lines:
        (count,) = struct.unpack_from("<I", out, position)
        values = struct.unpack_from("<%di" % (3 * count), out, position + 4)
        position += 4 + 12 * count
        (size,) = struct.unpack_from("<I", out, position)
        text = out[position + 4:position + 4 + size].decode()
        position += 4 + size
        encodings.append((list(values[:count]), list(zip(values[count:2 * count], values[2 * count:])), text))
    return encodings, float(result.stderr.decode().split()[-1])


def compare(name, reference, program, form, path, lines):
    ours, our_seconds = encode_ours(program, form, path, lines)
    start = time.monotonic()
    theirs = [reference.encode(line, add_special_tokens=True) for line in lines]
    their_seconds = time.monotonic() - start
    failures = 0
    for line, (ids, offsets, text), expected in zip(lines, ours, theirs):
        char_at, position = {}, 0  # bytes to code points
        for index, c in enumerate(line):
            char_at[position] = index
            position += len(c.encode())
        char_at[position] = len(line)
        offsets = [(char_at.get(begin, -1), char_at.get(end, -1)) for begin, end in offsets]
        what = []
        if ids != expected.ids:
            what.append("ids %s, not %s" % (ids, expected.ids))
        elif offsets != expected.offsets:
            what.append("offsets %s, not %s" % (offsets, expected.offsets))
        elif text != reference.decode(expected.ids, skip_special_tokens=True):
            what.append("decodes to %r, not %r" % (text, reference.decode(expected.ids)))
        if what:
            failures += 1
            if failures <= 3:
                print("%s: %r: %s" % (name, line, what[0]))
    size = sum(len(line.encode()) for line in lines) / 1e6
    print("%s: %d mismatches in %d texts of %.1f MB; encoded at %.1f MB/s, the reference at %.1f MB/s" %
          (name, failures, len(lines), size, size / our_seconds, size / their_seconds))
    return failures


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, shared = sys.argv[1:]
    if not os.path.isdir(shared):
        print("SKIPPED: there is no %s" % shared)
        sys.exit(SKIPPED)
    reenter_with_library()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    rng = random.Random(20240722)
    real = real_lines(rng)[:NUM_LINES * 3 // 4]
    lines = real + nasty_lines(rng, NUM_LINES - len(real)) + list(all_characters())
    print("%d lines of real text, %d made up, %d of all characters" % (len(real), NUM_LINES - len(real),
                                                                       len(lines) - NUM_LINES))
    failures = 0
    for name in ("vectors/tokenizers/bert-base-uncased", "vectors/tokenizers/gpt2", "vectors/tokenizers/spm-unigram-1k",
                 "models/stories260K"):
        path = os.path.join(shared, name, "tokenizer.json")
        reference = Tokenizer.from_file(path)
        reference.no_truncation()
        reference.no_padding()
        failures += compare(os.path.basename(name), reference, program, "json", path, lines)
    gguf = os.path.join(os.environ.get("ATTENDANT_MODELS_DIR", os.path.expanduser("~/.cache/attendant/models")),
                        "SmolLM2-135M-Instruct.gguf")
    if os.path.exists(gguf):
        path = os.path.join(os.path.dirname(program), "smollm2_vocabulary.json")
        failures += compare("SmolLM2", smollm_tokenizer(read_gguf(gguf), path), program, "gguf", path, lines)
    else:
        print("SmolLM2: left out, since there is no %s" % gguf)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
