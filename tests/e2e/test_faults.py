"""Kills at any moment of one run's life: it ends once and right, what was lost is done again, and nothing is left on the machine."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import wait_until

pytestmark = pytest.mark.needs("bwrap", "userns")

TALLY = """version 1.0
task write {
  input { Int number File given }
  command <<<
    echo "run ~{number}"
    mkdir parts
    for part in 1 2 3; do head -c 200000 /dev/zero | tr '\\0' ~{number} > parts/$part; done
    sleep 0.1
    cat ~{given}
  >>>
  output { Array[String] said = read_lines(stdout()) Array[File] parts = glob("parts/*") }
}
workflow main {
  input { File given Int width = 3 }
  scatter (number in range(width)) { call write { input: number = number, given = given } }
  output { Array[Array[String]] said = write.said Array[Array[File]] parts = write.parts }
}
"""
WIDTH = 3

HOLDS = """version 1.0
task hold {
  command <<< echo started; while [ ! -e go ]; do sleep 0.05; done; echo done >>>
  output { Array[String] said = read_lines(stdout()) }
}
workflow main { call hold output { Array[String] said = hold.said } }
"""

MANY = 3000
MANY_OUTPUTS = f"""version 1.0
task make {{
  command <<< mkdir parts; for part in $(seq {MANY}); do : > parts/$part; done >>>
  output {{ Array[File] parts = glob("parts/*") }}
}}
workflow main {{ call make output {{ Array[File] parts = make.parts }} }}
"""


def commands() -> Iterator[tuple[int, list[str]]]:
    """Every process and its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes().decode(errors="replace").split("\0")


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def start_tally(site: Any, workflow_id: str) -> str:
    return str(site.start(workflow_id, parameters={"given": site.put("s3://runomics/given.txt", b"given\n")}))


def children(pid: int) -> list[int]:
    """The children of a process, and of its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def launchers(site: Any) -> list[int]:
    """The server's launchers, not what else it has started: a server that cannot look at its machine does not go on."""
    named = [(pid, Path(f"/proc/{pid}/comm")) for pid in children(site.server.process.pid)]
    return [pid for pid, name in named if name.exists() and name.read_text().strip().endswith("-launcher")]


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is a child of another, or of a child of it, and so on."""
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


def claimed(site: Any, pattern: str) -> list[int]:
    """The living processes that claim files in the runs' directories name."""
    found = []
    for claim in site.data.glob(pattern):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pid, start = claim.read_text().split()[:2]
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == start:
                found.append(int(pid))
    return found


def supervisors(site: Any) -> list[int]:
    return claimed(site, "attempts/*/*/pid")


def engines(site: Any) -> list[int]:
    return claimed(site, "runs/*/pid.*")


def running(site: Any, run_id: str, count: int) -> list[dict[str, Any]]:
    """The run's RUNNING tasks once there are so many."""
    client, found = site.client, []

    def enough() -> bool:
        found[:] = client.list_run_tasks(id=run_id, status="RUNNING")["items"]
        return len(found) == count

    assert wait_until(enough, 30, every_seconds=0.02)
    return found


def go(site: Any) -> None:
    """What the tasks of HOLDS wait for."""
    for work in (site.data / "runs").glob("*/volume/**/work"):
        (work / "go").touch()


def check_tally(site: Any, run_id: str, *, once: bool = True) -> None:
    """The run is COMPLETED with all its objects, each task ran once, and nothing of the run is left in DATA."""
    run = site.end_of(run_id, 90)
    assert run["status"] == "COMPLETED", run.get("statusMessage")
    outputs = site.outputs(run)
    assert outputs["main.said"] == [[f"run {number}", "given"] for number in range(WIDTH)]
    for number, parts in enumerate(outputs["main.parts"]):
        assert [site.object(part).read_bytes() for part in parts] == [str(number).encode() * 200_000] * 3
    tasks = site.client.list_run_tasks(id=run_id)["items"]
    names = [f"write-{number}" for number in range(WIDTH)]
    assert {task["name"] for task in tasks if task["status"] == "COMPLETED"} == set(names)
    if once:
        assert sorted(task["name"] for task in tasks) == names
    assert {task["status"] for task in tasks} <= {"COMPLETED", "FAILED", "CANCELLED"}
    assert wait_until(lambda: not (site.data / "runs" / run["uuid"]).exists(), 10, every_seconds=0.05)
    assert not (site.data / "volumes" / run["uuid"]).exists()
    lines = site.log(run_id, "run")
    assert [line for line in lines if line == "Run is COMPLETED."] == ["Run is COMPLETED."]


def check_nothing_is_left(site: Any) -> None:
    """After a clean stop the machine is as before, and so are the places of runs and volumes."""
    site.server.stop()
    site.check_released()
    for place in ("runs", "volumes"):
        assert [path.name for path in (site.data / place).iterdir() if not path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    ("backend", "kills"),
    [("directory", 6), pytest.param("xfs-image", 22, marks=pytest.mark.needs("root", "loop", "xfs"))],
)
def test_a_kill_of_the_server_at_any_moment_of_a_run_changes_nothing(
    backend: str, kills: int, serve: Callable[..., Any]
) -> None:
    """Every kill comes a little later in the life of a fresh run than the one before it, from StartRun to after its end."""
    site = serve(storage_backend=backend)
    workflow_id = site.register(TALLY)
    check_tally(site, start_tally(site, workflow_id))
    chance, pause = random.Random(8), threading.Event()
    for number in range(kills):
        run_id = start_tally(site, workflow_id)
        pause.wait((number + chance.uniform(0, 1)) * 1.1 / kills)
        site.server.kill()
        site.server.start()
        check_tally(site, run_id)
    check_nothing_is_left(site)


