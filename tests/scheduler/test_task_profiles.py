"""Tasks with accelerators and fallback lists between engine, store and runner: a stand-in runner, the real store, GPUs by name only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from task_desk import GIB, RUN_ID, Desk, name, wait

from runomics.domain.profile import Profile
from runomics.domain.task import Reason, TaskStatus
from runomics.ports import TaskCapacity
from runomics.runners.accelerators import Edits, Gpu
from runomics.store.tasks import TaskRow

GPU = Profile(1, GIB, "nvidia-l4", 1, 1200)
TWO_GPUS = Profile(1, GIB, "nvidia-l4", 2, 1800)
CPU = Profile(2, 2 * GIB, wait_seconds=600)


def gpu(number: int) -> Gpu:
    return Gpu(str(number), Edits(nodes=((f"/dev/nvidia{number}", f"/dev/nvidia{number}"),), env=(("SEES", "gpu"),)))


@pytest.fixture
def desk_with(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(gpus: int = 0, **policy: Any) -> Desk:
        desk = Desk(tmp_path)
        desk.accelerators.gpus = [gpu(number) for number in range(gpus)]
        desk.tasks = desk.new_tasks(host_gpus=gpus, **policy)
        desk.tasks.open_run(desk.place)
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.tasks.close()
        desk.store.close()


def ended(desk: Desk) -> TaskRow:
    desk.settle()
    return desk.rows()[-1]


@pytest.mark.source("guide")
def test_a_gpu_task_fails_before_it_starts_where_there_is_none(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.submit("a", accelerator_type="nvidia-l4", accelerator_count=1)
    row = ended(desk)
    assert (row.status, row.failure_reason, row.gpus, row.instance_type) == (
        TaskStatus.FAILED,
        "UNSUPPORTED_GPU_INSTANCE_TYPE",
        1,
        "omics.g6.xlarge",
    )
    assert "of GPUs this server has none" in (row.status_message or "")
    assert desk.runner.started == {}


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"cpus": 193}, "INVALID_TASK_RESOURCE_VALUE"),
        ({"memory_bytes": 1537 * GIB}, "INVALID_TASK_RESOURCE_VALUE"),
        ({"accelerator_type": "nvidia-l4", "accelerator_count": 5}, "INVALID_TASK_RESOURCE_VALUE"),
        ({"accelerator_type": "nvidia-h100", "accelerator_count": 1}, "UNSUPPORTED_GPU_INSTANCE_TYPE"),
        ({"accelerator_type": "nvidia-l4", "accelerator_count": 4}, "UNSUPPORTED_GPU_INSTANCE_TYPE"),
    ],
)
def test_what_no_instance_type_has_fails_whatever_the_host_has(
    desk_with: Callable[..., Desk], asked: dict[str, Any], reason: str
) -> None:
    desk = desk_with(2)
    desk.submit("a", **asked)
    assert ended(desk).failure_reason == reason


def test_each_gpu_task_has_gpus_of_its_own_and_others_wait_for_theirs(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with(2, host_cpus=8, host_memory_bytes=16 * GIB)
    for key in ("a", "b", "c"):
        desk.submit(key, accelerator_type="nvidia-l4", accelerator_count=1)
    desk.submit("plain")
    first, second, third, plain = desk.rows()
    assert [desk.runner.specs[name(row)]["gpus"] for row in (first, second)] == [["0"], ["1"]]
    assert (third.status, plain.status) == (TaskStatus.PENDING, TaskStatus.STARTING)
    assert desk.tasks.waiting_reason(third) == "Waiting for 1 GPUs (0 are free) on this server."
    assert "gpus" not in desk.runner.specs[name(plain)]
    desk.runner.ends(name(first), Reason.OK)
    spec = desk.runner.specs[name(third)]
    assert (spec["gpus"], spec["devices"], spec["env"]["SEES"]) == (["0"], [["/dev/nvidia0", "/dev/nvidia0"]], "gpu")


def test_a_new_server_lets_adopted_tasks_keep_their_gpus(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with(2, host_cpus=8, host_memory_bytes=16 * GIB)
    desk.submit("a", accelerator_type="nvidia-l4", accelerator_count=1)
    (row,) = desk.rows()
    desk.tasks.close()
    desk.tasks = desk.new_tasks(host_gpus=2, host_cpus=8, host_memory_bytes=16 * GIB)
    desk.tasks.open_run(desk.place, desk.rows())
    desk.submit("b", accelerator_type="nvidia-l4", accelerator_count=2)
    assert desk.tasks.waiting_reason(desk.rows()[1]) == "Waiting for 2 GPUs (1 are free) on this server."
    desk.runner.ends(name(row), Reason.OK)
    assert desk.runner.specs[name(desk.rows()[1])]["gpus"] == ["0", "1"]


@pytest.mark.source("guide")
def test_profiles_that_cannot_be_had_are_passed_over_at_once_and_the_log_says_so(
    desk_with: Callable[..., Desk],
) -> None:
    desk = desk_with()
    desk.submit("a", fallbacks=(TWO_GPUS, GPU, CPU))
    (row,) = desk.rows()
    assert (row.cpus, row.memory_gib, row.gpus, row.instance_type) == (2, 2, 0, "omics.c.large")
    assert desk.runner.specs[name(row)]["env"]["AWS_HEALTHOMICS_RESOURCE_TYPE"] == "cpu"
    assert desk.notes == [
        f"Task a (task ID {row.id}) runs with 2 CPUs, 2 GiB: the profiles before it cannot be had on this server."
    ]


@pytest.mark.source("guide")
def test_the_environment_names_the_accelerator_that_was_got(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with(1)
    desk.submit("a", fallbacks=(TWO_GPUS, GPU, CPU))
    (row,) = desk.rows()
    assert row.gpus == 1
    assert desk.runner.specs[name(row)]["env"]["AWS_HEALTHOMICS_RESOURCE_TYPE"] == "nvidia-l4"


@pytest.mark.source("guide")
def test_a_task_that_waits_too_long_stands_with_its_next_profile_and_fails_after_the_last(
    desk_with: Callable[..., Desk],
) -> None:
    desk = desk_with(1, host_cpus=2)
    desk.submit("busy", cpus=2, accelerator_type="nvidia-l4", accelerator_count=1)
    desk.submit("a", fallbacks=(GPU, CPU))
    task_id = desk.rows()[1].id
    assert desk.looks == [(task_id, 1_201_000)]
    desk.clock.now = 1_200_999
    desk.tasks.waited(task_id)
    assert desk.rows()[1].gpus == 1
    desk.clock.now = 1_201_000
    desk.tasks.waited(task_id)
    waiting = desk.rows()[1]
    assert (waiting.status, waiting.cpus, waiting.gpus) == (TaskStatus.PENDING, 2, 0)
    assert desk.looks[-1] == (task_id, 1_801_000)
    desk.clock.now = 1_801_000
    desk.tasks.waited(task_id)
    desk.runner.ends(name(desk.rows()[0]), Reason.OK)
    row = ended(desk)
    assert (row.status, row.failure_reason) == (TaskStatus.FAILED, "ALL_PROFILES_INSTANCE_RESERVATION_FAILED")
    assert "1 CPUs, 1 GiB, 1 GPUs (nvidia-l4) for 20 minutes, 2 CPUs, 2 GiB for 10 minutes" in (
        row.status_message or ""
    )
    assert len(desk.rows()) == 2


@pytest.mark.source("guide")
def test_a_list_of_which_nothing_can_be_had_is_exhausted_at_once(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.submit("a", fallbacks=(TWO_GPUS, GPU))
    row = ended(desk)
    assert row.failure_reason == "ALL_PROFILES_INSTANCE_RESERVATION_FAILED"
    assert "None of its 2 fallback profiles can be had" in (row.status_message or "")


@pytest.mark.source("guide")
@pytest.mark.parametrize(("asked", "tries"), [(None, 3), (0, 1), (1, 2), (9, 3)])
def test_a_task_may_ask_for_fewer_tries_after_errors_of_the_service(
    desk_with: Callable[..., Desk], asked: int | None, tries: int
) -> None:
    desk = desk_with()
    desk.submit("a", service_retries=asked)
    for number in range(tries):
        assert wait(lambda started=number + 1: len(desk.runner.started) == started)
        desk.runner.ends(max(desk.runner.started), Reason.LOST, None)
    desk.settle()
    assert [row.try_ for row in desk.rows()] == list(range(1, tries + 1))
    assert desk.told[-1] == ("a", 1, "LOST")


def test_a_run_has_no_more_tasks_running_than_the_operator_allows(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with(most_of_a_run=2, host_cpus=8, host_memory_bytes=16 * GIB)
    for key in "abc":
        desk.submit(key)
    assert [row.status for row in desk.rows()] == [TaskStatus.STARTING, TaskStatus.STARTING, TaskStatus.PENDING]
    assert desk.tasks.waiting_reason(desk.rows()[2]) == (
        "Waiting: 2 of at most 2 tasks of this run are running (task_concurrency)."
    )
    desk.runner.ends(name(desk.rows()[0]), Reason.OK)
    assert len(desk.runner.started) == 3


@pytest.mark.source("guide")
def test_the_services_own_variables_cannot_be_set_by_a_task(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.submit("a", env={"AWS_WORKFLOW_TASK": "mine", "AWS_WORKFLOW_ANYTHING": "mine", "OTHER": "kept"})
    (row,) = desk.rows()
    assert desk.runner.specs[name(row)]["env"] == {
        "OTHER": "kept",
        "AWS_WORKFLOW_RUN": f"arn:aws:omics:us-east-1:123456789012:run/{RUN_ID}",
        "AWS_WORKFLOW_TASK": f"arn:aws:omics:us-east-1:123456789012:task/{row.id}",
        "AWS_WORKFLOW_TASK_ID": str(row.id),
        "AWS_WORKFLOW_TASK_UUID": row.uuid,
    }


@pytest.mark.source("guide")
def test_local_scratch_is_a_tmp_of_the_size_that_was_asked_for(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.tasks.close()
    desk.place = replace(desk.place, has_local_scratch=True)
    desk.tasks = desk.new_tasks()
    desk.tasks.open_run(desk.place)
    desk.submit("a", disk_bytes=20 * GIB)
    desk.submit("b", disk_bytes=5000 * GIB)
    small, large = desk.rows()
    image = desk.place.run_directory / "scratch" / f"{name(small)}.img"
    assert desk.runner.specs[name(small)]["local_tmp"] == {"image": str(image), "bytes": 32 * GIB}
    assert (small.scratch_gib, large.scratch_gib) == (32, 3072)
    assert desk.notes == [
        f"Task b (task ID {large.id}) asks for more than 3072 GiB of disk and gets a /tmp of 3072 GiB."
    ]


@pytest.mark.source("guide")
def test_shared_scratch_passes_disks_over(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.submit("a", disk_bytes=20 * GIB)
    (row,) = desk.rows()
    assert (desk.runner.specs[name(row)]["local_tmp"], row.scratch_gib) == (None, None)


def test_a_plain_user_s_run_is_told_that_its_scratch_is_shared(desk_with: Callable[..., Desk]) -> None:
    desk = desk_with()
    desk.tasks.close()
    desk.place = replace(desk.place, has_local_scratch=True, rootless=True)
    desk.tasks = desk.new_tasks()
    desk.tasks.open_run(desk.place)
    desk.submit("a")
    assert "cannot give it one of its own (LOCAL)" in desk.notes[0]


def test_a_run_is_told_where_limits_are_soft(desk_with: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_with()
    assert desk.notes == []
    soft = TaskCapacity(2, 4 * GIB, limits_are_soft=True, why_soft="no cgroup can be made here")
    monkeypatch.setattr(desk.runner, "capacity", lambda: soft)
    desk.tasks.open_run(replace(desk.place, incarnation=2))
    assert desk.notes == ["Limits of tasks are soft on this server: no cgroup can be made here"]
