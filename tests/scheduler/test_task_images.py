"""Tasks in images, as the scheduler sees them: what a name means in a run, who waits for what, and what a row shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from task_desk import RUN_ID, Desk, name, wait

from runomics.domain.task import Reason, TaskStatus
from runomics.store import images as image_rows

DIGEST, MOVED = ("sha256:" + letter * 64 for letter in "ab")
LOCAL = "localhost:5000/lab/tools:1"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.tasks.open_run(made.place)
    made.images.digests[LOCAL] = DIGEST
    yield made
    made.images.may_come.set()
    made.tasks.close()
    made.store.close()


def started(desk: Desk, number: int = 1) -> bool:
    return wait(lambda: len(desk.runner.started) == number)


def reopen(desk: Desk, **image_policy: object) -> None:
    """A server with other settings, before anything was asked for."""
    desk.tasks.close()
    desk.images.may_come.clear()
    desk.tasks = desk.new_tasks(image_policy)
    desk.tasks.open_run(desk.place)


def test_a_task_waits_for_its_image_without_holding_room(desk: Desk) -> None:
    desk.submit("image", image=LOCAL, cpus=2)
    desk.submit("plain", cpus=2)
    image, plain = desk.rows()
    assert (image.status, plain.status) == (TaskStatus.PENDING, TaskStatus.STARTING)
    assert desk.tasks.waiting_reason(image) == f"Waiting for its image {LOCAL}."
    desk.images.may_come.set()
    desk.runner.ends(name(plain), Reason.OK)
    assert started(desk, 2)
    desk.runner.ends(name(image), Reason.OK)
    desk.settle()
    assert [row.status for row in desk.rows()] == [TaskStatus.COMPLETED, TaskStatus.COMPLETED]


def test_a_started_tasks_spec_and_row_have_its_image(desk: Desk) -> None:
    desk.images.may_come.set()
    desk.submit("image", image=LOCAL, env={"MINE": "1"})
    assert started(desk)
    (row,) = desk.rows()
    spec = desk.runner.specs[name(row)]
    assert (spec["rootfs"], spec["user"]) == (["/layers/upper", "/layers/lower"], "alice")
    assert (spec["env"]["PATH"], spec["env"]["MINE"]) == ("/opt", "1")
    assert (row.image, row.image_digest, row.source_image) == (LOCAL, DIGEST, None)
    assert desk.notes == [f"Image {LOCAL} is {DIGEST} in this run.", f"Pulling {LOCAL}."]


@pytest.mark.source("guide")
def test_a_name_means_the_same_for_the_whole_run_even_when_its_tag_moves_and_the_server_restarts(desk: Desk) -> None:
    desk.images.may_come.set()
    desk.submit("first", image=LOCAL)
    assert started(desk)
    desk.images.digests[LOCAL] = MOVED
    desk.submit("second", image=LOCAL)
    assert started(desk, 2)
    desk.tasks.close()
    desk.tasks = desk.new_tasks()
    desk.tasks.open_run(desk.place)
    desk.submit("third", image=LOCAL)
    assert started(desk, 3)
    assert {row.image_digest for row in desk.rows()} == {DIGEST}
    assert desk.images.asked == [LOCAL]


def test_another_run_asks_what_the_name_means_today(desk: Desk) -> None:
    desk.images.may_come.set()
    desk.submit("first", image=LOCAL)
    assert started(desk)
    desk.images.digests[LOCAL] = MOVED
    desk.tasks.open_run(replace(desk.place, run_id=RUN_ID + 1))
    desk.submit("second", image=LOCAL, run_id=RUN_ID + 1)
    assert started(desk, 2)
    assert [row.image_digest for row in desk.rows(RUN_ID + 1)] == [MOVED]


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("image", "reason"),
    [("localhost:5000/lab/none:1", "IMAGE_VERIFICATION_FAILURE"), ("Lab/Tools", "INVALID_ECR_IMAGE_URI")],
)
def test_an_image_that_cannot_be_had_fails_its_task_at_once(desk: Desk, image: str, reason: str) -> None:
    desk.submit("image", image=image)
    assert wait(lambda: ("image", 1, "IMAGE") in desk.told)
    desk.settle()
    (row,) = desk.rows()
    assert (row.status, row.failure_reason, image in (row.status_message or "")) == (TaskStatus.FAILED, reason, True)
    assert desk.runner.started == {}


def test_unknown_images_may_run_on_the_hosts_root(desk: Desk) -> None:
    reopen(desk, unknown="host")
    desk.submit("image", image="localhost:5000/lab/none:1")
    assert started(desk)
    (row,) = desk.rows()
    assert (desk.runner.specs[name(row)]["rootfs"], row.image, row.image_digest) == (
        None,
        "localhost:5000/lab/none:1",
        None,
    )
    assert "unknown_images is host" in desk.notes[-1]


def test_a_task_that_names_no_image_gets_the_operators(desk: Desk) -> None:
    reopen(desk, default=LOCAL)
    desk.images.may_come.set()
    desk.submit("plain")
    assert started(desk)
    assert [(row.image, row.image_digest) for row in desk.rows()] == [(LOCAL, DIGEST)]


@pytest.mark.source("guide")
def test_strict_servers_take_private_ecr_images_alone(desk: Desk) -> None:
    ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/quay/lab/tools:1"
    reopen(desk, strict=True, image_map={"quay/": "localhost:5000/"})
    desk.images.may_come.set()
    desk.submit("public", image=LOCAL)
    desk.submit("private", image=ecr)
    assert started(desk)
    desk.runner.ends(next(iter(desk.runner.started)), Reason.OK)
    desk.settle()
    assert [(row.failure_reason, row.image_digest) for row in desk.rows()] == [
        ("INVALID_ECR_IMAGE_URI", None),
        (None, DIGEST),
    ]


@pytest.mark.source("guide")
def test_the_workflows_registry_map_is_followed_and_shown(desk: Desk) -> None:
    registry_map = {"registryMappings": [{"upstreamRegistryUrl": "quay.io", "ecrRepositoryPrefix": "quay"}]}
    reopen(desk, image_map={"quay/": "localhost:5000/"})
    desk.tasks.open_run(replace(desk.place, run_id=RUN_ID + 1, registry_map=registry_map))
    desk.images.may_come.set()
    desk.submit("a", image="quay.io/lab/tools:1", run_id=RUN_ID + 1)
    assert started(desk)
    (row,) = desk.rows(RUN_ID + 1)
    ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/quay/lab/tools:1"
    assert (row.image, row.image_digest, row.source_image) == (ecr, DIGEST, "quay.io/lab/tools:1")


@pytest.mark.parametrize("wish", ["stop", "cancel"])
def test_a_task_that_waits_for_its_image_can_be_cancelled(desk: Desk, wish: str) -> None:
    desk.submit("image", image=LOCAL)
    if wish == "stop":
        desk.tasks.stop_run(RUN_ID)
    else:
        desk.tasks.cancel(RUN_ID, "image", 1)
    desk.settle()
    assert [row.status for row in desk.rows()] == [TaskStatus.CANCELLED]
    desk.images.may_come.set()
    assert wait(lambda: bool(desk.images.here))
    assert desk.runner.started == {}


def test_a_run_that_is_gone_leaves_no_names(desk: Desk) -> None:
    desk.images.may_come.set()
    desk.submit("image", image=LOCAL)
    assert started(desk)
    found = desk.store.read(lambda tx: image_rows.find_image(tx, RUN_ID, LOCAL))
    assert found is not None
    assert (found.image, found.location, found.digest) == (LOCAL, LOCAL, DIGEST)