@pytest.mark.slow
@pytest.mark.source("assumed")
def test_a_kill_of_launchers_engine_or_of_everything_at_any_moment_ends_right(serve: Callable[..., Any]) -> None:
    site = serve()
    workflow_id = site.register(TALLY)
    chance, pause = random.Random(80), threading.Event()
    for number in range(16):
        run_id = start_tally(site, workflow_id)
        pause.wait(chance.uniform(0.0, 0.9))
        target = ("launchers", "engine", "all")[number % 3]
        victims = launchers(site) if target == "launchers" else engines(site)
        if target == "all":
            victims += [*children(site.server.process.pid), *supervisors(site)]
        if target == "all":
            site.server.kill()
        for pid in victims:
            kill(pid)
        if target == "all":
            site.server.start()
        check_tally(site, run_id, once=target == "launchers")
    check_nothing_is_left(site)


@pytest.mark.source("guide")
def test_a_task_whose_supervisor_is_killed_is_tried_again_unseen(serve: Callable[..., Any]) -> None:
    site = serve()
    run_id = site.start(site.register(HOLDS))
    client = site.client
    (task,) = running(site, run_id, 1)
    (victim,) = supervisors(site)
    inside = [pid for pid, line in commands() if "[ ! -e go ]" in " ".join(line) or is_below(pid, victim)]
    kill(victim)
    assert wait_until(lambda: len(client.list_run_tasks(id=run_id)["items"]) == 2, 20, every_seconds=0.02)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), 10, every_seconds=0.02)
    (again,) = running(site, run_id, 1)
    assert again["taskId"] != task["taskId"]
    go(site)
    run = site.end_of(run_id)
    assert (run["status"], site.outputs(run)) == ("COMPLETED", {"main.said": ["started", "done"]})
    lost = client.get_run_task(id=run_id, taskId=task["taskId"])
    assert (lost["status"], lost["failureReason"]) == ("FAILED", "SERVICE_ERROR")
    check_nothing_is_left(site)


@pytest.mark.source("assumed")
def test_a_task_whose_sandbox_is_killed_fails_its_run_and_leaves_nothing(serve: Callable[..., Any]) -> None:
    site = serve()
    run_id = site.start(site.register(HOLDS))
    running(site, run_id, 1)
    (supervisor,) = supervisors(site)
    inside = [pid for pid, _ in commands() if is_below(pid, supervisor)]
    for pid in children(supervisor):
        kill(pid)
    run = site.end_of(run_id)
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "137" in run["statusMessage"]
    assert inside
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)
    check_nothing_is_left(site)


@pytest.mark.source("assumed")
def test_an_engine_killed_while_it_gathers_outputs_is_started_again(serve: Callable[..., Any]) -> None:
    site = serve()
    client = site.client
    workflow_id = site.register(MANY_OUTPUTS)
    for _ in range(5):
        run_id = site.start(workflow_id)
        assert wait_until(lambda run_id=run_id: client.list_run_tasks(id=run_id, status="COMPLETED")["items"], 30)
        victims = engines(site)
        for pid in victims:
            kill(pid)
        run = site.end_of(run_id, 90)
        assert run["status"] == "COMPLETED", run.get("statusMessage")
        assert len(site.outputs(run)["main.parts"]) == MANY
        if len(client.list_run_tasks(id=run_id)["items"]) == 2:
            break
    else:
        pytest.fail("the engine was never killed in time")
    check_nothing_is_left(site)


@pytest.mark.needs("root", "loop", "xfs")
@pytest.mark.source("guide")
def test_a_tool_that_lives_with_a_full_static_volume_is_left_alone(serve: Callable[..., Any]) -> None:
    site = serve(storage_backend="xfs-image")
    survives = """version 1.0
task fill {
  command <<< dd if=/dev/zero of=big bs=1M count=1100 status=none || echo "no room"; rm big; sleep 1; echo went on >>>
  output { Array[String] said = read_lines(stdout()) }
}
workflow main { call fill output { Array[String] said = fill.said } }
"""
    run = site.run(survives, storageType="STATIC", storageCapacity=1)
    assert (run["status"], site.outputs(run)) == ("COMPLETED", {"main.said": ["no room", "went on"]})


@pytest.mark.source("assumed")
def test_what_an_export_leaves_out_stands_in_the_log_of_the_run(serve: Callable[..., Any]) -> None:
    text = """version development
task make {
  command <<< mkdir d; echo kept > d/file; mkfifo d/pipe d/other >>>
  output { Directory d = "d" }
}
workflow main { call make output { Directory d = make.d } }
"""
    site = serve()
    run = site.run(text)
    assert run["status"] == "COMPLETED", run["statusMessage"]
    delivered = site.object(site.outputs(run)["main.d"])
    assert [path.name for path in delivered.iterdir()] == ["file"]
    told = [line for line in site.log(run["id"], "run") if line.startswith("Not exported: ")]
    assert sorted(line.split(": ")[1].rpartition("/")[2] for line in told) == ["other", "pipe"]
