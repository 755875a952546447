"""What measurements come to: medians, ratios, and how they are written down. No clock, no processes, few files."""

import csv
import dataclasses
import html
import math
import statistics

import cases

NOISY = 0.05  # of the processors' time taken by somebody else
FAILED = "failed: "  # how the note of a measurement begins that should have been one


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One process. `value` is None where there is none, and `note` says why."""

    case: str
    contender: str
    round: int
    value: float | None
    unit: str = ""
    noise: float = 0.0  # the share of the processors' time that others took meanwhile
    version: str = ""
    note: str = ""
    more: str = ""  # what else the program printed, as JSON


FIELDS = [field.name for field in dataclasses.fields(Measurement)]


def write_tsv(path, measurements):
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(FIELDS)
        for measurement in measurements:
            row = dataclasses.asdict(measurement)
            writer.writerow("" if row[name] is None else row[name] for name in FIELDS)
    partial.rename(path)


def read_tsv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Measurement(**{
                **row,
                "round": int(row["round"]),
                "value": float(row["value"]) if row["value"] else None,
                "noise": float(row["noise"]),
            })
            for row in csv.DictReader(file, delimiter="\t")
        ]


@dataclasses.dataclass(frozen=True)
class Summary:
    """A contender over its rounds."""

    values: dict  # round -> value
    unit: str
    noise: float  # their median
    note: str

    @property
    def median(self):
        return statistics.median(self.values.values()) if self.values else None


def summarize(measurements):
    """{(case, contender): Summary}"""
    groups = {}
    for measurement in measurements:
        groups.setdefault((measurement.case, measurement.contender), []).append(measurement)
    return {
        key: Summary(
            {m.round: m.value for m in group if m.value is not None},
            next((m.unit for m in group if m.unit), ""),
            statistics.median(m.noise for m in group),
            next((m.note for m in group if m.note), ""),
        )
        for key, group in groups.items()
    }


def advantage(better, mine, theirs):
    """How many times as good `mine` is."""
    return mine / theirs if better == cases.HIGHER else theirs / mine


@dataclasses.dataclass(frozen=True)
class Row:
    """A target and what became of it."""

    case: str
    better: str
    target: cases.Target
    mine: Summary | None
    peer: str  # the best of the target's
    theirs: Summary | None
    ratios: tuple  # one for each round that has both; without a peer, the values themselves

    @property
    def ratio(self):
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self):
        if self.ratio is None:
            return None
        at_most = not self.target.against and self.better == cases.LOWER
        return self.ratio <= self.target.bound if at_most else self.ratio >= self.target.bound

    @property
    def noisy(self):
        return any(s is not None and s.noise > NOISY for s in (self.mine, self.theirs))


def rows_of(case, summaries):
    rows = []
    for target in case.targets:
        mine = summaries.get((case.name, target.ours))
        peers = {name: summaries[case.name, name] for name in target.against if (case.name, name) in summaries}
        peers = {name: summary for name, summary in peers.items() if summary.values}
        best = max if case.better == cases.HIGHER else min
        peer = best(peers, key=lambda name: peers[name].median) if peers else ""
        theirs = peers.get(peer)
        ratios = ()
        if mine is not None and not target.against:
            ratios = tuple(mine.values.values())
        elif mine is not None and theirs is not None:
            both = sorted(mine.values.keys() & theirs.values.keys())
            ratios = tuple(advantage(case.better, mine.values[r], theirs.values[r]) for r in both)
        if mine is not None:
            rows.append(Row(case.name, case.better, target, mine, peer, theirs, ratios))
    return rows


def number(value):
    """Three digits that say something."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def spread(summary):
    """"17.2 ms (16.9-18.0)"."""
    if summary is None:
        return ""
    if not summary.values:
        return "failed" if summary.note.startswith(FAILED) else "not served"
    text = f"{number(summary.median)} {summary.unit}".strip()
    low, high = min(summary.values.values()), max(summary.values.values())
    return text if low == high else f"{text} ({number(low)}-{number(high)})"


def bound(row):
    if row.target.against:
        return f"≥ {row.target.bound:g}"
    return f"{'≤' if row.better == cases.LOWER else '≥'} {row.target.bound:g}"


def table(header, lines):
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *body])


