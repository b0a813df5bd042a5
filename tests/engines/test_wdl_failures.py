"""How runs fail and how they are ended: what result.json says, and how soon."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from engine_world import World, wait_until

pytestmark = pytest.mark.needs("bwrap", "userns")


def test_a_failing_command_names_the_task_its_code_and_the_end_of_its_stderr(world: World) -> None:
    run = world.folder("""
        version 1.0
        task align { command <<<
            for i in $(seq 1 400); do echo "line $i of much text" >&2; done
            echo "fatal: no index" >&2; exit 3 >>> }
        workflow w { call align }""")
    result = world.execute(run)
    assert result.failure is not None
    message = result.failure.pop("message")  # type: ignore[attr-defined]
    assert result.failure == {
        "kind": "task",
        "task_key": "call-align",
        "task_attempt": 1,
        "task_reason": "EXIT",
        "exit_code": 3,
    }
    assert message.startswith("task align failed with exit code 3: line ")
    assert message.endswith("fatal: no index")
    assert len(message) < 1024 + 50


@pytest.mark.parametrize(
    ("answer", "message", "code"),
    [
        (
            {"reason": "TIMEOUT", "exit_code": 143, "message": "60 seconds"},
            "task t ran into its time limit: 60 seconds",
            143,
        ),
        (
            {"reason": "IMAGE", "exit_code": None, "message": "no such image"},
            "the container of task t could not be started: no such image",
            None,
        ),
        ({"reason": "REFUSED", "exit_code": None, "message": "cpus"}, "task t was refused: cpus", None),
        ({"reason": "LOST", "exit_code": None}, "task t could not be run (LOST)", None),
        ({"reason": "OOM", "exit_code": 137}, "task t ran out of memory", 137),
    ],
)
def test_an_end_that_the_service_decided_says_so(
    world: World, answer: dict[str, Any], message: str, code: int | None
) -> None:
    run = world.folder("version 1.0\ntask t { command <<< true >>> runtime { maxRetries: 0 } }\nworkflow w { call t }")
    run.server.decide = lambda submit: answer
    result = world.execute(run)
    expected = {
        "kind": "task",
        "message": message,
        "task_key": "call-t",
        "task_attempt": 1,
        "task_reason": answer["reason"],
    }
    assert result.failure == (expected if code is None else expected | {"exit_code": code})


def test_a_missing_output_names_task_and_output(world: World) -> None:
    run = world.folder(
        'version 1.0\ntask t { command <<< true >>> output { File wanted = "no.txt" } }\nworkflow w { call t }'
    )
    result = world.execute(run)
    assert result.failure == {
        "kind": "engine",
        "message": "task t: File/Directory path not found in task output wanted: no.txt",
    }


@pytest.mark.parametrize(
    "code", ["ln -s /etc/passwd out.txt", "ln -s ../../../../../../etc/passwd out.txt", "ln -s ../command out.txt"]
)
def test_an_output_that_is_a_link_out_of_the_working_directory_is_refused(world: World, code: str) -> None:
    run = world.folder(
        f'version 1.0\ntask t {{ command <<< {code} >>> output {{ File o = "out.txt" }} }}\nworkflow w {{ call t }}'
    )
    result = world.execute(run)
    assert result.failure is not None
    assert "path outside its working directory" in result.failure["message"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 1, "odd": 2}, "check JSON input; unknown input/output: odd"),
        ({}, "check JSON input; missing required inputs/outputs: n"),
        ({"n": "x"}, "check JSON input; couldn't construct 'Int' from \"x\" (in n)"),
    ],
)
@pytest.mark.source("observed")
def test_parameters_that_do_not_fit_are_refused_in_the_words_of_the_service(
    world: World, parameters: dict[str, Any], message: str
) -> None:
    run = world.folder("version 1.0\nworkflow w { input { Int n } output { Int m = n } }")
    result = world.execute(run, parameters=parameters)
    assert result.failure is not None
    assert result.failure["kind"] == "input"
    assert message in result.failure["message"]


def test_an_expression_that_fails_is_located(world: World) -> None:
    run = world.folder(
        "version 1.0\nworkflow w { input { Array[Int] a = [] }\n  Int first = a[0]\n output { Int o = first } }"
    )
    result = world.execute(run)
    assert result.failure is not None
    assert result.failure["kind"] == "engine"
    assert result.failure["message"].startswith("workflow w: (main.wdl Ln 3 Col ")


def test_a_failing_task_ends_its_siblings_and_the_run(world: World) -> None:
    run = world.folder("""
        version 1.0
        task slow { command <<< sleep 60 >>> }
        task bad { command <<< sleep 0.3; exit 9 >>> }
        workflow w { call slow call slow as slower call bad }""")
    result = world.execute(run, seconds=15)
    assert result.failure is not None
    assert result.failure["task_key"] == "call-bad"
    wait_until(lambda: all(task.cancelled for (key, _), task in run.server.tasks.items() if key != "call-bad"))


def test_a_terminated_run_cancels_its_tasks_and_is_cancelled_at_once(world: World) -> None:
    run = world.folder("""
        version 1.0
        task stubborn { input { Int i } command <<< trap '' TERM; sleep 60 >>> }
        workflow w { scatter (i in range(5)) { call stubborn { input: i = i } } }""")
    run.plan()
    ended = world.start(run)
    wait_until(lambda: len(run.server.tasks) == 5)
    asked = time.monotonic()
    world.host.stop(run.path, kill=False)
    assert ended.wait(10)
    took = time.monotonic() - asked
    result = world.host.result(run.path, 1)
    assert result is not None
    assert (result.succeeded, result.cancelled, result.failure) == (False, True, None)
    assert all(task.cancelled for task in run.server.tasks.values())
    assert took < 2.0  # a task that ignores TERM must not hold up the run: measured at 60 ms on an idle machine


def test_a_run_terminated_before_its_first_task_is_cancelled(world: World) -> None:
    run = world.folder("version 1.0\ntask t { command <<< sleep 60 >>> }\nworkflow w { call t }")
    run.plan()
    ended = world.start(run)
    wait_until((run.path / "pid.1").exists)
    world.host.stop(run.path, kill=False)
    assert ended.wait(10)
    result = world.host.result(run.path, 1)
    assert result is not None
    assert result.cancelled


def test_a_killed_run_leaves_no_result(world: World) -> None:
    run = world.folder("version 1.0\ntask t { command <<< sleep 60 >>> }\nworkflow w { call t }")
    run.plan()
    ended = world.start(run)
    wait_until(lambda: bool(run.server.tasks))
    assert world.host.is_alive(run.path)
    world.host.stop(run.path, kill=True)
    assert ended.wait(10)
    assert not world.host.is_alive(run.path)
    assert world.host.result(run.path, 1) is None


def test_open_tasks_are_sent_again_to_a_server_that_comes_back_and_run_once(world: World) -> None:
    run = world.folder("""
        version 1.0
        task wait { input { Int i } command <<< while ! [ -e /mnt/workflow/go ]; do sleep 0.02; done; echo ~{i} >>>
          output { Int o = read_int(stdout()) } }
        workflow w { scatter (i in range(4)) { call wait { input: i = i } } output { Array[Int] all = wait.o } }""")
    run.plan()
    ended = world.start(run)
    wait_until(lambda: len(run.server.tasks) == 4)
    for _ in range(2):
        run.server.close()
        threading.Event().wait(0.1)
        before = {key: task.submits for key, task in run.server.tasks.items()}
        run.server.open()
        wait_until(lambda before=before: all(task.submits > before[key] for key, task in run.server.tasks.items()))  # type: ignore[misc]
    (run.volume / "go").touch()
    assert ended.wait(20)
    result = world.host.result(run.path, 1)
    assert result is not None
    assert result.outputs == {"w.all": [0, 1, 2, 3]}
    assert len(run.server.tasks) == 4


def test_a_task_that_ended_while_the_server_was_away_is_answered_when_it_is_back(world: World) -> None:
    run = world.folder(
        "version 1.0\ntask t { command <<< sleep 0.3; echo done >>> output { String o = read_string(stdout()) } }\n"
        "workflow w { call t output { String o = t.o } }"
    )
    run.plan()
    ended = world.start(run)
    wait_until(lambda: bool(run.server.tasks))
    run.server.close()
    wait_until(lambda: all(task.ended.is_set() for task in run.server.tasks.values()))
    run.server.open()
    assert ended.wait(20)
    result = world.host.result(run.path, 1)
    assert result is not None
    assert result.outputs == {"w.o": "done"}


def test_an_engine_leaves_when_the_server_stays_away_too_long(world: World) -> None:
    run = world.folder("version 1.0\ntask t { command <<< true >>> }\nworkflow w { call t }")
    run.server.close()
    run.plan(gateway_patience_seconds=0.2)
    assert world.start(run).wait(15)
    assert world.host.result(run.path, 1) is None
    assert "the server was away" in run.engine_log


def test_an_engine_leaves_when_its_gateway_is_deleted(world: World) -> None:
    run = world.folder("version 1.0\ntask t { command <<< true >>> }\nworkflow w { call t }")
    run.server.close()
    run.plan()
    ended = world.start(run)
    wait_until(lambda: (run.path / "engine.log").exists() and "workflow start" in run.engine_log)
    run.gateway.rmdir()
    assert ended.wait(15)
    assert world.host.result(run.path, 1) is None


@pytest.mark.source("guide")
def test_a_task_that_times_out_leaves_what_finished_tasks_wrote(world: World) -> None:
    run = world.folder("""
        version 1.0
        task good { command <<< mkdir d; echo 1 > a.txt; echo 2 > d/b.txt >>> output { File a = "a.txt" Array[File] b = glob("d/*") } }
        task slow { input { File a } command <<< true >>> }
        workflow w { call good call slow { input: a = good.a } }""")
    run.server.decide = lambda submit: {"reason": "TIMEOUT", "exit_code": 143} if submit["name"] == "slow" else None
    result = world.execute(run)
    assert result.failure is not None
    assert result.failure["task_reason"] == "TIMEOUT"
    assert [each["target"] for each in result.exports] == ["out/good/a/a.txt", "out/good/b/0/b.txt"]
    assert all((run.volume / each["source"].removeprefix("/mnt/workflow/")).is_symlink() for each in result.exports)


def test_an_ordinary_failure_leaves_nothing_to_export(world: World) -> None:
    run = world.folder("""
        version 1.0
        task good { command <<< echo 1 > a.txt >>> output { File a = "a.txt" } }
        task bad { input { File a } command <<< exit 1 >>> }
        workflow w { call good call bad { input: a = good.a } }""")
    assert list(world.execute(run).exports) == []
