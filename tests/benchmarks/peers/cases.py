"""What is measured, against whom, and what is aimed at. A row more is a line more here.

A case is one piece of work; its contenders are measured in turns. A target compares one of them with the best of some
others. Workloads are those of engine_bench.cc and of the programs in programs/.
"""

import dataclasses

HIGHER, LOWER = "higher", "lower"


@dataclasses.dataclass(frozen=True)
class Contender:
    label: str  # unique in its case
    peer: str  # a key of install.PEERS
    model: str  # a file or folder that install.py makes; "" for none
    workload: str
    dtype: str = ""  # for peers that choose it as they load

    def argument(self, path_of):
        """What the peer's program takes for MODEL."""
        if not self.model:
            return self.dtype or "-"
        return f"{path_of(self.model)},dtype={self.dtype}" if self.dtype else str(path_of(self.model))


@dataclasses.dataclass(frozen=True)
class Target:
    ours: str
    against: tuple = ()  # of these the best; none: `bound` bounds the value itself
    bound: float = 1.0  # how many times as good at least; without `against` the most (LOWER) or the least (HIGHER)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    better: str
    contenders: tuple
    targets: tuple


def ours(model, workload, dtype, label=""):
    return Contender(label or f"attendant {dtype}", "attendant", model, workload, dtype)


# 64 texts of 4 to 512 tokens, whose lengths follow Zipf's law: as many of 4 to 8 tokens as of 8 to 16.
RAGGED = ",".join(str(round(4 * 128 ** ((i + 0.5) / 64))) for i in range(64))


def encode(model, size):
    work = f"encode:{size}"
    return Case(
        f"encode/{model}/{size}",
        LOWER,
        (
            ours(model, work, "f32"),
            Contender("onnxruntime f32", "onnxruntime", f"{model}-f32.onnx", work),
            Contender("onnxruntime f32, Debian's", "onnxruntime-debian", f"{model}-f32.onnx", work),
            ours(model, work, "bf16"),
            Contender("openvino f32", "openvino", f"{model}-plain.onnx", work),
            ours(model, work, "int8"),
            Contender("onnxruntime int8", "onnxruntime", f"{model}-int8.onnx", work),
            Contender("openvino int8", "openvino", f"{model}-qdq.onnx", work),
        ),
        (
            Target("attendant f32", ("onnxruntime f32", "onnxruntime f32, Debian's"), 1.15),
            Target("attendant bf16", ("onnxruntime f32", "onnxruntime f32, Debian's"), 2.0),
            Target("attendant int8", ("onnxruntime int8", "openvino int8"), 1.4),
        ),
    )


def ragged():
    sorted_by = [(size, f"onnxruntime f32, sorted, {size} at a time") for size in (1, 8, 32)]
    peers = [Contender(label, "onnxruntime", "minilm-f32.onnx", f"sorted:{size}:{RAGGED}") for size, label in sorted_by]
    mine = [ours("minilm", f"serve:{RAGGED}", dtype, f"attendant {dtype}, gRPC") for dtype in ("f32", "bf16", "int8")]
    labels = tuple(label for _, label in sorted_by)
    return Case(
        "ragged/minilm/64 texts",
        HIGHER,
        (*mine, *peers),
        (Target("attendant bf16, gRPC", labels, 2.0), Target("attendant f32, gRPC", labels, 1.0)),
    )


def llama(label, model, quantization, work):
    return Contender(label, "llama.cpp", f"{model}-{quantization}.gguf", work)


def prefill(model):
    work = "prefill:512"
    return Case(
        f"prefill/{model}/512",
        HIGHER,
        (
            ours(model, work, "bf16"),
            llama("llama.cpp BF16", model, "BF16", work),
            ours(model, work, "int8"),
            llama("llama.cpp Q8_0", model, "Q8_0", work),
            ours(model, work, "int4"),
            llama("llama.cpp Q4_0", model, "Q4_0", work),
        ),
        (
            Target("attendant bf16", ("llama.cpp BF16", "llama.cpp Q8_0"), 2.5),
            Target("attendant int8", ("llama.cpp BF16", "llama.cpp Q8_0"), 2.5),
            Target("attendant int4", ("llama.cpp Q4_0",), 1.7),
        ),
    )


def decode(model, work, bounds, bf16=True, more=()):
    """`bounds`: of int8 and of int4."""
    bfloat = (ours(model, work, "bf16"), llama("llama.cpp BF16", model, "BF16", work)) if bf16 else ()
    return Case(
        f"decode/{model}/{work.partition(':')[2]}",
        HIGHER,
        (
            *bfloat,
            ours(model, work, "int8"),
            llama("llama.cpp Q8_0", model, "Q8_0", work),
            ours(model, work, "int4"),
            llama("llama.cpp Q4_0", model, "Q4_0", work),
            *more,
        ),
        (
            *((Target("attendant bf16", ("llama.cpp BF16",), 1.0),) if bf16 else ()),
            Target("attendant int8", ("llama.cpp Q8_0",), bounds[0]),
            Target("attendant int4", ("llama.cpp Q4_0",), bounds[1]),
        ),
    )


