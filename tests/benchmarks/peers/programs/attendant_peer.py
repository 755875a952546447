"""Attendant: what engine_bench measures, and three workloads more. MODEL is as for attendant-server's --model.

    weights:TOKENS      decode, as bytes of weights a second
    serve:LENGTHS       one Encode over gRPC after the other: tokens a second
    overhead:LENGTHS    the same: what a call takes beyond the engine's own time
    idle:LENGTHS        and what a call takes that computes nothing, after pauses of that time
    resident            the server's memory in weights and cache, once it serves
    peak                the same, the most until then: with what loading takes beside
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import loop

START_SECONDS = 600

options = loop.arguments()
os.sched_setaffinity(0, set(options.cpus))
build = pathlib.Path(options.build_dir)


def measured(program, *arguments):
    """The result of engine_bench or grpc_bench; ends as they do if they fail."""
    command = [build / "tests/benchmarks" / program, f"--seconds={options.seconds}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode if done.returncode > 0 else 1)
    return json.loads(done.stdout)


def engine(workload):
    return measured("engine_bench", f"--threads={options.threads}", options.model, workload)


def streamed_bytes(result):
    """Weights that are read for each token: all, but for a table of embeddings of its own."""
    config = json.loads(pathlib.Path(options.model.split(",")[0], "config.json").read_text())
    embeddings = 0 if config["tie_word_embeddings"] else config["vocab_size"] * config["hidden_size"]
    return result["weight_bytes"] * (1 - embeddings / result["num_parameters"])


class Server:
    """attendant-server, serving the model until the end of the `with` block."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        ports, log = (pathlib.Path(self.folder.name, name) for name in ("ports", "log"))
        command = [build / "server/attendant-server", f"--model={options.model}", f"--threads={options.threads}",
                   "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", "--drain_settle=0s", "--request_log=off",
                   f"--port_file={ports}"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while not ports.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text().splitlines() or [f"the server was not ready in {START_SECONDS} s"]
                self.__exit__()
                loop.not_served(lines[-1])
            time.sleep(0.02)
        numbers = dict(line.split("=") for line in ports.read_text().split())
        self.address = f"127.0.0.1:{numbers['grpc']}"
        self.metrics = f"http://127.0.0.1:{numbers['metrics']}/metrics"
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.folder.cleanup()

    def resident_bytes(self, field):
        """VmRSS or, of the most until now, VmHWM of the kernel's account."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024

    def memory_bytes(self):
        """What it says of its memory: {"weights": bytes, "kv_cache": bytes, ...}."""
        with urllib.request.urlopen(self.metrics) as response:
            text = response.read().decode()
        found = re.findall(r'^attendant_memory_bytes\{kind="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return {kind: float(value) for kind, value in found}


def main():
    kind, _, text = options.workload.partition(":")
    if kind == "weights":
        result = engine(f"decode:{text}")
        for key in ("value", "min", "max"):
            result[key] *= streamed_bytes(result) / 1e9
        result["unit"] = "GB/s"
    elif kind in ("serve", "overhead", "idle"):
        with Server() as server:
            result = measured("grpc_bench", server.address, text)
        key = {"serve": "tokens_per_second", "overhead": "added_ms", "idle": "idle_ms"}[kind]
        result = {"value": result[key], "unit": "tokens/s" if kind == "serve" else "ms", "runs": result["runs"]}
    elif kind in ("resident", "peak"):
        with Server() as server:
            memory = server.memory_bytes()
            resident = server.resident_bytes("VmRSS" if kind == "resident" else "VmHWM")
        result = {"value": resident / (memory["weights"] + memory["kv_cache"]), "unit": "x", "bytes": resident, **memory}
    else:
        result = engine(options.workload)
    print(json.dumps(result))


main()
