#!/usr/bin/env python3
"""Checks that the Grafana dashboard and the alerts ask for metrics and labels that the server has.

usage: dashboard_test.py REPOSITORY
"""

import json
import pathlib
import re
import sys

# The labels that Prometheus adds, and the bound of a histogram's bucket.
EVERYWHERE = {"instance", "job", "le"}
HISTOGRAM_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def metrics_of(source: str) -> dict[str, set[str]]:
    """Name -> labels, from the table in metrics.cc, whose help texts have the labels in braces."""
    table = {}
    for name, text in re.findall(r'constexpr Spec k\w+ = \{\s*"(\w+)",\s*((?:"[^"]*"\s*)+)\}', source):
        braces = re.search(r"\{([\w, ]+)\}", text)
        table[name] = set(braces.group(1).split(", ")) if braces else set()
    return table


def problems_of(expression: str, metrics: dict[str, set[str]]) -> list[str]:
    """Metrics and labels in a PromQL expression that the server has not."""
    problems, labels = [], set()
    selected = re.findall(r"\b((?:attendant|process)_\w+)(\{[^}]*\})?", expression)
    for name, selector in selected:
        plain = HISTOGRAM_SUFFIX.sub("", name)
        known = metrics.get(name, metrics.get(plain))
        if known is None:
            problems.append(f"there is no metric {name}")
            continue
        labels |= known
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector):
            if label not in known | EVERYWHERE:
                problems.append(f"{name} has no label {label}")
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        for label in re.split(r",\s*", group):
            if label not in labels | EVERYWHERE:
                problems.append(f"nothing here has a label {label} to group by")
    return [f"{problem}: {expression}" for problem in problems]


def expressions_of(dashboard: dict) -> list[str]:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    variables = [variable["query"]["query"] for variable in dashboard["templating"]["list"]]
    return queries + variables


def main() -> int:
    repository = pathlib.Path(sys.argv[1])
    metrics = metrics_of((repository / "server/metrics/metrics.cc").read_text())
    assert "attendant_requests_total" in metrics, "the table in metrics.cc was not understood"
    assert problems_of('sum by (code) (rate(attendant_nothing_total{code="OK"}[5m]))', metrics)
    assert problems_of('attendant_steps_total{color="red"}', metrics)
    assert problems_of("sum by (color) (attendant_requests_total)", metrics)

    dashboard = json.loads((repository / "deploy/grafana/dashboards/attendant.json").read_text())
    expressions = expressions_of(dashboard)
    alerts = (repository / "deploy/prometheus/alerts.yml").read_text()
    expressions += re.findall(r"^ +expr: (?:>\n)?((?:.*\n)+?)(?= +for:)", alerts, re.MULTILINE)
    problems = [problem for expression in expressions for problem in problems_of(expression, metrics)]
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        problems.append("two panels have the same id")
    print("\n".join(problems + [f"{len(expressions)} expressions, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