def targets_table(rows):
    lines = []
    for row in rows:
        met = {True: "yes", False: "**no**", None: "-"}[row.met]
        ratio = "-" if row.ratio is None else number(row.ratio) + ("~" if row.noisy else "")
        lines.append([row.case, row.target.ours, spread(row.mine), row.peer, spread(row.theirs), ratio, bound(row)])
        lines[-1].append(met)
    return table(["work", "ours", "median (spread)", "best peer", "median (spread)", "ratio", "target", "met"], lines)


def measurements_table(known_cases, summaries):
    lines = []
    for case in known_cases:
        for contender in case.contenders:
            summary = summaries.get((case.name, contender.label))
            if summary is not None:
                note = summary.note or (f"noisy: {summary.noise:.0%}" if summary.noise > NOISY else "")
                lines.append([case.name, contender.label, spread(summary), str(len(summary.values)), note])
    return table(["work", "who", "median (spread)", "rounds", ""], lines)


def markdown(title, facts, plot, known_cases, measurements):
    summaries = summarize(measurements)
    rows = [row for case in known_cases for row in rows_of(case, summaries)]
    versions = sorted({m.version for m in measurements if m.version})
    counted = [row.met for row in rows if row.met is not None]
    parts = [
        f"# {title}",
        "\n".join(f"- {fact}" for fact in [*facts, *versions]),
        f"Medians over rounds in which all contenders of a row take turns, each in a process of its own, with the "
        f"smallest and the largest. The ratio is the median of the rounds' ratios, above 1 where Attendant is better; "
        f"`~`: others took more than {NOISY:.0%} of the processors meanwhile. {sum(counted)} of {len(counted)} targets "
        f"are met.",
        *([f"![Ratios]({plot})"] if plot else []),
        targets_table(rows),
        "## All measurements",
        measurements_table(known_cases, summaries),
    ]
    return "\n\n".join(parts) + "\n"


# The plot.

LABELS, BARS, LINE = 500, 420, 18
MET, MISSED, INK, FAINT = "#2a9d6f", "#d9822b", "#222222", "#dddddd"


def plot(title, rows):
    """An SVG: for each row with peers, a bar of the ratio on a logarithmic axis, and a mark at its target.

    Empty if there is no such row.
    """
    rows = [row for row in rows if row.target.against and row.ratio]
    if not rows:
        return ""
    ends = [value for row in rows for value in (row.ratio, row.target.bound)]
    low = 2.0 ** math.floor(math.log2(min([*ends, 0.5])))
    high = 2.0 ** math.ceil(math.log2(max([*ends, 2.0])))

    def x(ratio):
        return LABELS + BARS * math.log(ratio / low) / math.log(high / low)

    height = (len(rows) + 3) * LINE + 10
    width = LABELS + BARS + 70
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="{LINE}" font-size="13" fill="{INK}">{html.escape(title)}</text>',
    ]
    tick = low
    while tick <= high:
        lines.append(
            f'<line x1="{x(tick):.1f}" y1="{2 * LINE}" x2="{x(tick):.1f}" y2="{height - 10}" stroke="{FAINT}"/>'
            f'<text x="{x(tick):.1f}" y="{2 * LINE - 3}" text-anchor="middle" fill="{INK}">{tick:g}×</text>'
        )
        tick *= 2
    for index, row in enumerate(rows):
        top = (index + 2) * LINE + 6
        left, right = sorted((x(1.0), x(row.ratio)))
        name = html.escape(f"{row.case}: {row.target.ours} / {row.peer}")
        goal = x(row.target.bound)
        lines.append(
            f'<text x="{LABELS - 8}" y="{top + 10}" text-anchor="end" fill="{INK}">{name}</text>'
            f'<rect x="{left:.1f}" y="{top}" width="{max(right - left, 1):.1f}" height="{LINE - 6}" '
            f'fill="{MET if row.met else MISSED}"/>'
            f'<line x1="{goal:.1f}" y1="{top - 2}" x2="{goal:.1f}" y2="{top + LINE - 4}" stroke="{INK}" '
            f'stroke-width="2"/>'
            f'<text x="{max(right, goal) + 5:.1f}" y="{top + 10}" fill="{INK}">{number(row.ratio)}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"
