"""kill -9 of the server and of its launchers: every acknowledged run ends once, correctly, and no task runs twice."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from server import wait_until

pytestmark = pytest.mark.needs("bwrap", "userns")

COUNTED = """version 1.0
task step {
  input { Int number }
  command <<<
    echo "once ~{number}"
    sleep 0.~{number % 7}
    echo ~{number}
  >>>
  output { Array[String] said = read_lines(stdout()) }
}
workflow main {
  input { Int width = 6 }
  scatter (number in range(width)) { call step { input: number = number } }
  output { Array[Array[String]] said = step.said }
}
"""

WIDTH = 6


def children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def check_history(site: Any, run_id: str) -> None:
    """What must be true of every run whose StartRun was answered, whatever was killed."""
    run = site.end_of(run_id, 90)
    assert run["status"] == "COMPLETED", run
    assert site.outputs(run)["main.said"] == [[f"once {number}", str(number)] for number in range(WIDTH)]
    tasks = site.client.list_run_tasks(id=run_id)["items"]
    assert sorted(task["name"] for task in tasks) == [f"step-{number}" for number in range(WIDTH)]
    assert {task["status"] for task in tasks} == {"COMPLETED"}
    for task in tasks:
        number = task["name"].split("-")[1]
        assert site.log(run_id, f"task-{task['taskId']}") == [f"once {number}", number]


def check_kill_of_server_and_launchers(site: Any) -> None:
    """A run in its middle outlives them."""
    run_id = site.start(site.register(COUNTED))
    client = site.client
    assert wait_until(lambda: len(client.list_run_tasks(id=run_id)["items"]) > 0, 20)
    launchers = children(site.server.process.pid)
    site.server.kill()
    for pid in launchers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    site.server.start()
    check_history(site, run_id)


@pytest.mark.source("assumed")
def test_a_run_survives_the_kill_of_server_and_launchers(serve: Any) -> None:
    site = serve()
    check_kill_of_server_and_launchers(site)


@pytest.mark.slow
@pytest.mark.source("assumed")
def test_twenty_kills_at_random_moments_lose_and_repeat_nothing(serve: Any) -> None:
    site = serve()
    workflow_id = site.register(COUNTED)
    chance = random.Random(20)
    pause = threading.Event()
    started: list[str] = []
    for number in range(20):
        started += [site.start(workflow_id, name=f"run-{number}") for _ in range(2)]
        pause.wait(chance.uniform(0.0, 0.8))
        launchers = children(site.server.process.pid)
        target = chance.choice(("server", "launcher", "all"))
        if target in ("launcher", "all") and launchers:
            victims = launchers if target == "all" else [chance.choice(launchers)]
            for pid in victims:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if target in ("server", "all"):
            site.server.kill()
            site.server.start()
    for run_id in started:
        check_history(site, run_id)
    listed = site.client.get_paginator("list_runs").paginate().build_full_result()["items"]
    assert sorted(run["id"] for run in listed) == sorted(started)


@pytest.mark.source("assumed")
def test_an_engine_that_is_killed_is_started_again(serve: Any) -> None:
    site = serve()
    run_id = site.start(site.register(COUNTED.replace("sleep 0.", "sleep 1.")))
    client = site.client
    assert wait_until(lambda: len(client.list_run_tasks(id=run_id)["items"]) == WIDTH, 20)
    claim = next((site.data / "runs").glob("*/pid.1"))
    os.kill(int(claim.read_text().split()[0]), signal.SIGKILL)
    run = site.end_of(run_id, 60)
    assert run["status"] == "COMPLETED", run
    assert site.outputs(run)["main.said"][0] == ["once 0", "0"]


@pytest.mark.source("assumed")
def test_sigterm_stops_within_two_seconds_and_the_work_goes_on(serve: Any) -> None:
    site = serve()
    run_id = site.start(site.register(COUNTED.replace("sleep 0.", "sleep 3.")))
    client = site.client
    assert wait_until(lambda: client.list_run_tasks(id=run_id, status="RUNNING")["items"], 20)
    process = site.server.process
    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == 0
    site.server.start()
    check_history(site, run_id)


@pytest.mark.source("assumed")
def test_an_answered_start_is_never_lost_even_when_the_server_dies_at_once(serve: Any) -> None:
    site = serve()
    workflow_id = site.register(COUNTED)
    started = []
    for _ in range(3):
        started.append(site.start(workflow_id, requestId=f"token-{len(started)}"))
        site.server.kill()
        site.server.start()
    assert [site.start(workflow_id, requestId=f"token-{number}") for number in range(3)] == started
    for run_id in started:
        check_history(site, run_id)
