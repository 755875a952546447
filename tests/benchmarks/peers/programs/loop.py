"""What the programs of peers have in common: one measurement a process, and its result as one line of JSON.

    program MODEL WORKLOAD --threads N --cpus 0,1 --seconds S

The workloads are those of engine_bench.cc, and a few more. A program exits with NOT_SERVED where its peer cannot do
what was asked for, the last line of its standard error saying why.
"""

import argparse
import json
import os
import statistics
import sys
import time

NOT_SERVED = 3


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("workload")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cpus", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--build-dir")
    parsed = parser.parse_args()
    parsed.cpus = [int(cpu) for cpu in parsed.cpus.split(",")]
    return parsed


def not_served(reason):
    print(reason, file=sys.stderr)
    sys.exit(NOT_SERVED)


def pin_openmp(options):
    """Pins an OpenMP that is not loaded yet: of two spinning threads on one core, each waits for the other's slices."""
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["OMP_PROC_BIND"] = "true"
    os.environ["OMP_PLACES"] = ",".join(f"{{{cpu}}}" for cpu in options.cpus)


def lengths_of(text):
    """"32x128", 32 inputs of 128 tokens each; or "4,17,512", the lengths of three."""
    if "x" in text:
        count, length = numbers_of(text, 2)
        return [length] * count
    return [int(length) for length in text.split(",")]


def numbers_of(text, count):
    numbers = [int(number) for number in text.split("x")]
    if len(numbers) != count:
        raise ValueError(f"{text} is not {count} numbers joined by x")
    return numbers


def repeat(seconds, run):
    """The values that `run` returns: benchmarks::Repeat() of measurement.h, the same rule for everyone."""
    run()
    values, start = [], time.perf_counter()
    while True:
        values.append(run())
        spent = time.perf_counter() - start
        if spent >= seconds and (len(values) >= 3 or spent >= 4 * seconds):
            return values


def milliseconds(run):
    """Wraps `run` so that it returns how long it took."""

    def timed():
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3

    return timed


def print_result(values, unit, **more):
    value = statistics.median(values)
    result = {"value": value, "unit": unit, "min": min(values), "max": max(values), "runs": len(values), **more}
    print(json.dumps(result))
