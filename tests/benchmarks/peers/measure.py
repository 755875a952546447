"""One measurement: a peer's program, alone in a process, and how much of the processors others took meanwhile."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import time

import install
import machine
import report

NOT_SERVED = 3
TIMEOUT_SECONDS = 1200
TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds(cpus):
    """The time that these processors have worked, for this machine or, behind its back, for another."""
    total = 0.0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(tick) for tick in ticks[:8])
            total += (user + nice + system + irq + softirq + steal) / TICKS
    return total


def own_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def command_of(contender, settings):
    peer = install.PEERS[contender.peer]
    return [
        *peer.enter,
        peer.python,
        str(install.HERE / "programs" / peer.program),
        contender.argument(install.path_of),
        contender.workload,
        f"--threads={settings.threads}",
        f"--cpus={','.join(map(str, settings.cpus))}",
        f"--seconds={settings.seconds}",
        f"--build-dir={settings.build_dir}",
    ]


def measure(case, contender, turn, settings):
    start, busy, own = time.monotonic(), busy_seconds(settings.cpus), own_seconds()
    # A session of its own, so that nothing of it outlives it.
    process = subprocess.Popen(command_of(contender, settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        output, errors = "", f"took more than {TIMEOUT_SECONDS} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    code = process.returncode
    wall = (time.monotonic() - start) * len(settings.cpus)
    others = busy_seconds(settings.cpus) - busy - (own_seconds() - own)
    noise = round(min(max(others / wall, 0.0), 1.0), 3)
    if code != 0:
        # Its last part, without the paths of this machine that come before.
        reason = (errors.strip().splitlines() or [f"ended with {code}"])[-1].rsplit("; ", 1)[-1][:200]
        note = reason if code == NOT_SERVED else report.FAILED + reason
        return report.Measurement(case.name, contender.label, turn, None, noise=noise, note=note)
    result = json.loads(output.strip().splitlines()[-1])
    value, unit = result.pop("value"), result.pop("unit")
    version = machine.own_version(install.REPOSITORY) if contender.peer == "attendant" else result.pop("version", "")
    return report.Measurement(case.name, contender.label, turn, value, unit, noise, version, more=json.dumps(result))

