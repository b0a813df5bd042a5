"""The server's handle: starting, adopting, ending, and a launcher that dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_world import INSPECTION_UID, RunFolder, World, make_world, wait_until

from runomics.engines import footprint
from runomics.engines.host import ForkedEngineHost
from runomics.engines.run_process import claim
from runomics.ports import InspectionGivenUp

pytestmark = pytest.mark.needs("bwrap", "userns")

WAITING = """version 1.0
task t { command <<< while ! [ -e /mnt/workflow/go ]; do sleep 0.02; done; echo done >>> output { String o = read_string(stdout()) } }
workflow w { call t output { String o = t.o } }"""


def test_requests_wait_until_the_launcher_is_warm(short_path: Path) -> None:
    with make_world(short_path) as world:
        world.host.close()
        cold = ForkedEngineHost(data=short_path, inspection_uid=INSPECTION_UID)
        run = world.folder(WAITING)
        (run.volume / "go").touch()
        run.plan()
        ended = threading.Event()
        cold.open()
        try:
            cold.start(run.path, lambda path: ended.set())
            assert ended.wait(30)
            result = cold.result(run.path, 1)
        finally:
            cold.close()
        assert result is not None
        assert result.succeeded


def test_a_run_survives_server_and_launcher_and_is_adopted(short_path: Path) -> None:
    with make_world(short_path) as world:
        run = world.folder(WAITING)
        run.plan()
        forgotten = world.start(run)
        wait_until(lambda: bool(run.server.tasks))
        pid = int((run.path / "pid.1").read_text().split()[0])
        world.host.close()
        assert not forgotten.is_set()
        with make_world(short_path) as second:
            ended = threading.Event()
            second.host.start(run.path, lambda path: ended.set())
            assert second.host.is_alive(run.path)
            (run.volume / "go").touch()
            assert ended.wait(20)
            result = second.host.result(run.path, 1)
        assert result is not None
        assert result.outputs == {"w.o": "done"}
        assert int((run.path / "pid.1").read_text().split()[0]) == pid


def test_a_dead_launcher_is_replaced_and_running_engines_do_not_notice(short_path: Path) -> None:
    with make_world(short_path) as world:
        run = world.folder(WAITING)
        run.plan()
        ended = world.start(run)
        wait_until(lambda: bool(run.server.tasks))
        first = world.host.launcher_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        other = world.folder("version 1.0\nworkflow w { output { Int x = 1 } }")
        assert world.execute(other).outputs == {"w.x": 1}
        assert world.host.launcher_pid not in (None, first)
        (run.volume / "go").touch()
        assert ended.wait(20)
        result = world.host.result(run.path, 1)
        assert result is not None
        assert result.succeeded


def test_starting_twice_makes_one_engine_and_one_end(world: World) -> None:
    run = world.folder(WAITING)
    run.plan()
    ends: list[str] = []
    ended = threading.Event()
    world.host.start(run.path, lambda path: ends.append("first"))
    world.host.start(run.path, lambda path: (ends.append("second"), ended.set()))
    wait_until(lambda: bool(run.server.tasks))
    (run.volume / "go").touch()
    assert ended.wait(20)
    assert ends == ["second"]
    assert len(run.server.hellos) == 1


def test_a_second_process_leaves_silently_when_the_incarnation_is_claimed(world: World) -> None:
    run = world.folder(WAITING)
    assert claim(str(run.path), 1)
    run.plan()
    before = (run.path / "pid.1").read_text()
    asked: list[dict[str, object]] = []
    answered = threading.Event()
    message = {"id": "again", "kind": "run", "plan": str(run.path / "plan.json")}
    world.host._do(
        lambda: world.host._launcher.ask(message, lambda answer: (asked.append(dict(answer)), answered.set()))
    )
    assert answered.wait(10)
    wait_until(lambda: not os.path.exists(f"/proc/{asked[0]['pid']}"))
    assert (run.path / "pid.1").read_text() == before
    assert not (run.path / "engine.log").exists()
    assert list((run.path / "engine").iterdir()) == []
    (run.path / "pid.1").unlink()


def test_the_end_of_an_engine_that_died_before_the_server_looked_is_reported(world: World) -> None:
    run = world.folder(WAITING)
    run.plan()
    (run.path / "pid.1").write_text("1 1 another-boot 1\n")
    assert world.start(run).wait(10)
    assert not world.host.is_alive(run.path)
    assert run.server.hellos == []


@pytest.mark.parametrize("damage", ["", "12", "\0\0\0\0"])
def test_a_claim_damaged_by_a_crash_of_the_host_belongs_to_a_dead_process(world: World, damage: str) -> None:
    run = world.folder(WAITING)
    run.plan()
    (run.path / "pid.1").write_text(damage)
    assert world.start(run).wait(10)
    assert not world.host.is_alive(run.path)


def test_an_incarnation_that_left_files_but_no_claim_ends_without_a_result(world: World) -> None:
    run = world.folder(WAITING)
    run.plan()
    run.workdir.mkdir(parents=True)
    assert world.start(run).wait(10)
    assert world.host.result(run.path, 1) is None


def test_the_next_incarnation_runs_beside_the_remains_of_the_last(world: World) -> None:
    run = world.folder(WAITING)
    run.plan()
    ended = world.start(run)
    wait_until(lambda: bool(run.server.tasks))
    world.host.stop(run.path, kill=True)
    assert ended.wait(10)
    run.server.tasks.clear()
    (run.volume / "go").touch()
    result = world.execute(run, incarnation=2)
    assert result.outputs == {"w.o": "done"}
    assert world.host.result(run.path, 1) is None
    assert (run.path / "pid.1").exists()
    assert (run.path / "pid.2").exists()


def test_stopping_a_run_that_still_waits_for_the_launcher_never_starts_it(short_path: Path) -> None:
    with make_world(short_path) as world:
        world.host.close()
        cold = ForkedEngineHost(data=short_path, inspection_uid=INSPECTION_UID)
        run = world.folder(WAITING)
        run.plan()
        ended = threading.Event()
        cold.open()
        try:
            cold.start(run.path, lambda path: ended.set())
            cold.stop(run.path, kill=True)
            assert ended.wait(10)
            # The launcher is warm when it has answered this.
            assert cold.inspect("WDL", run.definition, "main.wdl", 30).failure is None
            assert not (run.path / "pid.1").exists()
        finally:
            cold.close()


def give_up(host: ForkedEngineHost, run: RunFolder, *, when: Callable[[], bool]) -> float:
    """Give up an inspection under way as soon as `when` holds; the seconds that it still took."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(host.inspect, "WDL", run.definition, "main.wdl", 60)
        wait_until(when)
        began = time.monotonic()
        host.give_up_inspections()
        with pytest.raises(InspectionGivenUp):
            asked.result(30)
        return time.monotonic() - began


