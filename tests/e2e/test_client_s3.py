"""Runs whose s3:// is a real S3 service: inputs from it, outputs to it, and what happens when it lacks something or goes away."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from seaweedfs_service import OWNER

pytestmark = [pytest.mark.needs("seaweedfs", "bwrap", "userns"), pytest.mark.slow]

BIG_BYTES = 48 << 20

DIGESTS = """version 1.0
task digest {
  input { File file }
  command <<< sha256sum < "~{file}" | cut -d' ' -f1; cp "~{file}" copy >>>
  output { String sha256 = read_string(stdout()) File copy = "copy" }
}
workflow main {
  input { File file }
  call digest { input: file = file }
  output { String sha256 = digest.sha256 File copy = digest.copy }
}
"""


class Way:
    """A port that leads to an S3 service, as long as it is open."""

    def __init__(self, url: str) -> None:
        self._target = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed_bytes = 0
        self.is_open = True
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """Cut every connection, and every one that comes."""
        self.is_open = False
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.shut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                client.close()
                continue
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as service, selectors.DefaultSelector() as selector:
            self._pairs.add((client, service))
            selector.register(client, selectors.EVENT_READ, service)
            selector.register(service, selectors.EVENT_READ, client)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
                        if key.fileobj is service:
                            self.passed_bytes += len(data)


@pytest.fixture
def way(seaweedfs: str) -> Iterator[Way]:
    way = Way(seaweedfs)
    yield way
    way.close()


@pytest.fixture
def s3(seaweedfs: str) -> Any:
    """botocore's client, which is not ours."""
    return boto3.client(
        "s3",
        endpoint_url=seaweedfs,
        region_name="us-east-1",
        aws_access_key_id=OWNER[0],
        aws_secret_access_key=OWNER[1],
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"b-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_site(serve: Callable[..., Any], way: Way) -> Any:
    return serve(s3_endpoint=way.url, s3_access_key_id=OWNER[0], s3_secret_access_key=OWNER[1])


def content_of(s3: Any, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def check_copy(s3: Any, run: dict[str, Any], data: bytes) -> None:
    """The run is COMPLETED and its outputs are in the bucket: the copy, the document, the engine's log."""
    assert run["status"] == "COMPLETED", run.get("statusMessage")
    outputs = json.loads(content_of(s3, f"{run['runOutputUri']}/logs/outputs.json"))
    assert outputs["main.copy"].startswith(run["runOutputUri"] + "/out/")
    assert content_of(s3, outputs["main.copy"]) == data
    assert b"workflow start" in content_of(s3, f"{run['runOutputUri']}/logs/engine.log")


@pytest.mark.source("guide")
def test_a_run_takes_inputs_from_s3_and_delivers_to_it(s3_site: Any, s3: Any, bucket: str) -> None:
    data = os.urandom(17 << 20)
    s3.put_object(Bucket=bucket, Key="in/a b+ü.bin", Body=data)
    run = s3_site.run(DIGESTS, parameters={"file": f"s3://{bucket}/in/a b+ü.bin"}, outputUri=f"s3://{bucket}/results")
    check_copy(s3, run, data)
    assert not list((s3_site.data / "objects").glob(f"{bucket}*"))


@pytest.mark.source("guide")
def test_what_the_service_does_not_have_is_told_by_its_name(s3_site: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/file", Body=b"x")
    workflow_id = s3_site.register(DIGESTS)
    for parameter, output_uri, reason, names in (
        (f"s3://{bucket}/in/none", f"s3://{bucket}/results", "INPUT_URI_NOT_FOUND", f"s3://{bucket}/in/none"),
        ("s3://no-such-bucket-here/file", f"s3://{bucket}/results", "INPUT_URI_NOT_FOUND", "no-such-bucket-here"),
        (f"s3://{bucket}/in/file", "s3://no-such-bucket-here/results", "EXPORT_FAILED", "no-such-bucket-here"),
    ):
        run = s3_site.end_of(s3_site.start(workflow_id, parameters={"file": parameter}, outputUri=output_uri))
        assert (run["status"], run["failureReason"]) == ("FAILED", reason)
        assert names in run["statusMessage"]


@pytest.mark.source("assumed")
def test_a_service_that_goes_away_during_an_import_and_comes_back_is_waited_for(
    s3_site: Any, s3: Any, bucket: str, way: Way
) -> None:
    data = os.urandom(BIG_BYTES)
    s3.put_object(Bucket=bucket, Key="in/big", Body=data)
    workflow_id = s3_site.register(DIGESTS)
    way.passed_bytes = 0
    run_id = s3_site.start(
        workflow_id, parameters={"file": f"s3://{bucket}/in/big"}, outputUri=f"s3://{bucket}/results"
    )
    pause = threading.Event()
    while way.passed_bytes < 4 << 20:
        pause.wait(0.001)
    way.shut()
    assert way.passed_bytes < BIG_BYTES
    pause.wait(3)
    assert s3_site.client.get_run(id=run_id)["status"] == "RUNNING"
    way.open()
    check_copy(s3, s3_site.end_of(run_id, 90), data)


@pytest.mark.source("assumed")
def test_a_service_that_is_away_when_a_run_ends_is_waited_for(s3_site: Any, s3: Any, bucket: str, way: Way) -> None:
    s3.put_object(Bucket=bucket, Key="in/file", Body=b"small")
    slow = DIGESTS.replace('" copy >>>', '" copy; sleep 2 >>>')
    client = s3_site.client
    run_id = s3_site.start(
        s3_site.register(slow), parameters={"file": f"s3://{bucket}/in/file"}, outputUri=f"s3://{bucket}/results"
    )
    pause = threading.Event()
    while not client.list_run_tasks(id=run_id, status="RUNNING")["items"]:
        pause.wait(0.02)
    way.shut()
    pause.wait(4)
    assert client.get_run(id=run_id)["status"] == "RUNNING"
    way.open()
    check_copy(s3, s3_site.end_of(run_id, 90), b"small")
