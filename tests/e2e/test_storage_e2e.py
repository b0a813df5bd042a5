"""Run storage through the API: STATIC is a hard limit, DYNAMIC is measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

WRITER = """version 1.0
task write {
  input { Int mebibytes Boolean keep }
  command <<<
    set -e
    dd if=/dev/zero of=file bs=1M count=~{mebibytes} status=none
    stat -c %b file > blocks
    ~{if keep then "true" else "rm file"}
  >>>
  output { Int blocks = read_int("blocks") }
}
workflow main {
  input { Int mebibytes Boolean keep = false }
  call write { input: mebibytes = mebibytes, keep = keep }
  output { Int blocks = write.blocks }
}
"""


def peak_bytes(site: Any, run_id: str) -> int:
    file = next((site.data / "logs").glob(f"*/manifest/run/{run_id}/*.log"))
    record = json.loads(file.read_text().splitlines()[0].split("\t", 1)[1])
    peak: int = record["metrics"]["storageMaximumBytes"]
    return peak


@pytest.mark.needs("root", "loop", "xfs", "bwrap")
@pytest.mark.source("guide")
def test_a_full_static_run_fails_alone_while_a_dynamic_one_completes(site: Any) -> None:
    workflow_id = site.register(WRITER)
    parameters = {"mebibytes": 2048}
    static = site.start(workflow_id, parameters=parameters, storageType="STATIC", storageCapacity=1)
    dynamic = site.start(workflow_id, parameters=parameters, storageType="DYNAMIC")
    failed, completed = site.end_of(static, 120), site.end_of(dynamic, 120)
    assert (failed["status"], failed["failureReason"]) == ("FAILED", "FILE_SYSTEM_OUT_OF_SPACE")
    assert failed["storageCapacity"] == 1
    assert "storageCapacity" in failed["statusMessage"]
    assert completed["status"] == "COMPLETED", completed
    written = site.outputs(completed)["main.blocks"] * 512
    assert abs(peak_bytes(site, dynamic) - written) / written < 0.01
    assert completed["storageCapacity"] == -(-peak_bytes(site, dynamic) // (1 << 30))


@pytest.mark.needs("root", "loop", "xfs", "bwrap")
@pytest.mark.source("model")
def test_the_default_static_size_of_1200_gib_works_on_a_small_machine(site: Any) -> None:
    run = site.run(WRITER, parameters={"mebibytes": 1}, storageType="STATIC")
    assert (run["status"], run["storageCapacity"]) == ("COMPLETED", 1200)


@pytest.mark.needs("bwrap")
@pytest.mark.source("assumed")
def test_a_directory_volume_is_measured_and_ends_a_run_over_its_limit(serve: Any) -> None:
    site = serve(storage_backend="directory")
    workflow_id = site.register(WRITER)
    over = site.start(
        workflow_id, parameters={"mebibytes": 1500, "keep": True}, storageType="STATIC", storageCapacity=1
    )
    under = site.start(workflow_id, parameters={"mebibytes": 100, "keep": True}, storageType="DYNAMIC")
    failed, completed = site.end_of(over, 120), site.end_of(under, 120)
    assert (failed["status"], failed["failureReason"]) == ("FAILED", "FILE_SYSTEM_OUT_OF_SPACE")
    assert completed["status"] == "COMPLETED"
    assert abs(peak_bytes(site, under) - (100 << 20)) < (2 << 20)
