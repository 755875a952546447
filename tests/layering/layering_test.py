#!/usr/bin/env python3
"""Compares every #include line of engine/, server/ and client/ with the layers: who may include whom.

usage: layering_test.py REPOSITORY
"""

import pathlib
import re
import sys

# Open to all of engine/.
VOCABULARY = ["engine/base", "engine/request.h", "engine/batch.h"]

# What the server may know of the engine, and the contract.
ENGINE_API = ["engine/engine.h", "engine/request.h", "engine/base", "proto"]

# A folder, or a file without its extension -> the folders and headers it may include, beside its own. The longest
# key that holds a file decides.
MAY_INCLUDE = {
    "engine/base": [],
    "engine/request": ["engine/base"],
    "engine/batch": ["engine/base"],
    "engine/tokenizer": VOCABULARY,
    "engine/checkpoint": VOCABULARY,
    "engine/kernels": VOCABULARY,
    "engine/kv_cache": VOCABULARY,
    "engine/image": VOCABULARY,
    "engine/scheduler": VOCABULARY + ["engine/kv_cache"],
    "engine/model": VOCABULARY + ["engine/checkpoint", "engine/kv_cache", "engine/kernels"],
    "engine/sampler": VOCABULARY + ["engine/kernels"],
    "engine/attend": VOCABULARY + ["engine/kernels", "engine/model"],
    "engine": ["engine"],
    "server": ENGINE_API + ["server"],
    "server/status": ENGINE_API,
    "server/admission": ENGINE_API + ["server/status"],
    "server/metrics": ENGINE_API + ["server/status", "server/admission"],
    "client": ["proto"],
    "client/pictures": ["client", "proto", "engine/base", "engine/image"],
}

# A third-party library, by its headers -> the only folders or files that include it. Abseil is used everywhere, the
# standard library and the system's headers too.
ONLY_IN = {
    r"(dnnl|oneapi/dnnl/).*": ["engine/kernels"],
    r"hwy/.*": ["engine/kernels", "engine/sampler"],
    r"omp\.h": ["engine/kernels", "engine/base"],
    r"simdjson\.h": ["engine"],
    r"pcre2\.h": ["engine/tokenizer"],
    r"(png|jpeglib|jerror)\.h": ["engine/image"],
    r"utf8proc\.h": ["engine/tokenizer", "client/pictures"],
    r"(cairo\.h|pango/.*)": ["client/pictures"],
    r"(grpc|grpcpp)/.*": ["server", "client"],
    r"google/.*": ["server", "client"],
    r"(prometheus/.*|civetweb\.h)": ["server/metrics"],
}
# Though they are in server/, these know no gRPC.
WITHOUT_GRPC = ["server/admission", "server/metrics", "server/status"]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def layer_of(path: str) -> str:
    stem = path.rsplit(".", 1)[0]
    return max((layer for layer in MAY_INCLUDE if is_below(stem, layer)), key=len)


def problem_with(source: str, included: str, first_folders: set[str]) -> str | None:
    """Why `source` must not include `included`, or None."""
    if included.split("/")[0] in first_folders and not included.startswith("google/"):
        layer = layer_of(source)
        allowed = [layer] + MAY_INCLUDE[layer]
        # A header without a folder of its own (engine/request) is spelled with its extension where it is included.
        if any(is_below(included, place) or is_below(included.rsplit(".", 1)[0], place) for place in allowed):
            return None
        return f"{layer} may include only {', '.join(allowed)}"
    for pattern, places in ONLY_IN.items():
        if not re.fullmatch(pattern, included):
            continue
        if not any(is_below(source, place) for place in places):
            return f"only {', '.join(places)} may include it"
        if pattern.startswith("(grpc") and any(is_below(source, place) for place in WITHOUT_GRPC):
            return f"{', '.join(WITHOUT_GRPC)} know no gRPC"
    return None


def check(source: str, text: str) -> list[str]:
    """The problems of one file's #include lines."""
    ours = {"engine", "server", "client", "proto", "tests", "attendant"}
    problems = []
    for match in INCLUDE.finditer(text):
        quote, included = match.groups()
        line = text.count("\n", 0, match.start(2)) + 1
        third_party = any(re.fullmatch(pattern, included) for pattern in ONLY_IN)
        if quote == '"' and "/" not in included and not third_party:
            problems.append(f"{source}:{line}: \"{included}\": spell it from the root of the repository")
            continue
        included = re.sub(r"^attendant/", "proto/attendant/", included)
        problem = problem_with(source, included, ours)
        if problem:
            problems.append(f"{source}:{line}: {included}: {problem}")
    return problems


def check_the_check() -> None:
    """The rules, tried on lines that are known to be right or wrong."""
    right = [
        ("engine/scheduler/scheduler.cc", "engine/kv_cache/block_pool.h"),
        ("engine/scheduler/scheduler.cc", "engine/request.h"),
        ("engine/model/transformer.cc", "engine/kernels/linear.h"),
        ("engine/kernels/onednn.cc", "dnnl.hpp"),
        ("engine/engine.cc", "engine/sampler/sampler.h"),
        ("server/rpc/generate_reactor.h", "grpcpp/grpcpp.h"),
        ("server/rpc/generate_reactor.h", "engine/engine.h"),
        ("client/client.cc", "attendant/v1/inference.grpc.pb.h"),
    ]
    wrong = [
        ("engine/scheduler/scheduler.cc", "engine/model/transformer.h"),
        ("engine/scheduler/scheduler.cc", "engine/engine.h"),
        ("engine/tokenizer/tokenizer.cc", "engine/checkpoint/checkpoint.h"),
        ("engine/model/transformer.cc", "dnnl.hpp"),
        ("engine/engine.cc", "grpcpp/grpcpp.h"),
        ("engine/engine.cc", "server/server_options.h"),
        ("server/rpc/generate_reactor.cc", "engine/scheduler/scheduler.h"),
        ("server/metrics/metrics.cc", "grpcpp/grpcpp.h"),
        ("server/main.cc", "prometheus/counter.h"),
        ("client/client.cc", "engine/base/tensor.h"),
        ("engine/engine.cc", "engine.h"),
    ]
    for source, included in right:
        assert check(source, f'#include "{included}"') == [], (source, included)
    for source, included in wrong:
        assert len(check(source, f'#include "{included}"')) == 1, (source, included)


def main() -> int:
    check_the_check()
    repository = pathlib.Path(sys.argv[1])
    problems, num_files = [], 0
    for top in ("engine", "server", "client"):
        for path in sorted((repository / top).rglob("*")):
            if path.suffix in (".h", ".cc"):
                num_files += 1
                problems += check(str(path.relative_to(repository)), path.read_text())
    print("\n".join(problems + [f"{num_files} files, {len(problems)} includes against the layers"]))
    return 1 if problems or not num_files else 0


if __name__ == "__main__":
    sys.exit(main())
