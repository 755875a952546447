#!/usr/bin/env python3
"""Tests what accuracy.py makes of a text, and how it writes results down."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import accuracy  # noqa: E402

DOCUMENT = """A guide

Chapter\u00a01. First things
Chapter\u00a02. Other things

Chapter\u00a01. First things

1.1. What is this?

    This paragraph is long enough to be prose, and so it stays, although it
    is broken into lines. It has a second sentence of a usual length.

      * a list is no prose, however long it is, since it does not begin as a sentence does.

    Too short.

    This one is long enough as well, but it ends as no sentence does: it leads to a command

Chapter\u00a02. Other things

    It has a second sentence of a usual length. What was said before is not said again here, or so it is hoped.
"""


class TextTest(unittest.TestCase):
    def test_paragraphs_are_the_prose_behind_the_contents(self):
        paragraphs = accuracy.paragraphs_of(DOCUMENT)
        self.assertEqual([paragraph[:15] for paragraph in paragraphs], ["This paragraph ", "It has a second"])
        self.assertNotIn("\n", paragraphs[0])

    def test_sentences_come_once_and_in_order(self):
        sentences = accuracy.sentences_of(accuracy.paragraphs_of(DOCUMENT))
        self.assertEqual([sentence[:15] for sentence in sentences],
                         ["This paragraph ", "It has a second", "What was said b"])


class TableTest(unittest.TestCase):
    def test_the_first_type_is_what_the_others_are_beside(self):
        results = [
            {"type": "f32", "weight_bytes": 2e6, "perplexity": 20.0, "ratio": 1.0, "ratio_error": 0.0},
            {"type": "stored", "weight_bytes": 1e6, "perplexity": 21.0, "ratio": 1.05, "ratio_error": 0.001},
        ]
        table = accuracy.perplexity_table(results)
        self.assertIn("| beside f32 |", table)
        self.assertIn("| as stored | 1 MB | 21.000 | +5.00% (± 0.10%) |", table)

    def test_every_task_has_a_row_and_every_type_a_column(self):
        right = {(test, dtype): 7 for test in accuracy.BUNDLED for dtype in accuracy.TYPES}
        lines = accuracy.bundled_table(right).splitlines()
        self.assertEqual(len(lines), 2 + len(accuracy.BUNDLED))
        self.assertEqual(lines[2].count("7 of 2000"), len(accuracy.TYPES))


if __name__ == "__main__":
    unittest.main()
