#!/usr/bin/env python3
"""Opens the pages of attention in headless Chromium, and uses them.

usage: page_test.py SAMPLES_PROGRAM [--screenshots FOLDER]
"""

import argparse
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

from browser import Page

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]


def affinity(layer, head, query, key):
    """As make_samples.cc has it, for as many keys as queries."""
    return math.exp(-abs(query - key - head % 3) / (1 + layer % 4)) + (0.2 * (head % 4) if key == 0 else 0)


def weight(layer, head, query, key):
    return affinity(layer, head, query, key) / sum(affinity(layer, head, query, other) for other in range(64))


def percent(value):
    return f"{100 * value:.{2 if value < 0.0995 else 1}f} %"


def paint(path, width=320, height=240):
    """Writes a PNG file: a low sun over hills."""
    rows = []
    for y in range(height):
        row = [0]  # no filter
        for x in range(width):
            sun = max(0, 1 - math.hypot(x - 215, y - 95) / 120)
            hill = 150 + 25 * math.sin(x / 40) + 12 * math.sin(x / 13)
            if y > hill:
                color = (40 + 60 * (height - y) / height, 70 + 50 * math.sin(x / 9 + y / 5) ** 2, 45)
            else:
                color = (90 + 165 * sun + 0.3 * y, 130 + 110 * sun, 200 - 60 * sun - 0.3 * y)
            row += [int(min(255, max(0, value))) for value in color]
        rows.append(bytes(row))
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b"".join(rows)),
              b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


# The colours of a canvas that are far apart.
NUM_COLORS = """(id => {
  const canvas = document.getElementById(id), context = canvas.getContext("2d");
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data, colors = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3]) colors.add((data[i] >> 4) << 8 | (data[i + 1] >> 4) << 4 | data[i + 2] >> 4);
  }
  return colors.size;
})"""


class PageTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        paint(self.folder / "photograph.png")
        subprocess.run([ARGUMENTS.samples, self.folder, self.folder / "photograph.png"], check=True)
        self.page = Page(BROWSER, self.folder / "profile")
        self.addCleanup(self.page.close)

    def tearDown(self):
        self.assertEqual(self.page.problems, [])
        self.assertEqual(self.page.requests, [])
        self.assertIsNone(self.page.evaluate("window.hacked ?? null"))

    def open(self, name):
        self.page.open(self.folder / name)

    def look(self, name):
        if ARGUMENTS.screenshots:
            self.page.screenshot(ARGUMENTS.screenshots / name)

    def drawn(self, canvas="map"):
        return self.page.evaluate(f"document.getElementById('{canvas}').toDataURL()")

    def text(self, name):
        return self.page.evaluate(f"document.getElementById('{name}').textContent")

    def choose(self, select, value):
        self.page.evaluate(f"""(() => {{ const select = document.getElementById('{select}');
          select.value = '{value}'; select.dispatchEvent(new Event('change')); }})()""")

    def cell(self, query, key):
        """Where on the screen a cell of the map is."""
        return self.page.evaluate(f"""(() => {{ const box = document.getElementById('map').getBoundingClientRect();
          return [box.left + grid.left + ({key} + .5) * grid.cell,
                  box.top + grid.top + ({query} + .5) * grid.cell]; }})()""")

    def test_draws_every_layer_and_head(self):
        self.open("maps.html")
        self.look("maps.png")
        self.assertGreater(self.page.evaluate(NUM_COLORS + "('map')"), 20)
        self.assertGreater(self.page.evaluate(NUM_COLORS + "('overview')"), 20)
        self.assertEqual(self.text("title"), "sample <b>model</b>")
        self.assertEqual(self.text("mapname"), "layer 0 · head 0")
        self.assertEqual(self.page.evaluate("document.getElementById('layer').length"), 12)
        # All heads, and their mean.
        self.assertEqual(self.page.evaluate("document.getElementById('head').length"), 13)
        self.assertEqual(self.page.evaluate("document.querySelectorAll('script').length"), 2)
        self.assertEqual(self.page.evaluate("document.querySelectorAll('img').length"), 0)
        self.assertIn("</script><script>window.hacked=1</script>", self.text("reading"))

    def test_pickers_change_the_map(self):
        self.open("maps.html")
        seen = {self.drawn()}
        for layer, head, name in [(3, 0, "layer 3 · head 0"), (3, 7, "layer 3 · head 7"),
                                  (3, 12, "layer 3 · mean of the heads"), (11, 11, "layer 11 · head 11")]:
            self.choose("layer", layer)
            self.choose("head", head)
            self.assertEqual(self.text("mapname"), name)
            seen.add(self.drawn())
        self.assertEqual(len(seen), 5)
        self.choose("scale", "1")
        self.assertNotIn(self.drawn(), seen)
        self.choose("scale", "0.5")
        self.assertIn(self.drawn(), seen)
        for top in ("map", "one"):
            before = self.text("most")
            self.choose("top", top)
            self.assertNotEqual(self.text("most"), before)
        self.assertEqual(self.text("most"), "100.0 %")

    def test_shows_the_value_under_the_pointer(self):
        self.open("maps.html")
        for layer, head, query, key in [(0, 0, 5, 5), (0, 1, 5, 4), (2, 3, 20, 0)]:
            self.choose("layer", layer)
            self.choose("head", head)
            self.page.move(*self.cell(query, key))
            self.assertFalse(self.page.evaluate("document.getElementById('tip').hidden"))
            value = self.text("tip").split("\n")[-1]
            self.assertEqual(value, percent(weight(layer, head, query, key)))
        # Row 20, "`${window.hacked=1}`", is now the query that is read.
        self.assertEqual(self.text("queryname"), "`${window.hacked=1}`")
        self.page.move(2, 2)
        self.assertTrue(self.page.evaluate("document.getElementById('tip').hidden"))

    def test_keeps_a_query(self):
        self.open("maps.html")
        self.page.click(*self.cell(6, 6))
        self.assertEqual(self.text("queryname"), "好")
        self.page.move(*self.cell(9, 9))
        self.assertEqual(self.text("queryname"), "好")
        self.assertTrue(self.text("strongest").startswith("好" + percent(weight(0, 0, 6, 6))))

    def test_thumbnails_and_arrow_keys_choose(self):
        self.open("maps.html")
        x, y = self.page.evaluate("""(() => { const box = document.getElementById('overview').getBoundingClientRect();
          const step = thumb.size + thumb.gap;
          return [box.left + thumb.left + 4.5 * step, box.top + thumb.top + 2.5 * step]; })()""")
        self.page.click(x, y)
        self.assertEqual(self.text("mapname"), "layer 2 · head 4")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
            self.page.press(key)
        self.assertEqual(self.text("mapname"), "layer 3 · head 6")
        self.assertEqual(self.page.evaluate("document.getElementById('head').value"), "6")

    def test_has_a_light_and_a_dark_theme(self):
        self.open("maps.html")
        background = "getComputedStyle(document.body).backgroundColor"
        light, map_on_light = self.page.evaluate(background), self.drawn()
        self.page.evaluate("document.getElementById('theme').click()")
        self.look("dark.png")
        self.assertNotEqual(self.page.evaluate(background), light)
        self.assertNotEqual(self.drawn(), map_on_light)
        self.page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        self.page.evaluate("delete document.documentElement.dataset.theme")
        self.assertNotEqual(self.page.evaluate(background), light)

    def test_draws_one_map(self):
        self.open("one.html")
        self.look("one.png")
        self.assertTrue(self.page.evaluate("document.getElementById('choose').hidden"))
        self.assertEqual(self.page.evaluate("document.querySelectorAll('#queries button').length"), 9)
        self.page.evaluate("document.querySelectorAll('#queries button')[2].click()")
        self.assertEqual(self.text("queryname"), "▁saß")

    def test_draws_over_an_image(self):
        self.open("image.html")
        self.page.evaluate("photo.decode()")
        self.look("image.png")
        self.assertTrue(self.page.evaluate("document.getElementById('text').hidden"))
        self.assertGreater(self.page.evaluate(NUM_COLORS + "('picture')"), 30)
        before = self.drawn("picture")
        x, y = self.page.evaluate("""(() => { const box = document.getElementById('picture').getBoundingClientRect();
          return [box.left + (3 + .5) * box.width / 8, box.top + (4 + .5) * box.height / 6]; })()""")
        self.page.move(x, y)
        self.assertEqual(self.text("imagename"), "What patch 4,3 attends to")
        self.assertNotEqual(self.drawn("picture"), before)
        self.page.evaluate("document.getElementById('cls').click()")
        self.choose("layer", 1)
        self.assertEqual(self.text("imagename"), "What [CLS] attends to")
        self.assertNotEqual(self.drawn("picture"), before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("samples")
    parser.add_argument("--screenshots", type=pathlib.Path)
    ARGUMENTS, rest = parser.parse_known_args()
    BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
    if BROWSER is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    if ARGUMENTS.screenshots:
        ARGUMENTS.screenshots.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *rest])
