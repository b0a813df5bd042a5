"""Run groups, run caches and configurations with a real server, real engines and real tasks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from server import wait_until
from workflows import ENDED, ONE_TASK

NEVER = ONE_TASK.replace('echo "hello', 'until test -e /mnt/workflow/never; do sleep 0.1; done; echo "hello')
SCATTER = """version 1.0
task brief {
  input { Int number Int cpu }
  command <<< sleep 0.3; echo ~{number} >>>
  output { Int done = read_int(stdout()) }
  runtime { cpu: cpu memory: "1 GiB" }
}
workflow main {
  input { Int cpu = 1 }
  scatter (number in range(4)) { call brief { input: number = number, cpu = cpu } }
  output { Array[Int] done = brief.done }
}
"""

pytestmark = pytest.mark.needs("bwrap", "userns")


def tasks_of(site: Any, run_id: str) -> list[dict[str, Any]]:
    items = site.client.get_paginator("list_run_tasks").paginate(id=run_id).build_full_result()["items"]
    return [site.client.get_run_task(id=run_id, taskId=item["taskId"]) for item in items]


@pytest.mark.source("guide")
def test_a_run_waits_for_its_group_says_so_and_starts_when_there_is_a_place(site: Any) -> None:
    client = site.client
    group_id = client.create_run_group(name="one at a time", maxRuns=1)["id"]
    first = site.start(site.register(NEVER), runGroupId=group_id)
    assert wait_until(lambda: client.get_run(id=first)["status"] == "RUNNING", 30)
    cache_id = client.create_run_cache(cacheS3Location="s3://runomics/cache")["id"]
    second = site.start(site.register(ONE_TASK), runGroupId=group_id, cacheId=cache_id)
    said = f"Waiting: 1 of at most 1 runs of run group {group_id} are active (maxRuns)."
    assert wait_until(lambda: client.get_run(id=second).get("statusMessage") == said, 10)
    alone = site.end_of(site.start(site.register(ONE_TASK)))
    assert (alone["status"], client.get_run(id=second)["status"]) == ("COMPLETED", "PENDING")
    with pytest.raises(client.exceptions.ConflictException):
        client.delete_run_group(id=group_id)
    client.cancel_run(id=first)
    ended = site.end_of(second)
    assert (ended["status"], ended["cacheBehavior"]) == ("COMPLETED", "CACHE_ON_FAILURE")
    assert [line for line in site.log(second, "run") if f"names run cache {cache_id}" in line]
    site.end_of(first)
    client.delete_run_group(id=group_id)
    client.delete_run_cache(id=cache_id)


@pytest.mark.source("guide")
def test_tasks_of_a_group_never_use_more_cpus_than_it_has(site: Any) -> None:
    group_id = site.client.create_run_group(maxCpus=1)["id"]
    run_id = site.start(site.register(SCATTER), runGroupId=group_id)
    waiting: list[str] = []

    def ended() -> bool:
        # One that was just let in is shown as PENDING for a moment more, with nothing to wait for.
        pending = [task for task in tasks_of(site, run_id) if task["status"] == "PENDING"]
        waiting.extend(task["statusMessage"] for task in pending if "statusMessage" in task)
        return site.client.get_run(id=run_id)["status"] in ENDED

    assert wait_until(ended, 60, every_seconds=0.02)
    assert site.end_of(run_id)["status"] == "COMPLETED"
    spans = sorted((task["startTime"], task["stopTime"]) for task in tasks_of(site, run_id))
    assert len(spans) == 4
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
    assert f"run group {group_id} use 1 of its 1 CPUs (maxCpus)" in " ".join(waiting)


@pytest.mark.source("assumed")
def test_a_task_that_its_group_can_never_hold_fails_its_run_with_the_reason(site: Any) -> None:
    group_id = site.client.create_run_group(maxCpus=1)["id"]
    run = site.end_of(site.start(site.register(SCATTER), runGroupId=group_id, parameters={"cpu": 2}))
    assert (run["status"], run["failureReason"]) == ("FAILED", "INVALID_TASK_RESOURCE_VALUE")
    assert f"asks for 2 CPUs, more than the maxCpus of 1 of run group {group_id}" in run["statusMessage"]


@pytest.mark.source("model")
def test_a_configuration_becomes_active_and_is_shown_by_its_run(site: Any) -> None:
    client = site.client
    made = client.create_configuration(name="net", runConfigurations={})
    assert made["status"] == "CREATING"
    assert wait_until(lambda: client.get_configuration(name="net")["status"] == "ACTIVE", 10)
    run = site.end_of(site.start(site.register(ONE_TASK), configurationName="net"))
    assert (run["status"], run["configuration"]["name"]) == ("COMPLETED", "net")
    client.delete_configuration(name="net")
