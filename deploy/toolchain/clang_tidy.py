#!/usr/bin/env python3
"""Runs clang-tidy over the sources of a build, the most recently changed first, and remembers those that are clean.

A file is clean as long as its preprocessed text, its flags, .clang-tidy and clang-tidy stay what they were, so a second
run costs a preprocessor pass for each file.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

CLANG_TIDY = os.environ.get("CLANG_TIDY", "clang-tidy")


def recently_changed() -> list[str]:
    """Paths of the work tree, most recently changed first."""
    def git(*args: str) -> list[str]:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=True).stdout.splitlines()

    uncommitted = [line[3:] for line in git("status", "--porcelain", "--untracked-files=all")]
    committed = [line for line in git("log", "-n", "200", "--name-only", "--format=") if line]
    return list(dict.fromkeys(uncommitted + committed))


def sources(build: pathlib.Path) -> list[dict]:
    """The compile commands of our own files, most recently changed first; a header counts for its .cc."""
    root = pathlib.Path.cwd()
    commands = {}
    for command in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(command["file"])
        if path.is_relative_to(root) and not path.is_relative_to(build):
            commands[str(path.relative_to(root))] = command
    rank = {}
    for position, path in enumerate(recently_changed()):
        rank.setdefault(path.removesuffix(".h") + ".cc" if path.endswith(".h") else path, position)
    return [commands[path] for path in sorted(commands, key=lambda path: (rank.get(path, len(rank)), path))]


def fingerprint(command: dict, salt: bytes) -> str | None:
    """Of everything that clang-tidy's answer depends on; None if the file does not compile."""
    args = [arg for arg in shlex.split(command["command"]) if "ccache" not in os.path.basename(arg)]
    output = args.index("-o")
    del args[output : output + 2]
    args.remove("-c")
    preprocessed = subprocess.run([*args, "-E", "-P", "-C"], cwd=command["directory"], capture_output=True)
    if preprocessed.returncode != 0:
        return None
    root = os.getcwd().encode()
    key = salt + b"\0".join(arg.encode() for arg in args) + preprocessed.stdout
    return hashlib.sha256(key.replace(root, b"")).hexdigest()


def compiler_headers(command: dict) -> str:
    """Where the compiler keeps headers of its own that clang-tidy's release does not bring, as OpenMP's."""
    compiler = next(arg for arg in shlex.split(command["command"]) if "ccache" not in os.path.basename(arg))
    found = subprocess.run([compiler, "-print-resource-dir"], capture_output=True, text=True, check=True)
    return found.stdout.strip() + "/include"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no further file is begun")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    options = parser.parse_args()

    started = time.monotonic()
    clean_folder = pathlib.Path(os.environ["ATTENDANT_CACHE"]) / "clang-tidy"
    clean_folder.mkdir(exist_ok=True)
    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout
    salt = pathlib.Path(".clang-tidy").read_bytes() + version

    def check(command: dict) -> tuple[str, str]:
        """One of clean, known, left and failed, and what clang-tidy printed."""
        if time.monotonic() - started > options.budget:
            return "left", ""
        key = fingerprint(command, salt)
        if key is not None and (clean_folder / key).exists():
            return "known", ""
        result = subprocess.run(
            [CLANG_TIDY, "--quiet", "--warnings-as-errors=*", f"--extra-arg=-idirafter{headers}", "-p",
             str(options.build), command["file"]],
            capture_output=True, text=True)
        if result.returncode != 0:
            return "failed", result.stdout + result.stderr
        if key is not None:
            (clean_folder / key).touch()
        return "clean", ""

    commands = [command for command in sources(options.build) if options.only in command["file"]]
    headers = compiler_headers(commands[0]) if commands else ""
    counts = {"clean": 0, "known": 0, "left": 0, "failed": 0}
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for outcome, output in pool.map(check, commands):
            counts[outcome] += 1
            print(output, end="", flush=True)
    print(f"{len(commands)} files: {counts['clean'] + counts['known']} clean ({counts['known']} known), "
          f"{counts['failed']} with findings, {counts['left']} left for want of time, {time.monotonic() - started:.0f} s")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
