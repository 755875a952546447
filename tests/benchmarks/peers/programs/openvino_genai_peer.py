"""OpenVINO GenAI: prefill:N and decode:N, of a GGUF file."""

import os
import sys

import loop

options = loop.arguments()
os.sched_setaffinity(0, set(options.cpus))
# Telemetry would start this program once more, beside itself.
sys.modules["openvino_telemetry"] = None

import numpy  # noqa: E402
import openvino  # noqa: E402
import openvino_genai  # noqa: E402

kind, _, text = options.workload.partition(":")
if kind not in ("prefill", "decode") or "x" in text:
    loop.not_served(f"there is no workload {options.workload}")
pipeline = openvino_genai.LLMPipeline(
    options.model,
    "CPU",
    INFERENCE_NUM_THREADS=options.threads,
    ENABLE_CPU_PINNING=True,
    PERFORMANCE_HINT="LATENCY",
)
prompt_tokens, num_tokens = (int(text), 1) if kind == "prefill" else (1, int(text))
ids = numpy.random.default_rng(1).integers(300, 30000, (1, prompt_tokens))
inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
config = openvino_genai.GenerationConfig(max_new_tokens=num_tokens, ignore_eos=True, do_sample=False)


def generate():
    metrics = pipeline.generate(inputs, config).perf_metrics
    if kind == "prefill":
        return prompt_tokens / metrics.get_ttft().mean * 1e3
    return 1e3 / metrics.get_tpot().mean


loop.print_result(loop.repeat(options.seconds, generate), "tokens/s",
                  version=f"openvino-genai {openvino_genai.__version__}")
