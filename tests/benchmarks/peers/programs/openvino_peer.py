"""OpenVINO: encode, of an .onnx file. The precision follows the file's name: NAME-f32.onnx, or NAME-qdq.onnx."""

import os
import sys

import loop

options = loop.arguments()
os.sched_setaffinity(0, set(options.cpus))
# Telemetry would start this program once more, beside itself.
sys.modules["openvino_telemetry"] = None

import openvino  # noqa: E402

import encoder  # noqa: E402

core = openvino.Core()
model = core.read_model(options.model)
kind, _, text = options.workload.partition(":")
if kind == "encode":
    lengths = loop.lengths_of(text)
    model.reshape({port.get_any_name(): [len(lengths), max(lengths)] for port in model.inputs})
compiled = core.compile_model(model, "CPU", {
    "INFERENCE_NUM_THREADS": options.threads,
    "ENABLE_CPU_PINNING": True,
    "PERFORMANCE_HINT": "LATENCY",
    # Left alone it would multiply bfloat16 where the processor does.
    "INFERENCE_PRECISION_HINT": "f32",
})
request = compiled.create_infer_request()
encoder.measure(options.workload, options.seconds, lambda inputs: request.infer(inputs),
                version=f"openvino {openvino.__version__}")
