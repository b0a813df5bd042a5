"""A disk that fills up under the server: requests fail plainly, runs wait or end clearly, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import wait_until
from workflows import ONE_TASK

pytestmark = [pytest.mark.needs("root", "loop", "bwrap"), pytest.mark.slow]

MIB = 1 << 20

WAITS = """version 1.0
task wait {
  command <<< while [ ! -e go ]; do sleep 0.05; done; echo waited >>>
  output { String said = read_string(stdout()) }
}
workflow main { call wait output { String said = wait.said } }
"""

GROWS = """version 1.0
task grow {
  input { Int mebibytes_a_second }
  command <<<
    for number in $(seq 1000); do
      dd if=/dev/zero of=part.$number bs=1M count=~{mebibytes_a_second} conv=fsync status=none
      sleep 1
    done
  >>>
}
workflow main { input { Int mebibytes_a_second } call grow { input: mebibytes_a_second = mebibytes_a_second } }
"""


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """All that is left of the disk is taken meanwhile."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            block = b"\1" * size
            try:
                while True:
                    file.write(block)
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


def start_until_refused(site: Any, workflow_id: str) -> tuple[list[str], list[ClientError]]:
    """Start runs until the disk refuses three: ids of those that were answered, and the refusals."""
    acknowledged: list[str] = []
    refused: list[ClientError] = []
    for number in range(2000):
        try:
            acknowledged.append(site.start(workflow_id, requestId=f"full-{number}"))
        except ClientError as error:
            refused.append(error)
            if len(refused) == 3:
                break
    return acknowledged, refused


def running_task(site: Any, run_id: str) -> Path:
    """The working directory of a run's one task, once that runs; on the host."""
    client = site.client
    assert wait_until(lambda: client.list_run_tasks(id=run_id, status="RUNNING")["items"], 30, every_seconds=0.02)
    uuid = client.get_run(id=run_id)["uuid"]
    return next((site.data / "runs" / uuid / "volume").glob("**/work"))


def run_log(site: Any, run_id: str) -> str:
    return "\n".join(site.log(run_id, "run"))


@pytest.mark.parametrize("backend", ["directory", pytest.param("xfs-image", marks=pytest.mark.needs("xfs"))])
@pytest.mark.source("assumed")
def test_a_server_out_of_disk_says_so_and_goes_on_when_there_is_room_again(
    backend: str, small_disk: Callable[[int], Path], serve: Callable[..., Any]
) -> None:
    disk = small_disk(900)
    site = serve(disk / "data", storage_backend=backend, storage_reserve_gib=0)
    client, process = site.client, site.server.process
    workflow_id = site.register(ONE_TASK)
    in_flight = site.start(site.register(WAITS))
    work = running_task(site, in_flight)
    with full(disk):
        acknowledged, refused = start_until_refused(site, workflow_id)
        assert [error.response["ResponseMetadata"]["HTTPStatusCode"] for error in refused] == [500] * 3
        assert {error.response["Error"]["Code"] for error in refused} == {"InternalServerException"}
        listed = client.get_paginator("list_runs").paginate().build_full_result()["items"]
        assert sorted(run["id"] for run in listed) == sorted([in_flight, *acknowledged])
        assert client.get_run(id=in_flight)["status"] == "RUNNING"
    (work / "go").touch()

    ended = site.end_of(in_flight, 60)
    assert (ended["status"], site.outputs(ended)) == ("COMPLETED", {"main.said": "waited"})
    fresh = site.start(workflow_id)
    everyone = [in_flight, *acknowledged, fresh]
    for run_id in everyone:
        assert site.end_of(run_id, 120)["status"] == "COMPLETED"
    listed = client.get_paginator("list_runs").paginate().build_full_result()["items"]
    assert sorted(run["id"] for run in listed) == sorted(everyone)
    assert process.poll() is None
    for task in client.list_run_tasks(id=in_flight)["items"]:
        assert task["status"] == "COMPLETED"


@pytest.mark.source("assumed")
def test_a_task_that_ends_on_a_full_disk_has_its_end_written_later(
    small_disk: Callable[[int], Path], serve: Callable[..., Any]
) -> None:
    disk = small_disk(400)
    site = serve(disk / "data", storage_backend="directory", storage_reserve_gib=0)
    client = site.client
    run_id = site.start(site.register(WAITS))
    work = running_task(site, run_id)
    with full(disk):
        assert len(start_until_refused(site, client.list_workflows()["items"][0]["id"])[1]) == 3
        (work / "go").touch()
        assert not wait_until(lambda: site.server.process.poll() is not None, 3, every_seconds=0.1)
        assert client.get_run(id=run_id)["status"] == "RUNNING"
    run = site.end_of(run_id, 60)
    tasks = client.list_run_tasks(id=run_id)["items"]
    # What the task printed, or what the engine noted, found no room. It ran once: its end and the engine's waited until there was some.
    assert run["status"] == "FAILED"
    assert run["failureReason"] in ("RUN_TASK_FAILED", "WORKFLOW_RUN_FAILED")
    assert len(tasks) == 1
    assert tasks[0]["status"] in ("COMPLETED", "FAILED")


@pytest.mark.needs("xfs")
@pytest.mark.source("assumed")
def test_runs_that_eat_the_reserve_are_told_and_only_the_fastest_growing_is_ended(
    small_disk: Callable[[int], Path], serve: Callable[..., Any]
) -> None:
    disk = small_disk(1600)
    site = serve(disk / "data", storage_reserve_gib=0, storage_reserve_percent=50, host_cpus=4)
    client = site.client
    grows = site.register(GROWS)
    slow = site.start(grows, parameters={"mebibytes_a_second": 1})
    waits = site.start(site.register(WAITS))
    work = running_task(site, waits)
    fast = site.start(grows, parameters={"mebibytes_a_second": 60})
    failed = site.end_of(fast, 120)
    assert (failed["status"], failed["failureReason"]) == ("FAILED", "SERVICE_ERROR")
    assert "disk" in failed["statusMessage"]
    for run_id in (slow, waits, fast):
        assert "short of space" in run_log(site, run_id)
    assert "event=scheduler.run_ended_for_space" in (site.data / "server.log").read_text()
    assert client.get_run(id=slow)["status"] == "RUNNING"
    (work / "go").touch()
    assert site.end_of(waits, 60)["status"] == "COMPLETED"


@pytest.mark.needs("xfs")
@pytest.mark.source("assumed")
def test_a_run_waits_while_the_reserve_is_touched_and_starts_by_itself_afterwards(
    small_disk: Callable[[int], Path], serve: Callable[..., Any]
) -> None:
    disk = small_disk(1200)
    site = serve(disk / "data", storage_reserve_gib=0, storage_reserve_percent=40)
    workflow_id = site.register(ONE_TASK)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 600 * MIB)
    run_id = site.start(workflow_id)
    client = site.client
    assert wait_until(lambda: "statusMessage" in client.get_run(id=run_id), 10, every_seconds=0.05)
    run = client.get_run(id=run_id)
    assert (run["status"], "reserve" in run["statusMessage"]) == ("PENDING", True)
    filler.unlink()
    assert site.end_of(run_id, 30)["status"] == "COMPLETED"
