"""The local runner with real supervisors: what it reports, and what survives which death."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from runner_world import CGROUP_PARENT, RunnerWorld

from host_processes import processes_with
from runomics.domain.task import Reason
from runomics.ports import Finding, TaskCapacity
from runomics.runners import bridges
from runomics.runners.local import LocalRunner, find_bwrap
from runomics.runners.node_command import ask_node

pytestmark = pytest.mark.needs("root", "cgroup", "bwrap")

WAIT_FOR_END = (
    "touch /mnt/workflow/began; while [ ! -e /mnt/workflow/end ]; do sleep 0.02; done; echo run >> /mnt/workflow/runs"
)


def test_an_attempt_is_reported_running_once_and_then_ended_once(world: RunnerWorld) -> None:
    listener = world.start(world.prepare("exit 3"))
    end = listener.end()
    assert (listener.heard, end.reason, end.exit_code) == (["running", end], Reason.EXIT, 3)
    assert end.started_ms is not None
    assert end.stopped_ms is not None
    assert 0 <= end.stopped_ms - end.started_ms < 10_000


def test_running_is_reported_while_it_runs(world: RunnerWorld) -> None:
    listener = world.start(world.prepare(WAIT_FOR_END))
    assert listener.running.wait(10)
    assert not listener.ended.is_set()
    (world.volume / "end").touch()
    assert listener.end().reason is Reason.OK


def test_the_spec_gets_what_is_the_runners_to_say(world: RunnerWorld) -> None:
    spec = json.loads((world.prepare("true", pids=7) / "spec.json").read_text())
    assert {
        name: spec[name]
        for name in ("format", "cgroup", "cgroup_parent", "bwrap", "seccomp", "rootless", "pids", "rootfs")
    } == {
        "format": 1,
        "cgroup": "v1",
        "cgroup_parent": CGROUP_PARENT,
        "bwrap": str(find_bwrap()),
        "seccomp": str(world.seccomp),
        "rootless": False,
        "pids": 7,
        "rootfs": None,
    }


def test_two_starts_are_one_execution_and_two_reports(world: RunnerWorld) -> None:
    directory = world.prepare(WAIT_FOR_END)
    listeners = [world.start(directory), world.start(directory)]
    (world.volume / "end").touch()
    assert [listener.end().reason for listener in listeners] == [Reason.OK, Reason.OK]
    assert world.start(directory).end().reason is Reason.OK
    assert (world.volume / "runs").read_text() == "run\n"


def test_many_attempts_at_once_all_end_well(world: RunnerWorld) -> None:
    directories = [world.prepare("true") for _ in range(60)]
    listeners = [world.start(directory) for directory in directories]
    assert {listener.end().reason for listener in listeners} == {Reason.OK}


def test_cancel_ends_a_running_attempt(world: RunnerWorld) -> None:
    directory = world.prepare(WAIT_FOR_END)
    listener = world.start(directory)
    world.wait_for("began")
    world.runner.cancel(directory)
    assert listener.end().reason is Reason.CANCELLED


def test_cancel_right_after_start_is_not_lost(world: RunnerWorld) -> None:
    directories = [world.prepare("sleep 60") for _ in range(10)]
    listeners = []
    for directory in directories:
        listeners.append(world.start(directory))
        world.runner.cancel(directory)
    assert {listener.end().reason for listener in listeners} == {Reason.CANCELLED}


def test_cancel_of_nothing_is_harmless(world: RunnerWorld) -> None:
    world.runner.cancel(world.runner.records(world.run) / "none")
    assert world.start(world.prepare("true")).end().reason is Reason.OK


def test_kill_ends_a_stubborn_attempt_before_it_returns(world: RunnerWorld) -> None:
    marker = f"7{os.getpid()}.{time.monotonic_ns()}"
    directory = world.prepare(
        f"trap '' TERM; touch /mnt/workflow/began; sleep {marker} & sleep {marker} & wait; sleep {marker}"
    )
    listener = world.start(directory)
    world.wait_for("began")
    world.runner.kill(directory)
    assert processes_with(marker) == []
    assert listener.end().reason is Reason.CANCELLED


def test_kill_before_the_start_forbids_it(world: RunnerWorld) -> None:
    directory = world.prepare("touch /mnt/workflow/began")
    world.runner.kill(directory)
    assert world.start(directory).end().reason is Reason.CANCELLED
    assert not (world.volume / "began").exists()


def test_kill_right_after_start_ends_or_forbids(world: RunnerWorld) -> None:
    marker = f"6{os.getpid()}.{time.monotonic_ns()}"
    directories = [world.prepare(f"sleep {marker}") for _ in range(10)]
    listeners = [world.start(directory) for directory in directories]
    for directory in directories:
        world.runner.kill(directory)
    assert processes_with(marker) == []
    assert {listener.end().reason for listener in listeners} == {Reason.CANCELLED}


def test_kill_may_be_repeated_and_asked_of_what_never_was(world: RunnerWorld) -> None:
    directory = world.prepare("true")
    world.start(directory).end()
    world.runner.kill(directory)
    world.runner.kill(directory)
    world.runner.kill(world.runner.records(world.run) / "none")


def test_after_kill_the_volume_can_be_unmounted(world: RunnerWorld) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(world.volume)], check=True)
    try:
        (world.volume / "w").mkdir()
        directory = world.prepare("touch /mnt/workflow/began; sleep 60")
        world.start(directory)
        world.wait_for("began")
        world.runner.kill(directory)
    finally:
        subprocess.run(["umount", str(world.volume)], check=True)


def test_a_killed_supervisor_is_swept_after_and_reported_lost(world: RunnerWorld) -> None:
    marker = f"5{os.getpid()}.{time.monotonic_ns()}"
    directory = world.prepare(f"touch /mnt/workflow/began /tmp/x; sleep {marker} & wait")
    listener = world.start(directory)
    world.wait_for("began")
    os.kill(world.supervisor(directory), signal.SIGKILL)
    assert listener.end().reason is Reason.LOST
    assert processes_with(marker) == []
    assert list((world.volume / ".scratch").iterdir()) == []
    assert list(Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}/*.{directory.stem}.1")) == []


def test_tasks_outlive_the_launcher_and_are_reported(world: RunnerWorld) -> None:
    directory = world.prepare(WAIT_FOR_END)
    listener = world.start(directory)
    world.wait_for("began")
    launcher = world.runner.launcher_pid
    assert launcher is not None
    os.kill(launcher, signal.SIGKILL)
    assert world.start(world.prepare("exit 4")).end().exit_code == 4
    assert world.runner.launcher_pid not in (None, launcher)
    (world.volume / "end").touch()
    assert (listener.end().reason, (world.volume / "runs").read_text()) == (Reason.OK, "run\n")


def test_no_request_is_lost_when_the_launcher_dies_among_them(world: RunnerWorld) -> None:
    directories = [world.prepare(f"echo {number} >> /mnt/workflow/runs") for number in range(40)]
    listeners = []
    for number, directory in enumerate(directories):
        listeners.append(world.start(directory))
        launcher = world.runner.launcher_pid
        if number % 15 == 7 and launcher is not None:
            os.kill(launcher, signal.SIGKILL)
    assert {listener.end().reason for listener in listeners} == {Reason.OK}
    assert sorted(map(int, (world.volume / "runs").read_text().split())) == list(range(40))


def test_a_new_server_adopts_what_runs_and_reports_what_ended_meanwhile(world: RunnerWorld) -> None:
    running, ending = (
        world.prepare(WAIT_FOR_END),
        world.prepare("touch /mnt/workflow/second; while [ ! -e /mnt/workflow/go ]; do sleep 0.02; done"),
    )
    first = [world.start(directory) for directory in (running, ending)]
    world.wait_for("began")
    world.wait_for("second")
    world.runner.close()
    (world.volume / "go").touch()
    descriptor = os.pidfd_open(world.supervisor(ending))
    signal.pidfd_send_signal(descriptor, 0)
    _wait_for_exit(descriptor)
    world.runner = world.new_runner()
    adopted = [world.start(directory) for directory in (running, ending)]
    assert adopted[1].end().reason is Reason.OK
    assert adopted[0].running.wait(10)
    (world.volume / "end").touch()
    assert (adopted[0].end().reason, (world.volume / "runs").read_text()) == (Reason.OK, "run\n")
    assert [listener.ended.is_set() for listener in first] == [False, False]


def test_a_new_server_can_cancel_and_kill_what_an_older_one_started(world: RunnerWorld) -> None:
    cancelled, killed = world.prepare(WAIT_FOR_END), world.prepare("touch /mnt/workflow/second; sleep 60")
    for directory in (cancelled, killed):
        world.start(directory)
    world.wait_for("began")
    world.wait_for("second")
    world.runner.close()
    world.runner = world.new_runner()
    world.runner.cancel(cancelled)
    world.runner.kill(killed)
    assert [world.start(directory).end().reason for directory in (cancelled, killed)] == [
        Reason.CANCELLED,
        Reason.CANCELLED,
    ]


def test_attempts_of_an_earlier_boot_are_lost(world: RunnerWorld) -> None:
    directory = world.prepare("true")
    (directory / "pid").write_text(f"{os.getpid()} 1 another-boot\n")
    assert world.start(directory).end().reason is Reason.LOST


def test_a_claim_torn_by_a_crash_of_the_host_is_lost_too(world: RunnerWorld) -> None:
    directory = world.prepare("true")
    (directory / "pid").touch()
    assert world.start(directory).end().reason is Reason.LOST


def test_a_directory_that_is_gone_ends_lost_and_says_where_to_look(world: RunnerWorld) -> None:
    end = world.start(world.runner.records(world.run) / "gone").end()
    assert (end.reason, "task-launcher.log" in end.message) == (Reason.LOST, True)


def test_a_callback_that_breaks_does_not_stop_the_others(world: RunnerWorld) -> None:
    called = threading.Event()

    def broken(directory: Path, end: object) -> None:
        called.set()
        raise ValueError("broken")

    world.runner.start(world.prepare("true"), broken, broken)
    assert called.wait(10)
    assert world.start(world.prepare("true")).end().reason is Reason.OK


def test_the_launcher_leaves_when_the_server_is_gone(world: RunnerWorld) -> None:
    assert world.start(world.prepare("true")).end().reason is Reason.OK
    launcher = world.runner.launcher_pid
    assert launcher is not None
    descriptor = os.pidfd_open(launcher)
    world.runner.close()
    _wait_for_exit(descriptor)
    world.runner = world.new_runner()


def test_the_capacity_is_what_was_given_and_its_limits_are_hard_here(world: RunnerWorld) -> None:
    runner = LocalRunner(world.data, cgroup_parent=CGROUP_PARENT, cpus=3.5, memory_bytes=1 << 40)
    assert runner.capacity() == TaskCapacity(3.5, 1 << 40, limits_are_soft=False, why_soft="")


def test_doctor_finds_that_containers_overlays_and_limits_work(world: RunnerWorld) -> None:
    findings = world.runner.probe()
    assert all(isinstance(finding, Finding) for finding in findings)
    assert {finding.name: finding.works for finding in findings} == {
        "task container": True,
        "image overlay": True,
        "/tmp of its own (scratchStorageMode LOCAL)": True,
        "task limits (cgroup)": True,
        "task limits (cpu)": True,
        "task limits (processes)": True,
        "users of images (crun)": shutil.which("crun") is not None,
        "network bridges": bridges.problem() is None,
        "process limits": True,
        "inotify watches": True,
    }


def test_doctor_says_what_to_do_when_bubblewrap_does_not_work(world: RunnerWorld) -> None:
    runner = LocalRunner(world.data, cgroup_parent=CGROUP_PARENT, bwrap=Path("/bin/false"))
    container = runner.probe()[0]
    assert (container.works, container.required, "bubblewrap" in container.remedy) == (False, True, True)


def _wait_for_exit(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000)
    os.close(descriptor)


def test_only_snapshots_of_etc_that_no_task_began_with_for_months_are_removed(world: RunnerWorld) -> None:
    assert world.start(world.prepare("true")).end().reason is Reason.OK
    (current,) = (world.data / "host-etc").iterdir()
    old = world.data / "host-etc" / "old"
    old.mkdir()
    os.utime(old, (0, 0))
    world.runner.close()
    world.runner = world.new_runner()
    assert list((world.data / "host-etc").iterdir()) == [current]


def test_a_closed_runner_leaves_no_cgroup_behind(world: RunnerWorld) -> None:
    assert world.start(world.prepare("true")).end().reason is Reason.OK
    deadline = time.monotonic() + 10
    while list(Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}/*")) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    world.runner.close()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{CGROUP_PARENT}")) == []
    world.runner = world.new_runner()


def test_a_new_runner_removes_the_empty_cgroups_of_supervisors_long_dead_and_no_others(world: RunnerWorld) -> None:
    """One that is killed between its result and the removal leaves its cgroup, and nobody sweeps after what has ended."""
    parent = Path("/sys/fs/cgroup/pids") / CGROUP_PARENT
    left, fresh, used = (parent / name for name in ("left", "fresh", "used"))
    for group in (left, fresh, used):
        group.mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "60"])
    (used / "cgroup.procs").write_text(str(sleeper.pid))
    for group in (left, used):
        os.utime(group, (1, 1))
    try:
        world.runner.close()
        world.runner = world.new_runner()
        assert [group.exists() for group in (left, fresh, used)] == [False, True, True]
    finally:
        sleeper.kill()
        sleeper.wait()
        fresh.rmdir()
        used.rmdir()


def test_a_runner_that_has_not_begun_says_so(world: RunnerWorld) -> None:
    with pytest.raises(RuntimeError, match="call begin"):
        LocalRunner(world.data).cancel(world.run)


def test_kill_from_a_callback_is_refused_and_not_waited_for(world: RunnerWorld) -> None:
    answers: list[str] = []
    done = threading.Event()

    def on_end(directory: Path, end: object) -> None:
        try:
            world.runner.kill(directory)
        except RuntimeError as error:
            answers.append(str(error))
        done.set()

    world.runner.start(world.prepare("true"), lambda directory, started_ms: None, on_end)
    assert done.wait(20)
    assert ["callback" in answer for answer in answers] == [True]


@pytest.mark.needs("root", "cgroup", "bwrap")
def test_a_probe_leaves_no_cgroup(short_path: Path) -> None:
    parent = f"runomics-probe-{os.getpid()}"
    assert LocalRunner(short_path, cgroup_parent=parent).probe()
    assert list(Path("/sys/fs/cgroup").glob(f"**/{parent}")) == []


def test_records_of_attempts_are_in_memory_outlive_the_runner_and_are_found_by_the_next(world: RunnerWorld) -> None:
    directory = world.prepare(WAIT_FOR_END)
    world.start(directory)
    world.wait_for("began")
    place = world.runner.records(world.run).parent
    world.runner.close()
    assert os.path.ismount(place)
    world.runner = world.new_runner()
    listener = world.start(directory)
    (world.volume / "end").touch()
    assert (listener.end().reason, (world.volume / "runs").read_text()) == (Reason.OK, "run\n")


def test_records_go_with_their_run_and_the_last_runner_unmounts_what_is_empty(world: RunnerWorld) -> None:
    live, over = (world.runner.records(world.data / "runs" / name) for name in ("live", "over"))
    for directory in (live, over):
        directory.mkdir()
    world.runner.sweep(frozenset({"live"}))
    assert [path.name for path in live.parent.iterdir()] == ["live"]
    world.runner.discard(world.data / "runs" / "live")
    world.runner.close()
    assert not os.path.ismount(live.parent)
    world.runner = world.new_runner()


def test_a_question_to_the_node_folder_that_is_killed_is_asked_once_more(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = f'if [ -e {asked} ]; then echo "[1]"; else touch {asked}; kill -KILL $$; fi'
    assert ask_node(["/bin/bash", "-c", script], 10) == [1]
    with pytest.raises(OSError, match="ended with -9"):
        ask_node(["/bin/bash", "-c", "kill -KILL $$"], 10)
