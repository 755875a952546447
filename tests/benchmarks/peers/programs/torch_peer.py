"""PyTorch: attention:HEADSxDIMxTOKENS by scaled_dot_product_attention. MODEL is a data type, f32 or bf16."""

import resource

import loop

options = loop.arguments()
loop.pin_openmp(options)

import torch  # noqa: E402

kind, _, text = options.workload.partition(":")
if kind != "attention":
    loop.not_served(f"there is no workload {options.workload}")
torch.set_num_threads(options.threads)
heads, size, tokens = loop.numbers_of(text, 3)
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.model]
q, k, v = (torch.randn(1, heads, tokens, size).to(dtype) for _ in range(3))


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


with torch.inference_mode():
    before = resident_bytes()
    values = loop.repeat(
        options.seconds,
        loop.milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)),
    )
loop.print_result(values, "ms", extra_bytes=resident_bytes() - before, version=f"torch {torch.__version__}")
