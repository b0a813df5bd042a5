"""Killing the server in the middle of a transfer: nothing partial is ever visible, and what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from transfer_place import Place

from runomics.domain.inputs import parse_input
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import ExportJob

FILES = 40
FILE_BYTES = 300_000

SERVER = """
import json, os, sys, threading
from pathlib import Path
from runomics.domain.inputs import parse_input
from runomics.objects.directory import DirectoryObjects
from runomics.sandbox.volume_path import resolve_in_volume
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import ExportJob, Transfers

root, what, given = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

class Told(DirectoryObjects):
    "Says what it does."
    def download(self, info, descriptor, on_bytes=None):
        print("download", info.uri, flush=True)
        return super().download(info, descriptor, on_bytes)
    def upload(self, descriptor, uri, on_bytes=None):
        print("upload", uri, flush=True)
        return super().upload(descriptor, uri, on_bytes)

objects = Told(root / "objects")
transfers = Transfers(objects=objects, cache=InputCache(root / "cache", objects), open_export=resolve_in_volume, threads=2)
over = threading.Event()
def done(result):
    print("failed" if result.failure else "done", result.failure, flush=True)
    over.set()
if what == "import":
    transfers.import_inputs(root / "runs/one", [parse_input(uri) for uri in given], done)
else:
    transfers.export(ExportJob(root / "runs/one", given["base"], given["exports"], {}), done)
over.wait()
"""


def run_server(root: Path, what: str, given: Any, kill_after: int | None) -> list[str]:
    """What a server says, until its end or until it is killed after so many lines."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, root, what, json.dumps(given)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    said: list[str] = []
    for line in server.stdout:
        said.append(line.strip())
        if kill_after is not None and len(said) >= kill_after:
            threading.Event().wait(random.random() * 0.003)
            server.send_signal(signal.SIGKILL)
            break
    server.communicate()
    return said


def content(number: int) -> bytes:
    return random.Random(number).randbytes(FILE_BYTES)


@pytest.mark.slow
def test_an_import_killed_again_and_again_ends_right_and_fetches_little_twice(place: Place) -> None:
    uris = [place.put(f"k/{number}", content(number)) for number in range(FILES)]
    downloads: list[str] = []
    for kill_after in (3, 9, 17, 25, 2):
        said = run_server(place.root, "import", uris, kill_after)
        downloads += [line for line in said if line.startswith("download")]
        check_that_nothing_is_partial(place)
    said = run_server(place.root, "import", uris, None)
    downloads += [line for line in said if line.startswith("download")]
    assert said[-1] == "done None"
    assert len(downloads) <= FILES + 5 * 3, "what a killed server had finished was fetched again"
    for number in range(FILES):
        assert (place.run / f"inputs/s3/data/k/{number}").read_bytes() == content(number)
    InputCache(place.root / "cache", place.objects)
    assert list((place.root / "cache/partial").iterdir()) == []


def check_that_nothing_is_partial(place: Place) -> None:
    for path in (place.root / "cache").glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for path in (place.run / "inputs").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            assert path.read_bytes() == content(int(path.name))
    for info in place.objects.list("s3://out/x/out/"):
        assert place.objects.read_bytes(info.uri, 1 << 30) == content(int(info.uri.rpartition("/")[2]))


@pytest.mark.slow
def test_an_export_killed_again_and_again_ends_right_and_stores_little_twice(place: Place) -> None:
    exports = []
    for number in range(FILES):
        (place.run / f"volume/{number}").write_bytes(content(number))
        exports.append({"source": f"/mnt/workflow/{number}", "target": f"out/{number}", "directory": False})
    given = {"base": "s3://out/x", "exports": exports}
    uploads: list[str] = []
    for kill_after in (3, 9, 17, 25, 2):
        said = run_server(place.root, "export", given, kill_after)
        uploads += [line for line in said if line.startswith("upload")]
        check_that_nothing_is_partial(place)
    said = run_server(place.root, "export", given, None)
    uploads += [line for line in said if line.startswith("upload")]
    assert said[-1] == "done None"
    assert len(uploads) <= FILES + 5 * 3, "what a killed server had stored was stored again"
    assert os.listdir(place.root / "objects/out/.runomics") == []
    again = place.wait(lambda done: place.transfers.export(ExportJob(place.run, "s3://out/x", exports), done))
    assert again.failure is None
    for number in range(FILES):
        assert place.objects.read_bytes(f"s3://out/x/out/{number}", 1 << 30) == content(number)


def test_a_large_input_killed_half_way_is_not_there_and_comes_whole_the_next_time(place: Place) -> None:
    data = os.urandom(32 * 1024**2)
    uri = place.put("big", data)
    run_server(place.root, "import", [uri], 1)
    assert [path for path in (place.run / "inputs").rglob("*") if path.is_file()] == []
    imported = place.wait(lambda done: place.transfers.import_inputs(place.run, [parse_input(uri)], done))
    assert place.staged_file(imported.staged[uri]).read_bytes() == data
