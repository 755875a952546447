"""What is written down of the machine beside figures that were measured on it."""

import functools
import os
import pathlib
import platform
import re
import subprocess

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


@functools.cache
def cpu_facts():
    """{"model name": ..., "cpu family": ..., "flags": ...} of the first processor."""
    facts = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if not key.strip():
            break
        facts[key.strip()] = value.strip()
    return facts


def cpu_name():
    return cpu_facts().get("model name", platform.machine())


def cpu_line():
    facts = cpu_facts()
    known = set(facts.get("flags", "").split())
    flags = " ".join(flag for flag in FLAGS if flag in known)
    model = f"family {facts.get('cpu family')}, model {facts.get('model')}"
    return f"{cpu_name()}, {model}, {os.cpu_count()} processors; {flags}"


def slug(text):
    """For the name of a file."""
    text = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", " ", text)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@functools.cache
def own_version(repository):
    def git(*command):
        run = ["git", "-C", str(repository), *command]
        return subprocess.run(run, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()

    # Neither what people read nor the results that runs themselves write makes another program.
    not_built = [":(exclude)*.md", ":(exclude)tests/benchmarks/results"]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *not_built)
    return f"attendant {git('describe', '--always')}{'-dirty' if changed else ''}"
