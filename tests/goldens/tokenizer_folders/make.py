"""Folders as each family of tokenizers has them, and what its transformers class makes of text.

The SentencePiece models are trained here, on a few lines and with a few rules, so that they are small. Where the class
does not run SentencePiece but a conversion of its model (T5, XLM-RoBERTa, ALBERT, mBART), a text is left out for which
the two differ: we follow SentencePiece. expected.json says how many were.
"""

import io
import json
import pathlib
import shutil
import tempfile
import unicodedata

import sentencepiece
import transformers

CORPUS = """The quick brown fox jumps over the lazy dog, and the dog doesn't mind: it's 12:30 already.
A model is a folder; a token is a number between 0 and 31999. We'll see what they've done, won't we?
Attention is computed for every head of every layer, over all 4096 positions, in 16 blocks of 256.
Straße, Führer, naïve, café, résumé, coöperate, façade, Ångström, smörgåsbord, jalapeño.
Le renard brun saute par-dessus le chien paresseux; les mots viennent de la langue de tous les jours.
Der schnelle braune Fuchs springt über den faulen Hund, und der Hund hat nichts dagegen.
Быстрая лиса прыгает через ленивую собаку.
tokens tokenization tokenizer tokenizers tokenized retokenize folders folder model models modelling modelled""".split("\n")

TEXTS = [
    "", " ", "Hello", "Hello world", "  Hello   world  ", "The quick brown fox doesn't jump over 3 lazy dogs!",
    "tokens tokenized tokenizers' modelling...", "Der Hund, und der Fuchs über den Hund.", "ab" * 40,
    "Straße façade café Ångström", "Быстрая лиса", "日本語 the 中文 text", "ﬁnance \u00bd ™ x\u00b2 \u2460",
    "tab\tnewline\n\nnext", "a\u00a0b\u3000c\u200bd", "under_score-hyphen--double___triple", "👍🏽 fox ☃\ufe0f",
    "the <unk> and </s> inside", "<s>start</s><pad>", "[CLS] token [SEP]ing", "a <mask> b [MASK] c", ">>fra<< the dog",
    ">>xyz<< the dog", ">> the << dog", ">>fra<<", "the >>fra<< dog", "<extra_id_0> fox <extra_id_99>", "en_XX __en__ eng_Latn",
    "``quoted'' text", "\u2581the \u2581\u2581dog", "1234567 12.5 1,000", "HELLO World", "e\u0301 A\u030a", "a  ", "İstanbul",
]

RULES = {"\ufb01": "fi", "\u00bd": "1/2", "\u2122": "TM", "\u00b2": "2", "\u2460": "1", "\t": " ", "\n": " ", "\u00a0": " ", "\u3000": " ",
         "\u200b": "", "e\u0301": "\u00e9", "A\u030a": "\u00c5", "\u2026": "..."}


def train(path, lines=CORPUS, **options):
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        for key, value in RULES.items():
            rules.write("%s\t%s\n" % tuple(" ".join("%X" % ord(c) for c in text) for text in (key, value)))
        rules.flush()
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 4), model_writer=model, num_threads=1, minloglevel=2, hard_vocab_limit=False,
            normalization_rule_tsv=rules.name, **{"vocab_size": 300, **options})
    # The trainer writes down where its rules were, which is never the same file.
    path.write_bytes(model.getvalue().replace(rules.name.encode(), b"x" * len(rules.name)))


def pieces_of(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(i) for i in range(model.get_piece_size())]


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def config(folder, model_type, **tokenizer):
    write_json(folder / "config.json", {"model_type": model_type})
    write_json(folder / "tokenizer_config.json", tokenizer)


def ids_of(tokenizer, *texts):
    return tokenizer(*texts)["input_ids"]


def cases_of(tokenizer, is_exact=lambda text: True):
    """What the class makes of each text: alone, before another one, and back."""
    kept = [text for text in TEXTS if is_exact(text)]
    cases = []
    for i, text in enumerate(kept):
        pair = kept[(i * 7 + 3) % len(kept)] or "Hello"  # to the class, an empty one is none
        case = {"text": text, "pair": pair, "ids": ids_of(tokenizer, text), "pair_ids": ids_of(tokenizer, text, pair)}
        case["decoded"] = tokenizer.decode(case["pair_ids"], skip_special_tokens=True)
        case["decoded_all"] = tokenizer.decode(case["pair_ids"], skip_special_tokens=False)
        if tokenizer.is_fast:
            case["type_ids"] = tokenizer(text, pair).encodings[0].type_ids
        cases.append(case)
    return {"cases": cases, "num_left_out": len(TEXTS) - len(kept)}


