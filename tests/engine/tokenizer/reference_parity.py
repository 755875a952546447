#!/usr/bin/env python3
"""Compares our tokenizers with the reference libraries on 20,000 lines of real and of nasty text.

  reference_parity.py ENCODE_LINES SHARED_DIR

ENCODE_LINES is the program of encode_lines.cc; SHARED_DIR has real tokenizers, and where it is absent they are left out.
SentencePiece models are trained here, on some of the lines. Every token id and offset, and what the ids decode to, must
be equal. The libraries, tokenizers and sentencepiece, come from PyPI, pinned, into a virtual environment under ~/.cache.
Exits with 77 where there is no PyPI.
"""

import collections
import glob
import gettext
import importlib.metadata
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

VERSIONS = {"tokenizers": "0.22.2", "sentencepiece": "0.2.1"}
SKIPPED = 77
NUM_LINES = 20000


def has_libraries():
    try:
        return all(importlib.metadata.version(name) == version for name, version in VERSIONS.items())
    except importlib.metadata.PackageNotFoundError:
        return False


def reenter_with_libraries():
    """Runs this script again in a virtual environment that has the libraries, unless this is one."""
    if has_libraries():
        return
    pins = ["%s==%s" % pin for pin in VERSIONS.items()]
    home = os.path.expanduser("~/.cache/attendant/%s-py%d%d" % ("-".join(pins).replace("==", "-"), *sys.version_info[:2]))
    python = os.path.join(home, "bin", "python3")
    if os.environ.get("ATTENDANT_PARITY_VENV") == home:
        print("SKIPPED: the virtual environment %s lacks one of %s" % (home, " ".join(pins)))
        sys.exit(SKIPPED)
    # The file says that everything is there: an environment that was cut off in the making is made again.
    complete = os.path.join(home, "complete")
    if not os.path.exists(complete):
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        # No dependencies: what they add is the download of models, which is not used.
        install = [python, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"] + pins
        result = subprocess.run(install, capture_output=True, text=True)
        if result.returncode != 0:
            print("SKIPPED: cannot install %s from PyPI:\n%s" % (" ".join(pins), result.stderr[-500:]))
            sys.exit(SKIPPED)
        open(complete, "w").close()
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


Encoded = collections.namedtuple("Encoded", "ids offsets")


def gguf_words(tokenizer_json, pre, path):
    """GPT-2's vocabulary with the words of another family: as its tokenizer.json would describe it, and as GGUF."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    with open(tokenizer_json, encoding="utf-8") as file:
        model = json.load(file)["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    digits = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}[pre]
    reference = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=pre == "llama-bpe"))
    reference.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits +
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    reference.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    reference.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    if pre == "llama-bpe":
        reference.post_processor = processors.TemplateProcessing(
            single=end + " $A", pair=end + " $A $B", special_tokens=[(end, model["vocab"][end])])
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"model": "gpt2", "pre": pre, "tokens": tokens, "scores": [],
                   "token_types": [3 if token == end else 1 for token in tokens],
                   "merges": [" ".join(merge) for merge in merges], "bos_id": model["vocab"][end],
                   "eos_id": None, "unknown_id": None}, file)
    return reference


class SentencePieceReference:
    """A family's tokenizer as transformers' Python classes make it of SentencePiece itself.

    ids: the id of each spelling; special: tokens that are cut out of the text first; frame: the ids around a text.
    """

    def __init__(self, model, ids, special=(), frame=((), ()), languages=False, decodes="metaspace", mask=None):
        import sentencepiece
        self.processor = sentencepiece.SentencePieceProcessor(model_file=model)
        self.ids, self.frame, self.languages, self.decodes, self.mask = ids, frame, languages, decodes, mask
        self.tokens = {i: token for token, i in ids.items()}
        self.special = set(special)
        pattern = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
        self.pattern = re.compile("(%s)" % pattern) if special else None

    def encode(self, line, add_special_tokens):
        ids, offsets = list(self.frame[0]), [(0, 0)] * len(self.frame[0])
        position = 0
        parts = self.pattern.split(line) if self.pattern else [line]
        for i, part in enumerate(parts):
            begin, end = position, position + len(part)
            position = end
            if i % 2 == 1:
                if part == self.mask:  # it takes the whitespace before it
                    begin -= len(parts[i - 1]) - len(rstrip(parts[i - 1]))
                ids.append(self.ids[part])
                offsets.append((begin, end))
                continue
            if i + 1 < len(parts) and parts[i + 1] == self.mask:
                part = rstrip(part)
            mark = part.find("<<") + 2 if self.languages and part.startswith(">>") else 0
            if mark >= 2:
                ids.append(self.ids.get(part[:mark], self.ids["<unk>"]))
                offsets.append((begin, begin + mark))
                begin, part = begin + mark, part[mark:]
            pieces = self.processor.encode(part, out_type="immutable_proto").pieces
            ends = [piece.end for piece in pieces]
            for at in range(len(pieces) - 2, -1, -1):
                # Of a character's bytes SentencePiece gives it to the last; tokenizers, and we, to each of them.
                if self.processor.is_byte(pieces[at].id) and re.fullmatch("<0x[89AB].>", pieces[at + 1].piece):
                    ends[at] = ends[at + 1]
            for piece, piece_end in zip(pieces, ends):
                ids.append(self.ids.get(piece.piece, self.ids["<unk>"]))
                offsets.append((begin + piece.begin, begin + piece_end))
        return Encoded(ids + list(self.frame[1]), offsets + [(0, 0)] * len(self.frame[1]))

    def decode(self, ids, skip_special_tokens):
        tokens = [self.tokens[i] for i in ids]
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self.special]
        if self.decodes == "metaspace":
            return "".join(t.replace("\u2581", " " if i else "") for i, t in enumerate(tokens))
        text = self.processor.decode_pieces(tokens)
        if self.decodes == "marian":
            text = text.replace("\u2581", " ")
        return text if self.decodes == "plain" else text.strip()


def rstrip(text):
    """Without the whitespace at its end, as Unicode has it: Python counts four separators more."""
    end = len(text)
    while end and text[end - 1].isspace() and text[end - 1] not in "\x1c\x1d\x1e\x1f":
        end -= 1
    return text[:end]


def train(folder, name, lines, **options):
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, num_threads=1, minloglevel=2, hard_vocab_limit=False,
        **{"vocab_size": 2000, "character_coverage": 0.98, "max_sentence_length": 2000, **options})
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return path, [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def numbered(*tokens):
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def sentence_piece_families(scratch, lines):
    """(name, model_type, folder, reference): each family, with a model of its kind."""
    def folder(name, model_type, config):
        path = os.path.join(scratch, name)
        os.mkdir(path)
        for file, value in (("config.json", {"model_type": model_type}), ("tokenizer_config.json", config)):
            with open(os.path.join(path, file), "w", encoding="utf-8") as out:
                json.dump(value, out)
        return path

    def write_vocabulary(path, ids):
        with open(os.path.join(path, "vocab.json"), "w", encoding="utf-8") as out:
            json.dump(ids, out, ensure_ascii=False)

    # SentencePiece as it is, with every setting that text can tell apart.
    plain = {"add_bos_token": False}
    for name, options in (
            ("unigram_nmt_nfkc", {}),
            ("bpe_bytes_identity", {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
                                    "split_digits": True}),
            ("unigram_user_defined_cf", {"user_defined_symbols": ["http", "\u2581the", "..", "\U0001f44d", "[CLS]"],
                                         "normalization_rule_name": "nmt_nfkc_cf"}),
            ("bpe_user_defined_nfkc", {"model_type": "bpe", "user_defined_symbols": ["http", "  ", "..", "\u00e9"],
                                       "normalization_rule_name": "nfkc"}),
            ("unigram_spaces_kept", {"remove_extra_whitespaces": False, "split_by_whitespace": False}),
            ("bpe_suffix", {"model_type": "bpe", "treat_whitespace_as_suffix": True}),
            ("unigram_no_dummy", {"add_dummy_prefix": False, "byte_fallback": True})):
        path = folder(name, "", plain)
        model, pieces = train(path, "tokenizer.model", lines, **options)
        special = ["<s>", "</s>", "<unk>"]
        yield name, "", path, SentencePieceReference(model, numbered(*pieces), special, decodes="plain")

    path = folder("marian", "marian", {})
    model, pieces = train(path, "source.spm", lines)
    kept = [piece for i, piece in enumerate(pieces) if piece not in ("<s>", "</s>", "<unk>") and i % 13]
    ids = numbered("</s>", "<unk>", ">>fra<<", *kept, "\u65e5\u672c\u8a9e", "<pad>")
    write_vocabulary(path, ids)
    yield "marian", "marian", path, SentencePieceReference(
        model, ids, ["</s>", "<unk>", "<pad>"], ((), (ids["</s>"],)), languages=True, decodes="marian")

    path = folder("m2m_100", "m2m_100", {"language_codes": "wmt21"})
    model, pieces = train(path, "sentencepiece.bpe.model", lines, model_type="bpe")
    ids = numbered("<s>", "<pad>", "</s>", "<unk>", *pieces)
    write_vocabulary(path, ids)
    languages = ["__%s__" % code for code in ("en", "ha", "is", "ja", "cs", "ru", "zh", "de")]
    ids = numbered(*ids, *languages)
    yield "m2m_100", "m2m_100", path, SentencePieceReference(
        model, ids, ["<s>", "<pad>", "</s>", "<unk>", *languages], ((ids["__en__"],), (ids["</s>"],)), decodes="m2m_100")

    for name, mbart in (("xlm-roberta", False), ("mbart", True)):
        path = folder(name, name, {"tokenizer_class": "MBart50Tokenizer"} if mbart else {})
        model, pieces = train(path, "sentencepiece.bpe.model", lines)
        languages = MBART50.split() if mbart else []
        ids = numbered("<s>", "<pad>", "</s>", "<unk>", *pieces[3:], *languages, "<mask>")
        frame = ((ids["en_XX" if mbart else "<s>"],), (ids["</s>"],))
        yield name, name, path, SentencePieceReference(
            model, ids, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *languages], frame, mask="<mask>")

    path = folder("t5", "t5", {})
    model, pieces = train(path, "spiece.model", lines, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    sentinels = ["<extra_id_%d>" % i for i in range(99, -1, -1)]
    ids = numbered(*pieces, *sentinels)
    yield "t5", "t5", path, SentencePieceReference(model, ids, ["<pad>", "</s>", "<unk>", *sentinels], ((), (1,)))

    path = folder("albert", "albert", {"keep_accents": True, "do_lower_case": False})
    model, pieces = train(path, "spiece.model", lines, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                          control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    ids = numbered(*pieces)
    yield "albert", "albert", path, SentencePieceReference(
        model, ids, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ((ids["[CLS]"],), (ids["[SEP]"],)), mask="[MASK]")


MBART50 = """ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP
nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN
pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"""


def encode_ours(program, form, path, lines, *more):
    data = b"".join(struct.pack("<I", len(raw)) + raw for raw in (line.encode() for line in lines))
    result = subprocess.run([program, form, path, *more], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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


def compare(name, reference, program, form, path, lines, *more):
    ours, our_seconds = encode_ours(program, form, path, lines, *more)
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
    reenter_with_libraries()
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
        if not os.path.exists(path):
            print("%s: left out, since there is no %s" % (os.path.basename(name), path))
            continue
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
    gpt2 = os.path.join(shared, "vectors/tokenizers/gpt2/tokenizer.json")
    for pre in ("llama-bpe", "qwen2") if os.path.exists(gpt2) else ():
        path = os.path.join(os.path.dirname(program), "gpt2_%s.json" % pre)
        failures += compare("GPT-2's tokens, words of " + pre, gguf_words(gpt2, pre, path), program, "gguf", path, lines)
    corpus = [part for line in real for part in line.split("\n") if part.strip()][:2500]
    # ALBERT turns these into quotation marks, which the reference here does not.
    without_quotes = [line for line in lines if "``" not in line and "''" not in line]
    with tempfile.TemporaryDirectory() as scratch:
        for name, model_type, path, reference in sentence_piece_families(scratch, corpus):
            texts = without_quotes if name == "albert" else lines
            failures += compare("SentencePiece " + name, reference, program, "folder", path, texts, model_type)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
