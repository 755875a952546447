"""llama.cpp: prefill:N, decode:N and decode:NxSEQUENCESxPROMPT, of a GGUF file."""

import json
import subprocess

import loop

options = loop.arguments()
mask = sum(1 << cpu for cpu in options.cpus[: options.threads])
threads = ["-t", str(options.threads), "-C", hex(mask), "--cpu-strict", "1", "--poll", "100"]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


kind, _, text = options.workload.partition(":")
if kind == "decode" and "x" in text:
    tokens, sequences, prompt = loop.numbers_of(text, 3)
    context = sequences * (tokens + prompt)
    output = run(["llama-batched-bench", "-m", options.model, "-c", str(context), "-npp", str(prompt),
                  "-ntg", str(tokens), "-npl", str(sequences), "-tb", str(options.threads),
                  "--output-format", "jsonl", *threads])
    rates = [json.loads(line)["speed_tg"] for line in output.splitlines() if line.startswith("{")]
    loop.print_result(rates, "tokens/s")
elif kind in ("prefill", "decode"):
    sizes = ["-p", text, "-n", "0"] if kind == "prefill" else ["-p", "0", "-n", text]
    (result,) = json.loads(run(["llama-bench", "-m", options.model, "-r", "3", "-o", "json", *sizes, *threads]))
    loop.print_result(result["samples_ts"], "tokens/s", version=f"llama.cpp build {result['build_number']}")
else:
    loop.not_served(f"there is no workload {options.workload}")