def sources_of(tokenizer, languages, expected):
    """Sources in other languages than the default one."""
    sources = []
    for source in languages:
        tokenizer.src_lang = source
        for text in [case["text"] for case in expected["cases"]][2:8]:
            sources.append({"source": source, "target": "", "text": text, "ids": ids_of(tokenizer, text)})
    return sources


def same_as_sentencepiece(tokenizer, model, prepare=lambda text: text):
    """Whether the class gives the pieces that SentencePiece gives, for texts without special tokens."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)

    def is_exact(text):
        parts = [text]
        for token in special:
            parts = [piece for part in parts for piece in part.split(token)]
        for part in parts:
            found = tokenizer.tokenize(part)
            pieces = processor.encode(prepare(part), out_type=str)
            ids = tokenizer.convert_tokens_to_ids(pieces)
            if tokenizer.convert_tokens_to_ids(found) != ids:
                return False
        return True

    return is_exact


def marian(root):
    for name, separate in (("marian", False), ("marian_separate", True)):
        folder = root / name
        folder.mkdir()
        train(folder / "source.spm", CORPUS[:6])
        train(folder / "target.spm", CORPUS[2:], model_type="bpe" if separate else "unigram")
        source, target = pieces_of(folder / "source.spm"), pieces_of(folder / "target.spm")
        first = ["</s>", "<unk>"] + ([] if separate else [">>fra<<", ">>deu<<"])

        def vocabulary(pieces):
            # Some pieces are in the models only, and some tokens, here joined unknown ones, in the vocabulary only.
            kept = [piece for i, piece in enumerate(dict.fromkeys(pieces))
                    if piece not in ("<s>", "</s>", "<unk>") and i % 17 != 16]
            return {token: i for i, token in enumerate(first + kept + ["\u65e5\u672c\u8a9e", "<pad>"])}

        write_json(folder / "vocab.json", vocabulary(source if separate else source + target))
        more = {}
        if separate:
            write_json(folder / "target_vocab.json", vocabulary(target))
            more = {"target_vocab_file": str(folder / "target_vocab.json")}
        config(folder, "marian", tokenizer_class="MarianTokenizer", source_lang="eng", target_lang="mul",
               separate_vocabs=separate)
        tokenizer = transformers.MarianTokenizer.from_pretrained(folder, **more)
        expected = cases_of(tokenizer)
        expected["target_cases"] = []
        for text in TEXTS:
            if separate and "<pad>" in text:
                continue  # the class gives it the id that the vocabulary of the source has for it
            ids = tokenizer(text_target=text)["input_ids"]
            # The class decodes by the vocabulary of the source unless the two are separate.
            decoded = {}
            for key, skip in (("decoded", True), ("decoded_all", False)):
                decoded[key] = tokenizer.decode(ids, skip_special_tokens=skip, use_source_tokenizer=False)
            expected["target_cases"].append({"text": text, "ids": ids, **decoded})
        if separate:
            # The class has but one decoder, that of the target.
            for case in expected["cases"]:
                del case["decoded"], case["decoded_all"]
        else:
            expected["sources"] = [{"source": "", "target": code, "text": text,
                                    "ids": ids_of(tokenizer, ">>%s<<" % code + text)}
                                   for code in ("fra", "deu") for text in TEXTS[3:8]]
            expected["languages"] = {"fra": first.index(">>fra<<"), "deu": first.index(">>deu<<")}
        write_json(folder / "expected.json", expected)


def m2m_100(root):
    folder = root / "m2m_100"
    folder.mkdir()
    train(folder / "sentencepiece.bpe.model", model_type="bpe")
    pieces = [p for p in pieces_of(folder / "sentencepiece.bpe.model") if p not in ("<s>", "</s>", "<unk>")]
    write_json(folder / "vocab.json", {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>"] + pieces)})
    codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    config(folder, "m2m_100", tokenizer_class="M2M100Tokenizer", src_lang="de", tgt_lang="fr",
           additional_special_tokens=["__%s__" % code for code in codes])
    tokenizer = transformers.M2M100Tokenizer.from_pretrained(folder)
    expected = cases_of(tokenizer)
    expected["languages"] = {code: tokenizer.get_lang_id(code) for code in codes}
    expected["sources"] = sources_of(tokenizer, ("en", "zu"), expected)
    write_json(folder / "expected.json", expected)


def fairseq(root):
    for name, cls, model_type, source in (("xlm-roberta", "XLMRobertaTokenizer", "xlm-roberta", None),
                                          ("mbart", "MBartTokenizer", "mbart", "de_DE"),
                                          ("mbart50", "MBart50Tokenizer", "mbart", None)):
        folder = root / name
        folder.mkdir()
        train(folder / "sentencepiece.bpe.model")
        config(folder, model_type, tokenizer_class=cls, **({"src_lang": source} if source else {}))
        tokenizer = getattr(transformers, cls).from_pretrained(folder)
        expected = cases_of(tokenizer, same_as_sentencepiece(tokenizer, folder / "sentencepiece.bpe.model"))
        if model_type == "mbart":
            module = getattr(transformers.models, name)
            codes = getattr(module, "tokenization_" + name).FAIRSEQ_LANGUAGE_CODES
            expected["languages"] = {code: tokenizer.convert_tokens_to_ids(code) for code in codes}
            expected["sources"] = sources_of(tokenizer, ("en_XX", "zh_CN"), expected)
        write_json(folder / "expected.json", expected)


def nllb(root):
    codes = ["eng_Latn", "fra_Latn", "zho_Hans"]
    for name, legacy in (("nllb", False), ("nllb_legacy", True)):
        folder = root / name
        folder.mkdir()
        with tempfile.TemporaryDirectory() as scratch:
            train(pathlib.Path(scratch) / "sentencepiece.bpe.model", model_type="bpe")
            made = transformers.NllbTokenizer.from_pretrained(scratch, src_lang="fra_Latn", extra_special_tokens=codes)
            made.backend_tokenizer.save(str(folder / "tokenizer.json"))
        config(folder, "m2m_100", tokenizer_class="NllbTokenizer", src_lang="fra_Latn", legacy_behaviour=legacy,
               extra_special_tokens=codes)
        tokenizer = transformers.NllbTokenizer.from_pretrained(folder)
        expected = cases_of(tokenizer)
        expected["languages"] = {code: tokenizer.convert_tokens_to_ids(code) for code in codes}
        expected["sources"] = sources_of(tokenizer, ("eng_Latn", "zho_Hans"), expected)
        write_json(folder / "expected.json", expected)


def t5(root):
    folder = root / "t5"
    folder.mkdir()
    train(folder / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    config(folder, "t5", tokenizer_class="T5Tokenizer", extra_ids=100)
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder)
    write_json(folder / "expected.json", cases_of(tokenizer, same_as_sentencepiece(tokenizer, folder / "spiece.model")))


def albert(root):
    folder = root / "albert"
    folder.mkdir()
    train(folder / "spiece.model", [line.lower() for line in CORPUS], pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
          control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    config(folder, "albert", tokenizer_class="AlbertTokenizer")
    tokenizer = transformers.AlbertTokenizer.from_pretrained(folder)

    def prepare(text):
        text = unicodedata.normalize("NFKD", text.replace("``", '"').replace("''", '"'))
        return "".join(c for c in text if unicodedata.category(c)[0] != "M").lower()

    write_json(folder / "expected.json",
               cases_of(tokenizer, same_as_sentencepiece(tokenizer, folder / "spiece.model", prepare)))


def word_piece(root):
    words = sorted({word.strip(".,;:?!'").lower() for line in CORPUS for word in line.split()} - {""})[:120]
    for name, cls, first in (("mpnet", "MPNetTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "[UNK]"]),
                             ("distilbert", "DistilBertTokenizer", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])):
        folder = root / name
        folder.mkdir()
        tokens = first + words + list(".,'-!?") + ["##s", "##ed", "##ing", "##l", "##o"] + ["<mask>"] * (name == "mpnet")
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
        config(folder, name, tokenizer_class=cls)
        write_json(folder / "expected.json", cases_of(getattr(transformers, cls).from_pretrained(folder)))


def make(root):
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    for family in (marian, m2m_100, fairseq, nllb, t5, albert, word_piece):
        family(root)
    for path in sorted(root.glob("*/expected.json")):
        expected = json.loads(path.read_text(encoding="utf-8"))
        print(path.parent.name, len(expected["cases"]), "cases,", expected["num_left_out"], "left out")
