#!/usr/bin/env python3
"""Makes the goldens of this folder: small tokenizers with awkward settings, and what the reference library makes of text.

  pip install tokenizers==0.22.2 && ./make_goldens.py

Each FILE.json has a `tokenizer`, as tokenizer.json has it, and `cases`: the ids and byte offsets of a text, without and
with special tokens, alone and before another text; and the text that the ids decode to. `gguf`, where it is there, is
the same tokenizer as a GGUF file would have it.
"""

import base64
import json
import os
import struct

from tokenizers import AddedToken, Regex, Tokenizer, __version__, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

assert __version__ == "0.22.2", __version__

CORPUS = """The quick brown fox jumps over the lazy dog, and the dog doesn't mind: it's 12:30 already.
A model is a folder; a token is a number between 0 and 31999. We'll see what they've done, won't we?
Attention is computed for every head of every layer, over all 4096 positions, in 16 blocks of 256.
Straße, Führer, naïve, café, résumé, coöperate, façade, Ångström, İstanbul, smörgåsbord, jalapeño.
Быстрая лиса прыгает через ленивую собаку. Η γρήγορη αλεπού πηδάει πάνω από το σκυλί.
日本語の文章はここにあります。中文句子在这里。 한국어 문장이 여기에 있습니다.
def tokenize(text): return [token for token in text.split() if token != ''] # tokens and tokenizers
tokens tokenization tokenizer tokenizers tokenized retokenize folder folders model models modelling modelled""".split("\n")

TEXTS = [
    "", " ", "   ", "\n", "\t\r\n x", "Hello", " Hello", "Hello world", "  Hello   world  ",
    "The quick brown fox doesn't jump over 3 lazy dogs!", "tokens tokenized tokenizers' modelling...",
    "we'll we'LL I'm 're 'S don\u2019t", "Straße façade İstanbul ǅ ŒUVRE", "cafe\u0301 A\u030a\u0323\u0301 re\u0323\u0307sume\u0301",
    "日本語の文章 中文 한국어 각 ｶﾞ ㈱ ﬁ ﬃ ½ ² Ⅷ ™ ①", "Быстрая Η γρήγορη ΣΑΣ שלום السلام हिन्दी ไทย", "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ☃️ 𝔘𝔫𝔦",
    "a\u00a0b\u3000c\u2028d\u200be\u200df\u0085g\u180eh\ufeffi\x0bj\x00k\x07l\u00adm", "x=1;y=[2,3];\tif(a!=b){return a->c;}",
    "http://example.com/a?b=c&d=%20#e user@mail.org", "1234567 12.5 1,000 ٣٤٥ 七八 0x1F", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "under_score-hyphen--double___triple", "<s>Hello</s> <mask> <mask>x  <mask>  <pad>", "[CLS] token [MASK] [SEP]ing x[SEP]",
    "  <extra> word<extra>word <extra>", "YESTERDAY yesterday yesterdays ＹＥＳ", "<0x41> ▁the Ġthe ##ing </w>", "the--final---countdown-",
    "```code``` ''quoted'' \"both\"", "\u0301\u0301 \u0344x \U0001d15e \u2126\u212b", "end with space ", "ends\n\n", "ab" * 60,
]


def byte_offsets(text, offsets):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[begin], at[end]] for begin, end in offsets]


def encode(tokenizer, special, *texts):
    encoding = tokenizer.encode(*texts, add_special_tokens=special)
    offsets = []
    for offset, sequence in zip(encoding.offsets, encoding.sequence_ids):
        offsets += byte_offsets(texts[sequence], [offset]) if sequence is not None else [[0, 0]]
    return {"ids": encoding.ids, "offsets": offsets, "type_ids": encoding.type_ids,
            "special": encoding.special_tokens_mask}


def write(name, tokenizer, texts=TEXTS, **more):
    tokenizer = Tokenizer.from_str(tokenizer.to_str())  # its cache would remember words from before a change
    cases = []
    for i, text in enumerate(texts):
        plain = encode(tokenizer, False, text)
        pair = texts[(i * 7 + 3) % len(texts)]
        both = encode(tokenizer, True, text, pair)
        cases.append({"text": text, "pair": pair, "plain": plain, "both": both,
                      "decoded": tokenizer.decode(both["ids"], skip_special_tokens=True),
                      "decoded_all": tokenizer.decode(both["ids"], skip_special_tokens=False)})
    golden = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases, **more}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def charsmap(rules):
    """SentencePiece's form of rules: a double array (Darts-clone), and a pool of zero-terminated replacements."""
    pool, trie = b"", {}
    for key, value in rules.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = len(pool)
        pool += value.encode() + b"\0"
    units, used = {}, {0}

    def place(node, index, label):
        base = next(b for b in range(1, 1 << 20) if not any(b ^ index ^ key in used for key in node))
        used.update(base ^ index ^ key for key in node)
        units[index] = base << 10 | (0x100 if 0 in node else 0) | label
        for key, child in node.items():
            if key == 0:
                units[index ^ base] = 0x80000000 | child
            else:
                place(child, index ^ base ^ key, key)

    place(trie, 0, 0)
    size = (max(units) // 256 + 1) * 256  # readers step to any byte without looking
    array = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(size))
    return struct.pack("<I", len(array)) + array + pool


