"""onnxruntime: encode and sorted, of an .onnx file."""

import os

import loop

options = loop.arguments()
# The main thread is one of the pool's; the others are pinned by the session, which counts processors from 1.
os.sched_setaffinity(0, {options.cpus[0]})

import onnxruntime  # noqa: E402

import encoder  # noqa: E402

onnxruntime.set_default_logger_severity(3)
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = options.threads
settings.inter_op_num_threads = 1
if options.threads > 1:
    affinities = ";".join(str(cpu + 1) for cpu in options.cpus[1 : options.threads])
    settings.add_session_config_entry("session.intra_op_thread_affinities", affinities)
session = onnxruntime.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
encoder.measure(options.workload, options.seconds, lambda inputs: session.run(None, inputs),
                version=f"onnxruntime {onnxruntime.__version__}")