def test_an_inspection_is_given_up_at_once_though_the_launcher_keeps_dying(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_world(short_path) as world:
        run = world.folder(WAITING)
        world.host.close()
        monkeypatch.setattr(sys, "executable", "/bin/false")
        host = ForkedEngineHost(data=short_path, inspection_uid=INSPECTION_UID)
        host.open()
        try:
            assert give_up(host, run, when=lambda: any((short_path / "inspections").iterdir())) < 3
            with pytest.raises(InspectionGivenUp):
                host.inspect("WDL", run.definition, "main.wdl", 60)
        finally:
            host.close()
    assert list((short_path / "inspections").iterdir()) == []


def test_an_inspection_under_way_is_ended_when_it_is_given_up(short_path: Path) -> None:
    with make_world(short_path) as world:
        run = world.folder(WAITING)
        # Every file is read twice as often as the one that imports it.
        for number in range(20):
            imports = "".join(f'import "{number + 1}.wdl" as {name}\n' for name in "ab")
            (run.definition / f"{number}.wdl").write_text(f"version 1.0\n{imports}")
        (run.definition / "20.wdl").write_text("version 1.0\n")
        (run.definition / "main.wdl").write_text('version 1.0\nimport "0.wdl" as z\nworkflow w { }')
        inspections = short_path / "inspections"
        assert give_up(world.host, run, when=lambda: any(inspections.glob("*/log"))) < 3
        # It may have been starting still, and writes until it is ended: the next server removes what that leaves.
        world.host.close()
        following = ForkedEngineHost(data=short_path, inspection_uid=INSPECTION_UID)
        following.open()
        try:
            assert list(inspections.iterdir()) == []
        finally:
            following.close()


@pytest.mark.parametrize(
    "planted",
    ["link", "directory", "garbage", "list", "other format", "fifo"],
)
def test_a_forged_result_is_never_trusted(world: World, planted: str) -> None:
    run = world.folder(WAITING)
    run.plan()
    path = run.path / "engine" / "result.json"
    secret = run.path / "secret.json"
    secret.write_text(json.dumps({"format": 1, "incarnation": 1, "status": "SUCCEEDED"}))
    match planted:
        case "link":
            path.symlink_to(secret)
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "garbage":
            path.write_bytes(b"\xff{")
        case "list":
            path.write_text("[" * 100_000)
        case _:
            path.write_text(json.dumps({"format": 99, "incarnation": 1, "status": "SUCCEEDED"}))
    assert world.host.result(run.path, 1) is None


def test_a_result_of_the_wrong_shape_is_a_failure_not_an_error(world: World) -> None:
    run = world.folder(WAITING)
    path = run.path / "engine" / "result.json"
    path.write_text(json.dumps({"format": 1, "incarnation": 1, "status": "SUCCEEDED", "outputs": [1]}))
    result = world.host.result(run.path, 1)
    assert result is not None
    assert not result.succeeded
    assert result.failure is not None
    assert result.failure["kind"] == "engine"


def test_a_damaged_plan_ends_the_engine_without_a_result(world: World) -> None:
    run = world.folder(WAITING)
    run.plan(format=99)
    assert world.start(run).wait(10)
    assert world.host.result(run.path, 1) is None


def test_a_volume_whose_definition_place_is_a_link_is_not_entered(world: World) -> None:
    run = world.folder(WAITING)
    (run.volume / "definition").symlink_to("/etc")
    result = world.execute(run)
    assert result.failure is not None
    assert "could not be isolated" in result.failure["message"]


def test_engines_that_are_not_installed_say_why(world: World) -> None:
    assert (world.host.engines()["WDL"], world.host.engines()["CWL"]) == ("", "")
    missing = world.host.inspect("SNAKEMAKE", world.data, "Snakefile", 5)
    assert missing.failure == "engine SNAKEMAKE is not installed on this server: SNAKEMAKE is no engine of this server"


def test_an_engine_that_fills_the_servers_disk_is_ended(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "LOOK_SECONDS", 0.05)
    with make_world(short_path) as world:
        run = world.folder(WAITING)
        run.plan()
        ended = world.start(run)
        wait_until(lambda: bool(run.server.tasks))
        assert not ended.wait(0.3)
        monkeypatch.setattr(footprint, "MOST_BYTES", 1 << 20)
        (run.path / "engine" / "filler").write_bytes(b"x" * (2 << 20))
        assert ended.wait(10)
        assert world.host.result(run.path, 1) is None
