#!/usr/bin/env python3
"""Starts the server from the root file system of its container image, as an unprivileged user, and calls it.

usage: image_test.py --build BUILD_DIRECTORY    the root that deploy/toolchain/assemble-root makes of a build
       image_test.py --image ARCHIVE            an image, as `docker save` writes it

The root is read-only, the user has no name and no rights on it, and nothing of the machine is visible but the network
and one tiny model. Exits with 77 where user namespaces, which that takes, are not to be had.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
MODEL = REPOSITORY / "tests/goldens/bert/plain"
SKIPPED = 77
MAX_IMAGE_BYTES = 100_000_000
START_SECONDS = 60


def unpack(archive: pathlib.Path, root: pathlib.Path) -> dict:
    """Unpacks the layers of an image, without devices and whiteouts, and returns its configuration."""
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                for member in inner:
                    assert not os.path.basename(member.name).startswith(".wh."), "the final stage deletes nothing"
                    inner.extract(member, root, filter="tar")
        return json.load(outer.extractfile(manifest["Config"]))["config"]


def dockerfile_config() -> dict:
    """What the Dockerfile says of a container made from its last stage."""
    last_stage = (REPOSITORY / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    instruction = lambda name: re.search(rf"^{name} (.*)", last_stage, re.MULTILINE).group(1)
    return {"User": instruction("USER"), "Entrypoint": json.loads(instruction("ENTRYPOINT")),
            "Healthcheck": {"Test": ["CMD", *json.loads(instruction("HEALTHCHECK").split("CMD ")[1])]}}


def check_contents(root: pathlib.Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    num_bytes = sum(path.stat().st_size for path in files)
    largest = sorted(files, key=lambda path: -path.stat().st_size)[:5]
    print(f"{len(files)} files, {num_bytes / 1e6:.1f} MB; the largest: "
          + ", ".join(f"{path.relative_to(root)} {path.stat().st_size / 1e6:.1f}" for path in largest))
    assert num_bytes < MAX_IMAGE_BYTES, f"{num_bytes} bytes; the image is to stay below {MAX_IMAGE_BYTES}"
    for path in files:
        assert path.stat().st_mode & 0o6000 == 0, f"{path} is set-user-id"
    for name in ("sh", "bash", "apt", "dpkg", "perl", "python3"):
        assert not (root / "usr/bin" / name).exists(), f"{name} does not belong in the image"


class Container:
    """Runs commands in the root: read-only, as the image's user, without capabilities, /tmp shared between them."""

    def __init__(self, root: pathlib.Path, config: dict, tmp: pathlib.Path):
        uid, gid = config["User"].split(":")
        assert int(uid) >= 10000, "the image's user must not be one of the machine's"
        self.bwrap = ["bwrap", "--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--bind", tmp, "/tmp",
                      "--ro-bind", MODEL, "/models", "--unshare-user", "--uid", uid, "--gid", gid, "--unshare-pid",
                      "--unshare-ipc", "--cap-drop", "ALL", "--die-with-parent", "--clearenv", "--setenv", "HOME", "/tmp",
                      "--chdir", "/"]

    def works(self) -> bool:
        probe = [*self.bwrap, "/usr/bin/attendant-server", "--version"]
        result = subprocess.run(probe, capture_output=True, text=True)
        if "namespace" in result.stderr or "Operation not permitted" in result.stderr:
            print(f"skipped, no user namespaces here: {result.stderr.strip()}")
            return False
        assert result.returncode == 0, result.stderr
        print(result.stdout.strip())
        return True

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen([*self.bwrap, "--info-fd", "1", *command], stdout=subprocess.PIPE, text=True)

    def call(self, *command: str) -> str:
        result = subprocess.run([*self.bwrap, *command], capture_output=True, text=True, timeout=30)
        assert result.returncode == 0, f"{command} ended with {result.returncode}: {result.stderr}"
        return result.stdout


@contextlib.contextmanager
def running_server(container: Container, config: dict, tmp: pathlib.Path):
    """The server on free ports; yields its gRPC address, and checks that SIGTERM ends it well."""
    server = container.start(
        *config["Entrypoint"], "--model=tiny=/models", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
        "--port_file=/tmp/ports", "--request_log=off", "--drain_settle=0s")
    # bwrap's first words are about the namespace, in which the server is process 2.
    information = ""
    while not information.rstrip().endswith("}"):
        information += server.stdout.readline()
    pid = json.loads(information)["child-pid"]
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (tmp / "ports").exists():
            assert server.poll() is None, f"the server ended with {server.returncode}"
            assert time.monotonic() < deadline, f"not ready after {START_SECONDS} s"
            time.sleep(0.05)
        ports = dict(line.split("=") for line in (tmp / "ports").read_text().split())
        yield f"127.0.0.1:{ports['grpc']}"
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert server.wait(30) == 0, f"the server ended with {server.returncode} after SIGTERM"
    finally:
        server.kill()
        server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--build", type=pathlib.Path)
    source.add_argument("--image", type=pathlib.Path)
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attendant-image-")))
        root, tmp = folder / "root", folder / "tmp"
        root.mkdir()
        tmp.mkdir(mode=0o777)
        if options.image:
            config = unpack(options.image, root)
        else:
            config = dockerfile_config()
            subprocess.run([REPOSITORY / "deploy/toolchain/assemble-root", options.build, root], check=True)
        check_contents(root)

        container = Container(root, config, tmp)
        if not container.works():
            return SKIPPED
        with running_server(container, config, tmp) as address:
            health = config["Healthcheck"]["Test"]
            assert health[0] == "CMD"
            print("health:", container.call(*health[1:], f"--address={address}").strip())

            tokens = json.loads(container.call("/usr/bin/attendant", "tokenize", "--json", f"--address={address}", "hello"))
            print("tokenize:", json.dumps(tokens)[:200])
            hidden_size = json.loads((MODEL / "config.json").read_text())["hidden_size"]
            answer = json.loads(container.call("/usr/bin/attendant", "encode", "--json", f"--address={address}", "hello"))
            print("encode:", json.dumps(answer)[:200])
            [vector] = answer["embeddings"]
            assert len(vector) == hidden_size, f"{len(vector)} numbers, not {hidden_size}"
            assert any(value != 0 for value in vector)
        print("SIGTERM: ended with 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