def bandwidth():
    dtypes = ("bf16", "int8", "int4")
    return Case(
        "weights/llama1b",
        HIGHER,
        (
            Contender("memory", "attendant", "", "memory"),
            *(ours("llama1b", "weights:128", dtype) for dtype in dtypes),
        ),
        tuple(Target(f"attendant {dtype}", ("memory",), 0.9) for dtype in dtypes),
    )


def products(model, rows, width, inner):
    """The layers of an encoder over so many tokens, as the engine multiplies them, against its best at any size."""
    sizes = (f"{rows}x{width}x{3 * width}", f"{rows}x{width}x{inner}", f"{rows}x{inner}x{width}")
    dtypes = ("f32", "bf16", "int8")
    return Case(
        f"products/{model}/{rows}",
        HIGHER,
        (
            *(Contender(f"attendant {d}, {s}", "attendant", "", f"linear:{s}", d) for s in sizes for d in dtypes),
            *(Contender(f"peak {d}", "attendant", "", "linear:4096x4096x4096", d) for d in dtypes),
        ),
        tuple(Target(f"attendant {d}, {s}", (f"peak {d}",), 0.85) for s in sizes for d in dtypes),
    )


def attention(tokens):
    work = f"attention:12x64x{tokens}"
    dtypes = ("f32", "bf16")
    contenders = []
    for dtype in dtypes:
        contenders += [Contender(f"{who} {dtype}", who, "", work, dtype) for who in ("attendant", "torch")]
    return Case(
        f"attention/12x64/{tokens}",
        LOWER,
        tuple(contenders),
        tuple(Target(f"attendant {dtype}", (f"torch {dtype}",), 1.3) for dtype in dtypes),
    )


def translate(beams, sources):
    work = f"translate:32x32x{sources}x{beams}"
    dtypes = ("f32", "int8")
    return Case(
        f"translate/{'greedy' if beams == 1 else f'{beams} beams'}/{sources}",
        HIGHER,
        (
            *(ours("marian", work, dtype) for dtype in dtypes),
            *(Contender(f"ctranslate2 {d}", "ctranslate2", "marian-ctranslate2", work, d) for d in dtypes),
        ),
        tuple(Target(f"attendant {dtype}", (f"ctranslate2 {dtype}",), 1.1) for dtype in dtypes),
    )


CASES = (
    *(encode(m, f"{b}x{s}") for m in ("minilm", "bertbase") for s in (128, 512) for b in (1, 8, 32)),
    ragged(),
    prefill("llama110m"),
    prefill("llama1b"),
    decode("llama15m", "decode:128", (2.0, 2.0)),
    decode("llama110m", "decode:128", (1.4, 1.4)),
    decode("llama1b", "decode:128", (1.1, 1.1), bf16=False),
    decode(
        "smollm2",
        "decode:128",
        (1.4, 1.4),
        bf16=False,
        # The only one of these files whose vocabulary its reader takes.
        more=(Contender("openvino-genai Q8_0", "openvino-genai", "smollm2-Q8_0.gguf", "decode:128"),),
    ),
    decode("llama1b", "decode:32x8x64", (2.5, 2.0), bf16=False),
    bandwidth(),
    *(products("minilm", rows, 384, 1536) for rows in (32, 128, 1024)),
    *(products("bertbase", rows, 768, 3072) for rows in (32, 128, 512, 1024)),
    *(attention(tokens) for tokens in (512, 1024, 2048, 4096)),
    *(translate(beams, sources) for beams in (1, 4) for sources in (1, 32)),
    Case(
        "grpc/minilm/1x128, ms beyond computing",
        LOWER,
        (
            ours("minilm", "overhead:1x128", "bf16"),
            ours("minilm", "idle:1x128", "bf16", "a call that computes nothing, as seldom"),
        ),
        (Target("attendant bf16", (), 0.3),),
    ),
    Case(
        "resident/llama1b, of weights and cache",
        LOWER,
        (
            *(ours("llama1b", "resident", dtype) for dtype in ("bf16", "int8")),
            ours("llama1b", "peak", "int8", "attendant int8, while it loads"),
        ),
        tuple(Target(f"attendant {dtype}", (), 1.15) for dtype in ("bf16", "int8")),
    ),
)


def selected(patterns):
    """The cases whose name holds any of the patterns; all of them without patterns."""
    return [case for case in CASES if not patterns or any(pattern in case.name for pattern in patterns)]
