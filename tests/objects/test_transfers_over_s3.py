"""A whole run's data over a real S3 service: staged from it, delivered to it, resumed."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runomics.domain.inputs import parse_input
from runomics.objects.s3 import S3Objects
from runomics.objects.s3_clients import S3Limits
from runomics.sandbox.volume_path import resolve_in_volume
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer import ExportJob, Transfers

pytestmark = pytest.mark.needs("seaweedfs")
BIG = 17 * 1024**2


def made(url: str, keys: tuple[str, str] = ("owner-key", "owner-secret")) -> S3Objects:
    limits = S3Limits(part_bytes=5 * 1024**2, max_retries=1, retry_timeout_seconds=2)
    return S3Objects(endpoint=url, access_key_id=keys[0], secret_access_key=keys[1], limits=limits)


def wait(start: Callable[[Callable[[Any], None]], None]) -> Any:
    results: list[Any] = []
    there = threading.Event()
    start(lambda result: (results.append(result), there.set())[0])
    assert there.wait(60)
    return results[0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for folder in ("volume", "inputs"):
        (tmp_path / "run" / folder).mkdir(parents=True)
    return tmp_path / "run"


def test_inputs_come_from_and_outputs_go_to_s3(seaweedfs: str, run: Path, tmp_path: Path) -> None:
    objects = made(seaweedfs)
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    objects.make_bucket(bucket)
    contents = {"ref/genome.fa": os.urandom(BIG), "ref/index/genome.fai": b"chr1\n", "reads/a.fq": b"ACGT\n"}
    for key, data in contents.items():
        objects.upload_bytes(data, f"s3://{bucket}/{key}")
    transfers = Transfers(objects=objects, cache=InputCache(tmp_path / "cache", objects), open_export=resolve_in_volume)
    uris = [parse_input(f"s3://{bucket}/ref/"), parse_input(f"s3://{bucket}/reads/a.fq")]
    imported = wait(lambda done: transfers.import_inputs(run, uris, done))
    assert imported.failure is None
    for key, data in contents.items():
        assert (run / "inputs/s3" / bucket / key).read_bytes() == data
    (run / "volume/result").write_bytes(contents["ref/genome.fa"])
    (run / "volume/link").symlink_to(f"/mnt/workflow/inputs/s3/{bucket}/reads/a.fq")
    exports = [
        {"source": f"/mnt/workflow/{name}", "target": f"out/{name}", "directory": False} for name in ("result", "link")
    ]
    job = ExportJob(run, f"s3://{bucket}/results/1", exports, {"x": {"__export__": "out/result"}})
    exported = wait(lambda done: transfers.export(job, done))
    assert exported.failure is None
    stored = {info.uri.partition("/results/1/")[2]: info for info in objects.list(f"s3://{bucket}/results/1/")}
    assert sorted(stored) == ["logs/outputs.json", "out/link", "out/result"]
    assert objects.read_bytes(stored["out/result"].uri, BIG) == contents["ref/genome.fa"]
    assert objects.read_bytes(stored["out/link"].uri, BIG) == b"ACGT\n"

    record = (run / "exported.jsonl").read_bytes()
    again = wait(lambda done: transfers.export(job, done))
    assert again == exported
    assert (run / "exported.jsonl").read_bytes() == record, "nothing was stored a second time"
    transfers.close()


@pytest.mark.source("guide")
def test_what_the_service_refuses_has_the_names_of_the_api(seaweedfs: str, run: Path, tmp_path: Path) -> None:
    owner, reader = made(seaweedfs), made(seaweedfs, ("reader-key", "reader-secret"))
    owner.make_bucket("readable")
    owner.make_bucket("private")
    owner.upload_bytes(b"x", "s3://private/k")
    (run / "volume/a").write_bytes(b"x")
    transfers = Transfers(objects=reader, cache=InputCache(tmp_path / "cache", reader), open_export=resolve_in_volume)
    refused = wait(lambda done: transfers.import_inputs(run, [parse_input("s3://private/k")], done))
    missing = wait(lambda done: transfers.import_inputs(run, [parse_input("s3://readable/none")], done))
    exports = [{"source": "/mnt/workflow/a", "target": "out/a", "directory": False}]
    unwritable = wait(lambda done: transfers.export(ExportJob(run, "s3://readable/x", exports), done))
    transfers.close()
    reasons = [result.failure[0] for result in (refused, missing, unwritable)]
    assert reasons == ["IMPORT_FAILED", "INPUT_URI_NOT_FOUND", "EXPORT_FAILED"]


def test_a_service_that_stays_away_is_a_service_error(run: Path, tmp_path: Path) -> None:
    objects = made("http://127.0.0.1:9")
    cache = InputCache(tmp_path / "cache", objects)
    transfers = Transfers(objects=objects, cache=cache, open_export=resolve_in_volume, patience_seconds=0.5)
    (run / "volume/a").write_bytes(b"x")
    imported = wait(lambda done: transfers.import_inputs(run, [parse_input("s3://bucket/k")], done))
    exports = [{"source": "/mnt/workflow/a", "target": "out/a", "directory": False}]
    exported = wait(lambda done: transfers.export(ExportJob(run, "s3://bucket/x", exports), done))
    transfers.close()
    assert [imported.failure[0], exported.failure[0]] == ["SERVICE_ERROR", "SERVICE_ERROR"]
