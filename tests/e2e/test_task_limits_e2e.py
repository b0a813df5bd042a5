"""Tasks get what they asked for and no more, end with their reason, and are no trouble to their neighbours: real server, engines, tasks."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server import wait_until

pytestmark = [pytest.mark.needs("root", "cgroup", "loop", "xfs", "bwrap"), pytest.mark.source("guide")]

TASK = """version 1.0
task work {{
  command <<<
{script}
  >>>
  output {{ String said = read_string(stdout()) }}
  runtime {{ cpu: 1 memory: "1 GiB" {more} }}
}}
workflow main {{ call work output {{ String said = work.said }} }}
"""
EATS = "python3 -c 'print(len(b\"x\" * ({mib} << 20)))'"
BUSY = """for thread in 1 2 3 4; do timeout 3 sh -c 'while :; do :; done' & done
wait
echo done"""
NEIGHBOUR = """python3 -c '
total = 0
for number in range(16_000_000):
    total = (total * 31 + number) % 1_000_003
print(total)'"""
FORKS = "timeout 3 sh -c 'f() { f | f; }; f' 2> /dev/null; exit 9"
FILLS = "dd if=/dev/zero of=/tmp/all bs=1M; exit 7"
PRINTS = "yes 0123456789abcdef | head -c 300000000 >&2; echo printed"
IGNORES = "trap '' TERM; while :; do sleep 1; done"


def workflow(script: str, more: str = "") -> str:
    return TASK.format(script=script, more=more)


def tasks_of(site: Any, run_id: str) -> list[dict[str, Any]]:
    items = site.client.list_run_tasks(id=run_id)["items"]
    return [site.client.get_run_task(id=run_id, taskId=item["taskId"]) for item in items]


def measures(site: Any, run: dict[str, Any]) -> dict[str, float]:
    """What the manifest says of the run's one task."""
    stream = next((site.data / "logs").glob(f"*/manifest/run/{run['id']}/{run['uuid']}.log"))
    lines = stream.read_text().splitlines()
    found: dict[str, float] = json.loads(lines[1].split("\t", 1)[1])["metrics"]
    return found


def test_a_task_over_its_memory_fails_by_name_and_its_retries_have_twice_as_much_each(site: Any) -> None:
    hungry = site.run(workflow(EATS.format(mib=1100)))
    (task,) = tasks_of(site, hungry["id"])
    assert (hungry["failureReason"], task["failureReason"]) == ("OUT_OF_MEMORY_ERROR", "OUT_OF_MEMORY_ERROR")
    assert f"Task work (task ID {task['taskId']}) ran out of memory: it may use 1 GiB." in hungry["statusMessage"]
    fed = site.run(workflow(EATS.format(mib=2100), "maxRetries: 2"))
    assert fed["status"] == "COMPLETED", fed
    assert [(each["status"], each["memory"], each.get("failureReason")) for each in tasks_of(site, fed["id"])] == [
        ("FAILED", 1, "OUT_OF_MEMORY_ERROR"),
        ("FAILED", 2, "OUT_OF_MEMORY_ERROR"),
        ("COMPLETED", 4, None),
    ]


def test_four_busy_threads_have_no_more_than_the_one_cpu_they_asked_for(site: Any) -> None:
    run = site.run(workflow(BUSY))
    assert run["status"] == "COMPLETED", run
    used = measures(site, run)
    assert used["runningSeconds"] > 2.5
    assert 0.5 < used["cpusAverage"] <= 1.03
    assert 0.5 < used["cpusMaximum"] <= 1.1
    assert 0 < used["memoryAverageGiB"] <= used["memoryMaximumGiB"] < 1


def test_a_failed_task_says_its_last_words_where_its_run_and_it_are_asked(site: Any) -> None:
    run = site.run(workflow("echo first >&2; echo 'no such reference: chr99' >&2; exit 3"))
    (task,) = tasks_of(site, run["id"])
    said = (
        f"Task work (task ID {task['taskId']}) ended with exit code 3. Its log stream has what it printed. "
        "The last it said: first\nno such reference: chr99"
    )
    assert (run["failureReason"], run["statusMessage"]) == ("RUN_TASK_FAILED", said)
    assert (task["failureReason"], task["statusMessage"]) == ("RUN_TASK_FAILED", said)


def test_a_task_larger_than_any_instance_or_with_gpus_nobody_has_never_starts(site: Any) -> None:
    large = site.run(workflow("true").replace("cpu: 1", "cpu: 200"))
    assert large["failureReason"] == "INVALID_TASK_RESOURCE_VALUE"
    assert "No instance type has 200 CPUs, 1 GiB." in large["statusMessage"]
    gpu = site.run(workflow("true", 'acceleratorType: "nvidia-l4" acceleratorCount: 1'))
    (task,) = tasks_of(site, gpu["id"])
    found = (gpu["failureReason"], task["gpus"], task["instanceType"], "startTime" in task)
    assert found == ("UNSUPPORTED_GPU_INSTANCE_TYPE", 1, "omics.g6.xlarge", False)