RULES = charsmap({"ﬁ": "fi", "ﬃ": "ffi", "½": " 1⁄2", "™": "TM", "①": "1", "²": "2", "㈱": "(株)", "\u00a0": " ",
                  "\u3000": " ", "\n": " ", "\t": " ", "\r": "", "\u200b": "", "\u00ad": "", "e\u0301": "é",
                  "Ａ": "A", "Ｙ": "Y", "Ｅ": "E", "Ｓ": "S", "ｶﾞ": "ガ", "\u2126": "Ω", "Å": "Å", "İ": "i"})


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def added(content, **flags):
    return AddedToken(content, **{"normalized": False, **flags})


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=50))
    t.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    train(t, trainers.WordPieceTrainer(vocab_size=320, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.WordPiece()
    write("bert", t)
    t.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    t.add_tokens([added("yesterday", normalized=True, single_word=True), added("<extra>", lstrip=True, rstrip=True)])
    write("bert_cased", t)


def roberta():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    train(t, trainers.BpeTrainer(vocab_size=420, special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
                                 initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([added("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    write("roberta", t)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.model.ignore_merges = True
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])])
    write("llama3", t)
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.ByteLevel()])
    t.pre_tokenizer = pre_tokenizers.Split(Regex(r"Ġ?[^Ġ]+|Ġ+"), "isolated")
    t.post_processor = None
    write("byte_level_normalizer", t)


def unigram():
    def make(normalizer, pre_tokenizer, specials):
        t = Tokenizer(models.Unigram())
        t.normalizer, t.pre_tokenizer = normalizer, pre_tokenizer
        return train(t, trainers.UnigramTrainer(vocab_size=260, special_tokens=specials, unk_token="<unk>", show_progress=False))

    t = make(normalizers.Sequence([normalizers.Precompiled(RULES), normalizers.Strip(left=False, right=True),
                                   normalizers.Replace(Regex(" {2,}"), "▁")]),
             pre_tokenizers.Metaspace(prepend_scheme="always"), ["<pad>", "</s>", "<unk>"])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.add_special_tokens([added("<extra>", lstrip=True, rstrip=True)])
    write("t5", t)

    t = make(normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                                   normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Precompiled(RULES)]),
             pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]),
             ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.Metaspace()
    write("albert", t)

    vocab = json.loads(t.to_str())["model"]["vocab"]
    vocab = [tuple(piece) for piece in vocab] + [("<0x%02X>" % byte, 0.0) for byte in range(256)]
    t = Tokenizer(models.Unigram(vocab, unk_id=1, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip(left=True, right=False)])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()])
    t.add_tokens([added("yes", normalized=True), added("token", normalized=True, single_word=True), added("日本", rstrip=True)])
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    write("unigram_byte_fallback", t)


def llama():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
    train(t, trainers.BpeTrainer(vocab_size=480, special_tokens=specials, limit_alphabet=60, max_token_length=10, show_progress=False))
    vocab = t.get_vocab()
    # As SentencePiece has it: no merges but scores, of which the merges follow.
    tokens = sorted(vocab, key=vocab.get)
    scores = [0.0] * 259 + [-float(i // 2) for i in range(len(tokens) - 259)]
    merges = []
    for token, score in zip(tokens, scores):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in vocab and token[i:] in vocab]
        merges += [(score, len(a), len(b), a, b) for a, b in sorted(cuts, key=lambda cut: (vocab[cut[0]], vocab[cut[1]]))]
    merges = [(a, b) for _, _, _, a, b in sorted(merges, key=lambda merge: merge[:3], reverse=True)]
    l = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    l.normalizer = t.normalizer
    l.add_special_tokens([added("<unk>"), added("<s>"), added("</s>")])
    l.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    l.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    write("llama", l, gguf={"tokens": tokens, "scores": scores, "token_types": [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259),
                            "bos_id": 1, "eos_id": 2, "unknown_id": 0})
    l.model.unk_token, l.model.fuse_unk, l.model.byte_fallback = "<unk>", False, False
    l.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("▁+"), " "), decoders.Strip(" ", 2, 0)])
    write("llama_unknown", l)


def affixes():
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    train(t, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False))
    t.decoder = decoders.BPEDecoder(suffix="</w>")
    write("openai_gpt", t)
    t = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    train(t, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], continuing_subword_prefix="##", show_progress=False))
    write("bpe_prefix", t)


def fixed_length():
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.FixedLength(length=3)
    train(t, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False))
    write("fixed_length", t)


def word_level():
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Nmt(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Punctuation("contiguous")])
    train(t, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    write("word_level", t)


def splits():
    """Every behaviour of Split, and what Oniguruma's dialect has of its own; the offsets tell."""
    patterns = {"string": "-", "empty": "", "class": Regex(r"[[:punct:]]+"), "hex": Regex(r"\h{2,}"), "han": Regex(r"\p{Han}+"),
                "word": Regex(r"\b\w{2}"), "lines": Regex(r"^.|.$"), "intersection": Regex(r"[a-z&&[^aeiou]]+"),
                "repeat": Regex(r"\p{N}{1,2}+|(?i:STRA|don)"), "nested": Regex(r"[[^\w]\d]"), "empties": Regex(r"x*"),
                "dotall": Regex(r"(?m:o.)"), "not": Regex(r"\P{L}+|[^\S\n]|\p{^Lu}{3}")}
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    for i, (name, pattern) in enumerate(patterns.items()):
        pairs = [(b, v) for b in behaviors for v in (False, True)] if name == "string" else [(behaviors[i % 5], i % 2 == 0)]
        for behavior, invert in pairs:
            t = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "-": 2}, unk_token="<unk>"))
            t.pre_tokenizer = pre_tokenizers.Split(pattern, behavior, invert)
            write("split_%s_%s%s" % (name, behavior, "_invert" if invert else ""), t, TEXTS if name != "string" else TEXTS[-14:])


bert()
roberta()
unigram()
llama()
affixes()
fixed_length()
word_level()
splits()
