"""Measures what each data type does to the answers of real models, and of the bundled ones.

    all-MiniLM-L6-v2        vectors of some hundred sentences beside those of f32, and what they find
    SmolLM2-135M-Instruct   perplexity; as its file is stored, too
    bundled models          right answers to the questions that training never saw

The text is that of Debian's FAQ, from the package debian-faq, and the hundred sentences of tests/goldens/minilm. Prints
the tables, and writes them into tests/benchmarks/results/, named by CPU and date.
"""

import argparse
import datetime
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

import machine  # noqa: E402
import report  # noqa: E402

REPOSITORY = HERE.parents[1]
PACKAGE, DOCUMENT = "debian-faq", "usr/share/doc/debian/FAQ/debian-faq.en.txt.gz"
PERPLEXITY_CHARACTERS = 45_000  # some 9,000 tokens
WINDOW = 512
TYPES = ("f32", "bf16", "int8", "int4")
LONG = {"i8": "int8", "i4": "int4"}  # what the tests call them

# Of BundledModelTest: what is asked, of how many, of whom.
BUNDLED = {
    "WritesDatesAsIso8601": ("iso-dates: dates written as ISO 8601", 2000),
    "FillsTheGapsOfStories": ("stories/reader: gaps filled", 500),
    "AnswersQuestionsAboutStories": ("stories/reader: questions answered", 500),
    "LabelsWhatIsWhatInStories": ("stories/reader: stories labeled", 500),
    "RanksTheSentenceThatAnswersFirst": ("stories/ranker: sentences ranked first", 500),
    "TellsShapesAndColorsApart": ("shapes: drawings told apart", 400),
}


def run(*command, **options):
    command = [str(part) for part in command]
    print(" ".join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, **options)


def fetch_document(folder):
    """The package's version, and its document. With apt's files in `folder`, so that anybody may."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    apt = ["apt-get", "-qq", "-o", f"Dir::State={folder}", "-o", f"Dir::State::status={folder}/status",
           "-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User="]
    run(*apt, "update", stdout=sys.stderr)
    run(*apt, "download", PACKAGE, cwd=folder, stdout=sys.stderr)
    (package,) = folder.glob("*.deb")
    run("dpkg-deb", "--extract", package, folder)
    return package.name.split("_")[1], gzip.decompress((folder / DOCUMENT).read_bytes()).decode()


def is_sentence(text):
    return bool(re.match(r"[A-Z]", text)) and text.endswith((".", "?", "!"))


def paragraphs_of(document):
    """Its prose: paragraphs from the first chapter on that end as sentences do, each one line."""
    body = re.split(r"\n(?=Chapter\s1\.)", document)[-1]  # the contents come before
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", body))
    return [block for block in blocks if len(block) >= 80 and is_sentence(block)]


def sentences_of(paragraphs):
    """Sentences of a usual length, each once, in their order."""
    found = {}
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z])", paragraph):
            if 40 <= len(sentence) <= 300 and is_sentence(sentence):
                found[sentence] = None
    return list(found)


def lines_of(*command):
    """The results that engine_accuracy prints, one for each type."""
    done = run(*command, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def megabytes(result):
    return f"{result['weight_bytes'] / 1e6:.0f} MB"


def name_of(result):
    return "as stored" if result["type"] == "stored" else result["type"]


def similarity_table(results):
    lines = [
        [name_of(r), megabytes(r), f"{r['cosine_mean']:.5f}", f"{r['cosine_min']:.5f}", f"{r['same_nearest']:.1%}",
         f"{r['same_ten']:.1%}"]
        for r in results
    ]
    return report.table(["type", "weights", "cosine, mean", "least", "same nearest", "of the ten nearest"], lines)


def perplexity_table(results):
    lines = [
        [name_of(r), megabytes(r), f"{r['perplexity']:.3f}", f"{r['ratio'] - 1:+.2%} (± {r['ratio_error']:.2%})"]
        for r in results
    ]
    return report.table(["type", "weights", "perplexity", f"beside {name_of(results[0])}"], lines)


def bundled_table(right):
    """`right`: {(test, type): number of right answers}"""
    lines = [
        [title, *(f"{right[test, dtype]} of {count}" for dtype in TYPES)] for test, (title, count) in BUNDLED.items()
    ]
    return report.table(["model, task", *TYPES], lines)


def right_answers(program):
    """What the tests of the bundled models count as they run."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, "tests.json")
        command = [program, "--gtest_filter=*BundledModelTest*", f"--gtest_output=json:{output}"]
        # A type may fall short of what its test asks for: the table says how far.
        subprocess.run(command, stdout=sys.stderr, check=False)
        suites = json.loads(output.read_text())["testsuites"]
    right = {}
    for case in (case for suite in suites for case in suite["testsuite"]):
        test, _, dtype = case["name"].partition("/")
        right[test, LONG.get(dtype, dtype)] = int(case["right"])
    return right


def main():
    parser = argparse.ArgumentParser(prog="./dev bench accuracy", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", metavar="DIR",
                        help="where results go")
    parser.add_argument("--build-dir", type=pathlib.Path, default=REPOSITORY / "build/release", metavar="DIR",
                        help="where engine_accuracy and engine_golden_test are built")
    arguments = parser.parse_args()
    program = arguments.build_dir / "tests/benchmarks/engine_accuracy"
    fetched = run(REPOSITORY / "deploy/models/fetch", stdout=subprocess.PIPE, text=True).stdout.strip()
    models = pathlib.Path(fetched)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        version, document = fetch_document(folder)
        paragraphs = paragraphs_of(document)
        goldens = json.loads((REPOSITORY / "tests/goldens/minilm/sentences.json").read_text())
        sentences = [sentence for sentence in goldens if sentence.strip() and "\n" not in sentence]
        sentences += sentences_of(paragraphs)
        texts, prose = folder / "sentences", folder / "prose"
        texts.write_text("\n".join(sentences) + "\n")
        prose.write_text("\n\n".join(paragraphs)[:PERPLEXITY_CHARACTERS])
        similarity = lines_of(program, "similarity", models / "all-MiniLM-L6-v2", texts, *TYPES)
        perplexity = lines_of(program, "perplexity", models / "SmolLM2-135M-Instruct.gguf", prose, WINDOW, "f32",
                              "bf16", "stored", "int8", "int4")
    right = right_answers(arguments.build_dir / "tests/engine/engine_golden_test")

    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    cpu = machine.cpu_name()
    parts = [
        f"# Accuracy of data types on {cpu}, {today}",
        f"`./dev bench accuracy`, {machine.own_version(REPOSITORY)}. {machine.cpu_line()}.",
        "## all-MiniLM-L6-v2",
        f"{similarity[0]['texts']:,.0f} sentences: the hundred of tests/goldens/minilm, and those of 40 to 300 "
        f"characters of Debian's FAQ ({PACKAGE} {version}). Cosines are with the vectors of f32; the nearest of each "
        "sentence are looked for among all the others.",
        similarity_table(similarity),
        "## SmolLM2-135M-Instruct",
        f"Perplexity of {perplexity[0]['tokens']:,.0f} tokens, the beginning of the same FAQ's paragraphs, in windows "
        f"of {WINDOW} tokens; the file's weights are Q4_1, and all types but the stored one are made of those. ±: "
        "standard error of the difference.",
        perplexity_table(perplexity),
        "## Bundled models",
        "Answers exactly as expected.",
        bundled_table(right),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"accuracy-{machine.slug(cpu)}-{today}.md"
    path.write_text(text, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"bench accuracy: {error}", file=sys.stderr)
        sys.exit(1)