def test_metrics_tell_of_a_running_task_what_it_uses(site: Any) -> None:
    run_id = site.start(site.register(workflow("echo $(( $(date +%s) )); sleep 30")))

    def samples() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.server.port}/metrics") as answer:
            text = answer.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("run_id", run_id) == run_id
        }

    assert wait_until(lambda: "runomics_live_task_memory_bytes" in samples(), 20, every_seconds=0.1)
    found = samples()
    assert (found["runomics_runs_active"], found["runomics_tasks_running"]) == (1, 1)
    assert 0 < found["runomics_live_task_memory_bytes"] < found["runomics_live_task_memory_limit_bytes"] == 1 << 30
    assert found["runomics_live_task_cpu_seconds"] > 0
    site.client.cancel_run(id=run_id)
    site.end_of(run_id)
    assert samples()["runomics_tasks_running"] == 0


def test_a_task_s_own_tmp_takes_nothing_of_the_runs_storage(site: Any) -> None:
    script = "head -c 300000000 /dev/zero > /tmp/large; df --output=size -B1G /tmp | tail -1; sleep 1.5"
    run_id = site.start(
        site.register(workflow(script, 'disks: "20 GiB"')), scratchStorageMode="LOCAL", storageType="DYNAMIC"
    )
    run = site.end_of(run_id)
    assert run["status"] == "COMPLETED", run
    assert (run["scratchStorageMode"], run["storageCapacity"]) == ("LOCAL", 1)
    assert int(site.outputs(run)["main.said"]) in (31, 32)
    used = measures(site, run)
    assert used["scratchStorageReservedGiB"] == 32
    assert 0.27 < used["scratchStorageUtilizedGiB"] < 0.35
    stream = next((site.data / "logs").glob(f"*/manifest/run/{run_id}/{run['uuid']}.log"))
    manifest = json.loads(stream.read_text().splitlines()[0].split("\t", 1)[1])
    assert manifest["metrics"]["storageMaximumBytes"] < 100 << 20


TROUBLE = {
    "works": (BUSY, "COMPLETED", {None}),
    "forks": (FORKS, "FAILED", {"RUN_TASK_FAILED"}),
    "fills": (FILLS, "FAILED", {"FILE_SYSTEM_OUT_OF_SPACE"}),
    "prints": (PRINTS, "COMPLETED", {None}),
    "ignores": (IGNORES, "CANCELLED", {None}),
}


def test_the_worst_tasks_end_with_their_reasons_and_a_neighbour_does_not_notice(serve: Callable[..., Any]) -> None:
    site = serve(log_max_bytes_per_task=1 << 20, grace_seconds=1.0)
    neighbour = site.register(workflow(NEIGHBOUR), "neighbour")
    workflows = {name: site.register(workflow(script), name) for name, (script, _, _) in TROUBLE.items()}

    def measured(run: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
        """CPU seconds, wall seconds and the answer of a neighbour."""
        assert run["status"] == "COMPLETED", run
        used = measures(site, run)
        return used["cpusAverage"] * used["runningSeconds"], used["runningSeconds"], site.outputs(run)

    def beside(name: str, storage: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
        """CPU seconds, wall seconds and the answer of the neighbour of such a task; and that one ends as it should."""
        _, status, reasons = TROUBLE[name]
        trouble = site.start(workflows[name], **storage)
        assert wait_until(lambda: any("startTime" in task for task in tasks_of(site, trouble)), 20)
        near = site.start(neighbour)
        if name == "ignores":
            site.client.cancel_run(id=trouble)
        end = site.end_of(trouble)
        assert (end["status"], end.get("failureReason") in reasons) == (status, True), (name, end)
        found = measured(site.end_of(near))
        if name == "prints":
            (task,) = tasks_of(site, trouble)
            assert sum(map(len, site.log(trouble, f"task-{task['taskId']}"))) < 2 << 20
        return found

    small = {"storageType": "STATIC", "storageCapacity": 1}
    for name in (name for name in TROUBLE if name != "works"):
        for last in (False, False, True):
            # Others use this machine too: an ordinary busy neighbour says what is usual just now.
            usual_cpu, usual_wall, answer = beside("works", small)
            cpu, wall, said = beside(name, small)
            assert said == answer
            if 0.7 < cpu / usual_cpu < 1.4 and wall <= 1.5 * usual_wall:
                break
            assert not last, (name, cpu, usual_cpu, wall, usual_wall)


LATE = """version 1.0
task early { command <<< echo kept > kept.txt >>> output { File kept = "kept.txt" } }
task late { input { File kept } command <<< sleep 60 >>> output { Int done = 1 } }
workflow main {
  scatter (number in range(2)) { call early }
  call late { input: kept = early.kept[1] }
  output { Array[File] kept = early.kept }
}
"""


@pytest.mark.parametrize("kills", [False, True])
def test_a_run_whose_time_is_up_fails_and_leaves_what_its_finished_tasks_wrote(
    serve: Callable[..., Any], kills: bool
) -> None:
    site = serve(run_timeout_seconds=5, grace_seconds=1.0)
    run_id = site.start(site.register(LATE))
    if kills:
        assert wait_until(lambda: len(tasks_of(site, run_id)) == 3, 20)
        site.server.kill()
        site.server.start()
    run = site.end_of(run_id)
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TIMED_OUT")
    place = site.object(run["runOutputUri"]) / "out"
    assert {str(path.relative_to(place)): path.read_text() for path in place.rglob("*.txt")} == {
        "early-0/kept/kept.txt": "kept\n",
        "early-1/kept/kept.txt": "kept\n",
    }
    assert [task["status"] for task in tasks_of(site, run_id)] == ["COMPLETED", "COMPLETED", "CANCELLED"]
