#!/usr/bin/env python3
"""Tests report.py and cases.py."""

import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import cases  # noqa: E402
import report  # noqa: E402
from report import Measurement  # noqa: E402


def case_of(better, *targets):
    labels = ("ours", "theirs", "others")
    contenders = tuple(cases.Contender(label, "peer", "", "work") for label in labels)
    return cases.Case("work", better, contenders, targets)


def measured(**values):
    """Measurements of case "work": a list of values, by round, for each contender."""
    return [
        Measurement("work", contender, round, value, "ms")
        for contender, of_rounds in values.items()
        for round, value in enumerate(of_rounds)
    ]


def row_of(case, measurements):
    (row,) = report.rows_of(case, report.summarize(measurements))
    return row


class RatioTest(unittest.TestCase):
    def test_is_the_median_of_the_rounds_and_not_of_the_values(self):
        case = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.5))
        # The second round was twice as slow for both.
        row = row_of(case, measured(ours=[10, 20, 10], theirs=[20, 40, 10]))
        self.assertEqual(row.ratios, (2.0, 2.0, 1.0))
        self.assertEqual(row.ratio, 2.0)
        self.assertTrue(row.met)

    def test_is_above_one_where_more_is_better_and_there_is_more(self):
        case = case_of(cases.HIGHER, cases.Target("ours", ("theirs",), 2.0))
        row = row_of(case, measured(ours=[30], theirs=[20]))
        self.assertEqual(row.ratio, 1.5)
        self.assertFalse(row.met)

    def test_is_against_the_best_of_the_peers(self):
        target = cases.Target("ours", ("theirs", "others"), 1.0)
        values = measured(ours=[10], theirs=[20], others=[30])
        self.assertEqual(row_of(case_of(cases.LOWER, target), values).peer, "theirs")
        self.assertEqual(row_of(case_of(cases.HIGHER, target), values).peer, "others")

    def test_takes_only_rounds_that_have_both(self):
        case = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.0))
        row = row_of(case, measured(ours=[10, 10, 10], theirs=[20, None, 40]))
        self.assertEqual(row.ratios, (2.0, 4.0))

    def test_of_a_row_without_peers_is_the_value_at_most(self):
        case = case_of(cases.LOWER, cases.Target("ours", (), 0.3))
        self.assertTrue(row_of(case, measured(ours=[0.2, 0.25, 0.5])).met)
        self.assertFalse(row_of(case, measured(ours=[0.4])).met)

    def test_is_not_there_where_ours_is_not_served(self):
        case = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.0))
        row = row_of(case, measured(ours=[None], theirs=[1.0]))
        self.assertIsNone(row.ratio)
        self.assertIsNone(row.met)
        self.assertIn("not served", report.targets_table([row]))


class TableTest(unittest.TestCase):
    def test_what_failed_is_not_what_is_not_served(self):
        summaries = report.summarize([
            Measurement("work", "ours", 0, None, note="no such dtype"),
            Measurement("work", "theirs", 0, None, note=report.FAILED + "it crashed"),
        ])
        self.assertEqual(report.spread(summaries["work", "ours"]), "not served")
        self.assertEqual(report.spread(summaries["work", "theirs"]), "failed")

    def test_numbers_have_three_digits(self):
        shown = [report.number(value) for value in (0.01234, 1.234, 12.34, 123.4, 12345.6)]
        self.assertEqual(shown, ["0.0123", "1.23", "12.3", "123", "12,346"])

    def test_spread_names_the_smallest_and_the_largest(self):
        summaries = report.summarize(measured(ours=[12.0, 10.0, 11.0], theirs=[5.0]))
        self.assertEqual(report.spread(summaries["work", "ours"]), "11.0 ms (10.0-12.0)")
        self.assertEqual(report.spread(summaries["work", "theirs"]), "5.00 ms")

    def test_a_noisy_ratio_is_marked(self):
        case = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.0))
        values = [Measurement("work", "ours", 0, 1.0, "ms", noise=0.2), Measurement("work", "theirs", 0, 2.0, "ms")]
        self.assertIn("2.00~", report.targets_table([row_of(case, values)]))

    def test_markdown_has_the_facts_the_rows_and_the_notes(self):
        case = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.5))
        values = [
            *measured(ours=[10.0], theirs=[20.0]),
            Measurement("work", "others", 0, None, note="no such file", version="peer 1.2"),
        ]
        text = report.markdown("Title", ["a fact"], "plot.svg", [case], values)
        for expected in ("# Title", "- a fact", "- peer 1.2", "1 of 1 targets", "no such file", "(plot.svg)",
                         "| work | ours | 10.0 ms | theirs | 20.0 ms | 2.00 | ≥ 1.5 | yes |"):
            self.assertIn(expected, text)

    def test_measurements_survive_their_file(self):
        values = [
            *measured(ours=[1.5, None]),
            Measurement("work", "theirs", 0, 2.0, "ms", 0.25, "peer 1", "a\ttab", '{"a": 1}'),
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "results.tsv")
            report.write_tsv(path, values)
            self.assertEqual(report.read_tsv(path), values)


class PlotTest(unittest.TestCase):
    def test_is_xml_with_a_bar_for_each_row_that_has_a_peer(self):
        compared = case_of(cases.LOWER, cases.Target("ours", ("theirs",), 1.5), cases.Target("ours", (), 20))
        rows = report.rows_of(compared, report.summarize(measured(ours=[10.0], theirs=[20.0])))
        tree = xml.etree.ElementTree.fromstring(report.plot("A <title>", rows))
        texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("A <title>", texts)
        self.assertEqual(texts.count("work: ours / theirs"), 1)

    def test_of_nothing_is_nothing(self):
        self.assertEqual(report.plot("title", []), "")


class CasesTest(unittest.TestCase):
    def test_targets_name_contenders_of_their_case(self):
        for case in cases.CASES:
            labels = [contender.label for contender in case.contenders]
            self.assertEqual(len(labels), len(set(labels)), case.name)
            for target in case.targets:
                self.assertLessEqual({target.ours, *target.against}, set(labels), case.name)

    def test_names_are_unique(self):
        names = [case.name for case in cases.CASES]
        self.assertEqual(len(names), len(set(names)))

    def test_ragged_lengths_are_zipfs(self):
        lengths = [int(length) for length in cases.RAGGED.split(",")]
        self.assertEqual(len(lengths), 64)
        self.assertTrue(4 <= lengths[0] and lengths[-1] <= 512 and lengths == sorted(lengths))
        in_octave = [sum(low <= length < 2 * low for length in lengths) for low in (4, 8, 16, 32, 64, 128, 256)]
        self.assertLessEqual(max(in_octave) - min(in_octave), 3)

    def test_a_pattern_selects_by_name(self):
        kinds = {case.name.split("/")[0] for case in cases.selected(["attention", "grpc"])}
        self.assertEqual(kinds, {"attention", "grpc"})
        self.assertEqual(list(cases.CASES), cases.selected([]))


if __name__ == "__main__":
    unittest.main()
