"""Each setting of a batch has its turn exactly once, whenever the server dies; and a batch leaves room for everybody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_world import ACCOUNT, URI, World

from databases import database_url
from runomics.domain.run import CancelRequested, RunState, RunStatus, advance
from runomics.scheduler import batches as batch_steps
from runomics.scheduler.batch_settings import Closing
from runomics.store import batch_runs, batches, runs
from runomics.store.database import StoreUnavailable, Tx

SETTINGS = 3000
DEADLINE_SECONDS = 60.0


@pytest.fixture
def world(tmp_path: Path, database_kind: str) -> Iterator[World]:
    made = World(tmp_path)
    made.add_workflow()
    yield made
    made.close()


def named(count: int) -> list[dict[str, object]]:
    return [{"runSettingId": f"s-{number}", "parameters": {"sample": number}} for number in range(count)]


def check_books(world: World, batch_id: int) -> None:
    """What must be true after any commit."""
    batch = world.batch(batch_id)
    (loaded, started, failed) = world.rows(
        "select count(*), count(run_id), sum(case when submission_status = 'FAILED' then 1 else 0 end) from batch_run"
    )[0]
    assert (loaded, started, failed or 0) == (batch.loaded_runs, batch.started_runs, batch.failed_starts)
    assert world.rows("select id from run order by id") == world.rows(
        "select run_id from batch_run where run_id is not null order by id"
    )
    assert world.rows("select count(*) from event where kind = 'run'") == [(started,)]
    assert world.rows("select count(*) from batch_run where run_id is null and submission_status = 'SUCCESS'") == [(0,)]
    assert world.rows("select count(*) from batch_run where (setting is null) <> (submission_status is not null)") == [
        (0,)
    ]


def killed_when(directory: Path, world: World, condition: Callable[[], bool]) -> None:
    """A process works on the batches until `condition`, and is killed then."""
    url = database_url(directory / "database.sqlite")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("batch_world.py")), str(directory), *([url] if url else [])],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    pause, end = threading.Event(), time.monotonic() + DEADLINE_SECONDS
    try:
        while not condition():
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < end
            pause.wait(0.002)
    finally:
        process.kill()
        process.communicate()


def test_a_server_killed_again_and_again_loses_and_doubles_no_run(tmp_path: Path, world: World) -> None:
    world.put_settings(named(SETTINGS))
    batch_id = world.start()

    def at_work(status: str, loaded: int, started: int) -> Callable[[], bool]:
        def reached() -> bool:
            batch = world.batch(batch_id)
            return batch.status == status and batch.loaded_runs >= loaded and batch.started_runs >= started

        return reached

    moments = [
        ("PENDING", 500, 0),
        ("PENDING", 1500, 0),
        *(("SUBMITTING", SETTINGS, count) for count in (1, 900, 2000)),
    ]
    for moment in moments:
        killed_when(tmp_path, world, at_work(*moment))
        check_books(world, batch_id)
    before = world.batch(batch_id)
    assert 2000 <= before.started_runs < SETTINGS, "killed in the middle"
    world.work(batch_id, until="INPROGRESS")
    check_books(world, batch_id)
    assert world.rows("select run_setting_id from batch_run order by id") == [(f"s-{n}",) for n in range(SETTINGS)]
    found = world.rows("select parameters, run_output_uri, id from run order by id")
    assert [json.loads(row[0]) for row in found] == [{"sample": number} for number in range(SETTINGS)]
    assert [row[1] for row in found] == [f"s3://bucket/out/{row[2]}" for row in found]


def test_a_server_that_died_while_it_read_the_file_looks_whether_it_is_the_same(world: World) -> None:
    world.put_settings(named(1200))
    batch_id = world.start()
    world.batches.step(batch_id)
    assert world.batch(batch_id).loaded_runs == batch_steps.LOADED_AT_ONCE
    world.batches.close()
    expected = world.objects.head(URI).etag
    world.put_settings(named(1201))
    world.work(batch_id, until="FAILED")
    assert (world.batch(batch_id).failure_reason or "").startswith(f'Expected s3UriConfigs etag: "{expected}"')


def test_a_piece_that_could_not_be_written_is_done_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put_settings(named(700))
    batch_id = world.start()
    real, refused = batch_runs.add_settings, []

    def full_disk_once(*arguments: object) -> None:
        if not refused:
            refused.append(True)
            raise StoreUnavailable("the disk is full")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_runs, "add_settings", full_disk_once)
    with pytest.raises(StoreUnavailable):
        world.batches.step(batch_id)
    world.work(batch_id, until="INPROGRESS")
    check_books(world, batch_id)
    assert world.batch(batch_id).started_runs == 700


def test_a_cancel_between_reading_and_writing_starts_no_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put_settings(named(10))
    batch_id = world.start()
    world.batches.step(batch_id)
    real = world.batches._make

    def cancelled_meanwhile(*arguments: object) -> object:
        world.store.write(lambda tx: batches.wish_cancel(tx, ACCOUNT, batch_id, 1))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world.batches, "_make", cancelled_meanwhile)
    world.work(batch_id, until="CANCELLED")
    assert world.rows("select id from run") == []
    assert world.batch(batch_id).cancelled_runs == 10


def test_the_end_of_a_run_wakes_its_batch(world: World) -> None:
    world.put_settings(named(2))
    batch_id = world.start()
    world.work(batch_id, until="INPROGRESS")
    first, second = (row[0] for row in world.rows("select id from run order by id"))
    for run_id, woken in ((first, "INPROGRESS"), (second, "PROCESSED")):
        world.woken.clear()
        end(world, run_id)
        assert ("run-batch", batch_id) in world.woken
        world.batches.step(batch_id)
        assert world.batch(batch_id).status == woken


def end(world: World, run_id: int) -> None:
    def unit(tx: Tx) -> None:
        run = runs.load_run(tx, run_id)
        assert run is not None
        assert runs.apply_run(tx, run, RunState(RunStatus.COMPLETED, outcome=RunStatus.COMPLETED), now_ms=2000)

    world.store.write(unit)


def test_no_more_wishes_are_under_way_than_leave_room_for_others(world: World) -> None:
    world.put_settings(named(1000))
    batch_id = world.start()
    world.work(batch_id, until="INPROGRESS")
    world.store.write(lambda tx: batches.wish_cancel(tx, ACCOUNT, batch_id, 1))
    most, rounds = 0, 0
    while world.batch(batch_id).status != "CANCELLED":
        rounds += 1
        assert rounds < 1000
        world.woken.clear()
        world.timers.clear()
        world.batches.step(batch_id)
        wishes = world.store.read(runs.runs_to_cancel)
        most = max(most, len(wishes))
        if ("run-batch", batch_id) not in world.woken and wishes:
            assert world.timers == [(batch_id, world.now_ms() + batch_steps.AGAIN_MS)] or (
                world.batch(batch_id).cancelled_runs == 1000
            ), "somebody has to call it again"
            world.store.write(lambda tx, wishes=wishes: grant(tx, wishes[:50]))
    assert batch_steps.WISHES_UNDER_WAY <= most < batch_steps.WISHES_UNDER_WAY + batch_steps.WISHED_AT_ONCE


def grant(tx: Tx, run_ids: list[int]) -> None:
    for run_id in run_ids:
        run = runs.load_run(tx, run_id)
        assert run is not None
        assert runs.apply_run(tx, run, advance(run.state, CancelRequested()), now_ms=2000)


def test_a_stopping_server_does_not_wait_for_a_large_file(world: World) -> None:
    world.put_settings(named(5000))
    batch_id = world.start()
    world.batches.give_up()
    world.batches.step(batch_id)
    assert world.batch(batch_id).status == "CREATING"
    with pytest.raises(Closing):
        world.batches._reader.looked_at(world.batch(batch_id))
