"""Where the peers come from, and the models that everyone runs.

The peers are packages of Debian sid, in a root of their own (deploy/toolchain/enter --peers), and of the Python package
index, in a venv over that root; both live in the cache, as do the models. What is there already is not made again, and
what was cut off is made anew.
"""

import dataclasses
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
ENTER = REPOSITORY / "deploy/toolchain/enter"
CACHE = pathlib.Path(os.environ.get("ATTENDANT_CACHE") or "~/.cache/attendant").expanduser().absolute()
FOLDER = CACHE / "peers"
MODELS = FOLDER / "models"
FETCHED = pathlib.Path(os.environ.get("ATTENDANT_MODELS_DIR") or CACHE / "models").absolute()

REQUIREMENTS = HERE / "requirements.txt"
PACKAGES = REPOSITORY / "deploy/toolchain/peers-packages.txt"
KEY = hashlib.sha256(REQUIREMENTS.read_bytes() + PACKAGES.read_bytes()).hexdigest()[:12]
VENV = FOLDER / f"venv-{KEY}"
VENV_PYTHON = str(VENV / "bin/python3")
DEBIAN_PYTHON = "/usr/bin/python3"


@dataclasses.dataclass(frozen=True)
class Peer:
    program: str  # of programs/
    python: str
    enter: tuple  # what is put before a command, so that it finds its libraries


PEERS = {
    "attendant": Peer("attendant_peer.py", DEBIAN_PYTHON, (str(ENTER),)),
    "onnxruntime": Peer("onnxruntime_peer.py", VENV_PYTHON, (str(ENTER), "--peers")),
    "onnxruntime-debian": Peer("onnxruntime_peer.py", DEBIAN_PYTHON, (str(ENTER), "--peers")),
    "openvino": Peer("openvino_peer.py", VENV_PYTHON, (str(ENTER), "--peers")),
    "openvino-genai": Peer("openvino_genai_peer.py", VENV_PYTHON, (str(ENTER), "--peers")),
    "llama.cpp": Peer("llama_cpp_peer.py", DEBIAN_PYTHON, (str(ENTER), "--peers")),
    "torch": Peer("torch_peer.py", DEBIAN_PYTHON, (str(ENTER), "--peers")),
    "ctranslate2": Peer("ctranslate2_peer.py", VENV_PYTHON, (str(ENTER), "--peers")),
}


class InstallError(Exception):
    """What could not be installed or made, in words for whoever started the program."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    command = [str(part) for part in command]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(command)} ended with {done.returncode}")


def inside(*command):
    # Threads that spin would wait for each other's time slices on a machine that is busy otherwise.
    run(ENTER, "--peers", "env", "OMP_WAIT_POLICY=passive", *command)


def is_installed():
    return (VENV / "complete").exists()


def install_peers():
    """The venv, and with it the root that it stands on."""
    if is_installed():
        return
    say(f"installing the peers in {VENV}; this happens once")
    shutil.rmtree(VENV, ignore_errors=True)
    # torch and transformers, which have no small packages on the index, are seen from the venv.
    inside(DEBIAN_PYTHON, "-m", "venv", "--system-site-packages", VENV)
    inside(VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-r", REQUIREMENTS)
    (VENV / "complete").touch()
    for old in FOLDER.glob("venv-*"):
        if old != VENV:
            shutil.rmtree(old)


# How a model is made: the shape of its name, what it is made of, and the command, whose last argument is the result.
# {name} is the first group of the shape.
RULES = (
    # Without the file that says it was trained on 256 tokens: it has positions for 512.
    (r"(minilm)", "all-MiniLM-L6-v2",
     ("sh", "-c", 'mkdir "$1" && cp "$0"/config.json "$0"/*.safetensors "$1"', "{source}")),
    (r"(bertbase)", None, (VENV_PYTHON, HERE / "make/bert.py")),
    (r"(marian)", None, (VENV_PYTHON, HERE.parent / "make_translator.py")),
    (r"(llama\w+)", None, (VENV_PYTHON, HERE / "make/llama.py", "{name}")),
    (r"(minilm|bertbase)-plain\.onnx", "{name}", (VENV_PYTHON, HERE / "make/onnx_plain.py", "{source}")),
    (r"(minilm|bertbase)-f32\.onnx", "{name}", (VENV_PYTHON, HERE / "make/onnx_fused.py", "{source}", "f32")),
    (r"(minilm|bertbase)-int8\.onnx", "{name}", (VENV_PYTHON, HERE / "make/onnx_fused.py", "{source}", "int8")),
    (r"(minilm|bertbase)-qdq\.onnx", "{name}-plain.onnx", (VENV_PYTHON, HERE / "make/onnx_qdq.py", "{source}")),
    (r"(marian)-ctranslate2", "{name}", (VENV_PYTHON, HERE / "make/ctranslate2_marian.py", "{source}")),
    (r"(llama\w+)-BF16\.gguf", "{name}", (VENV_PYTHON, HERE / "make/gguf_llama.py", "{source}")),
    (r"(llama\w+)-Q8_0\.gguf", "{name}-BF16.gguf", ("sh", HERE / "make/quantize", "Q8_0", "{source}")),
    (r"(llama\w+)-Q4_0\.gguf", "{name}-BF16.gguf", ("sh", HERE / "make/quantize", "Q4_0", "{source}")),
    (r"(smollm2)-Q8_0\.gguf", "{name}", ("sh", HERE / "make/quantize", "Q8_0", "{source}")),
    (r"(smollm2)-Q4_0\.gguf", "{name}", ("sh", HERE / "make/quantize", "Q4_0", "{source}")),
)
FETCH = {"all-MiniLM-L6-v2": "all-MiniLM-L6-v2", "smollm2": "SmolLM2-135M-Instruct.gguf"}


def path_of(name):
    return FETCHED / FETCH[name] if name in FETCH else MODELS / name


def make_model(name):
    """The model, and what it is made of. A fixed seed makes the same one everywhere."""
    path = path_of(name)
    if path.exists():
        return
    if name in FETCH:
        run(ENTER, REPOSITORY / "deploy/models/fetch", FETCH[name])
        return
    for shape, source, command in RULES:
        if match := re.fullmatch(shape, name):
            break
    else:
        raise InstallError(f"no rule makes {name}")
    words = {"name": match[1]}
    if source:
        source = source.format(**words)
        make_model(source)
        words["source"] = path_of(source)
    say(f"making {path}")
    partial = MODELS / f"partial-{name}"
    if partial.is_dir():
        shutil.rmtree(partial)
    inside(*(str(part).format(**words) for part in command), partial)
    partial.rename(path)


def install(cases):
    """All that `cases` need."""
    models = dict.fromkeys(contender.model for case in cases for contender in case.contenders if contender.model)
    missing = [name for name in models if not path_of(name).exists()]
    if is_installed() and not missing:
        return
    MODELS.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_peers()
        for name in missing:
            make_model(name)


def build():
    """The programs of ours, and the folder they are in."""
    folder = REPOSITORY / "build/release"
    if not (folder / "build.ninja").exists():
        run(ENTER, "cmake", "-S", REPOSITORY, "--preset", "release")
    run(ENTER, "cmake", "--build", folder, "--target", "engine_bench", "grpc_bench", "attendant-server")
    return folder
