"""Measures Attendant and its peers in turns, on this machine.

Installs the peers and makes the models (about 20 GB, in $ATTENDANT_CACHE), then runs every case: all of its contenders
one after the other, each alone in a process, pinned, with equal threads, for several rounds. Prints ratios beside their
targets, and writes them, every measurement and a plot into tests/benchmarks/results/.
"""

import argparse
import datetime
import os
import pathlib
import platform
import sys

import cases
import install
import machine
import measure
import report

RESULTS = install.REPOSITORY / "tests/benchmarks/results"


def facts_of(arguments):
    return [
        f"CPU: {machine.cpu_line()}",
        f"Linux {platform.release()}; --threads {arguments.threads} --seconds {arguments.seconds:g}",
    ]


def write(path, title, facts):
    """The tables and the plot of a file of measurements; returns the rows."""
    measurements = report.read_tsv(path) if path.exists() else []
    summaries = report.summarize(measurements)
    rows = [row for case in cases.CASES for row in report.rows_of(case, summaries)]
    plot = path.with_suffix(".svg")
    drawn = report.plot(title, rows)
    if drawn:
        plot.write_text(drawn, encoding="utf-8")
    text = report.markdown(title, facts, plot.name if drawn else "", cases.CASES, measurements)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return rows


def run(chosen, arguments, path):
    """Measures round by round; what is known is on disk after each measurement."""
    # What was measured earlier on the same day stays, so that a case can be measured again alone.
    before = report.read_tsv(path) if path.exists() else []
    names = {case.name for case in chosen}
    measurements = [measurement for measurement in before if measurement.case not in names]
    refused = set()
    total = sum(len(case.contenders) for case in chosen) * arguments.rounds
    done = 0
    for turn in range(arguments.rounds):
        for case in chosen:
            # Every other round backwards, so that nobody always comes after the same one.
            for contender in case.contenders[:: 1 if turn % 2 == 0 else -1]:
                done += 1
                if (case.name, contender.label) in refused:
                    continue
                measurement = measure.measure(case, contender, turn, arguments)
                measurements.append(measurement)
                if measurement.value is None:
                    refused.add((case.name, contender.label))
                value = "-" if measurement.value is None else f"{report.number(measurement.value)} {measurement.unit}"
                noise = f"others {measurement.noise:.0%}" if measurement.noise > report.NOISY else ""
                note = measurement.note or noise
                install.say(f"[{done}/{total}] {case.name:32} {contender.label:38} {value:>18}  {note}")
                report.write_tsv(path, measurements)


def cpu_list(text):
    return [int(cpu) for cpu in text.split(",")]


def main():
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="*", help="only cases whose name holds one of these, as encode/minilm or decode")
    parser.add_argument("--rounds", type=int, default=3, metavar="N",
                        help="how often each contender has its turn (3); 0 writes the tables of today anew")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="for everyone (2)")
    parser.add_argument("--cpus", type=cpu_list, metavar="LIST",
                        help="processors to pin them to: 0,1,... (the first ones)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="how long each repeats its work (2)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--install", action="store_true", help="install peers and models, and measure nothing")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, metavar="DIR", help="where results go")
    parser.add_argument("--build-dir", type=pathlib.Path, metavar="DIR", help="where the programs are built already")
    arguments = parser.parse_args()

    chosen = cases.selected(arguments.row)
    if not chosen:
        parser.error(f"no case's name holds {' or '.join(arguments.row)}; --list prints them")
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return
    if arguments.rounds < 0 or arguments.threads < 1 or arguments.seconds < 0:
        parser.error("--rounds and --seconds are at least 0, and --threads 1")
    allowed = sorted(os.sched_getaffinity(0))
    arguments.cpus = arguments.cpus or allowed[: arguments.threads]
    if len(set(arguments.cpus)) < arguments.threads or not set(arguments.cpus) <= set(allowed):
        parser.error(f"--threads {arguments.threads} need as many of the processors {','.join(map(str, allowed))}")

    install.install(chosen)
    if arguments.install:
        return
    arguments.build_dir = (arguments.build_dir or install.build()).absolute()
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    cpu = machine.cpu_name()
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{machine.slug(cpu)}-{today}.tsv"
    try:
        if arguments.rounds:
            run(chosen, arguments, path)
    finally:
        rows = write(path, f"Attendant and its peers on {cpu}, {today}", facts_of(arguments))
    names = {case.name for case in chosen}
    print(report.targets_table([row for row in rows if row.case in names]))
    print(f"\n{path.with_suffix('.md')}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        install.say("\ninterrupted; what was measured is kept")
        sys.exit(130)
    except install.InstallError as error:
        install.say(f"bench peers: {error}")
        sys.exit(1)
