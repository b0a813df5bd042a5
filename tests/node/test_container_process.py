"""A bwrap between its start and its release: whoever dies then, no command runs, and a sweep finds it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from node_world import NodeWorld

from runomics.node import cgroups, processes, spec, volume
from runomics.node.cgroups import Absent
from runomics.node.container_process import MARK, ContainerProcess

LARGE = 300_000


@pytest.fixture
def world(root_world: NodeWorld) -> NodeWorld:
    return root_world


@pytest.fixture
def waiting(world: NodeWorld) -> Iterator[ContainerProcess]:
    """A container of which nobody has said that it may go on."""
    yield from _waiting(world)


def _waiting(world: NodeWorld, **changes: object) -> Iterator[ContainerProcess]:
    directory = world.prepare("echo ran > /mnt/workflow/ran; echo ${#LARGE0} ${#LARGE2}", **changes)
    root = volume.open_volume(str(world.volume))
    container = ContainerProcess(str(directory), spec.read(str(directory)), Absent(), root)
    os.close(root)
    yield container
    container.close()


def _exit_code(container: ContainerProcess) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(container.pid, 0)[1])


def test_it_waits_for_its_release_and_then_runs(world: NodeWorld, waiting: ContainerProcess) -> None:
    assert (os.waitpid(waiting.pid, os.WNOHANG), (world.volume / "ran").exists()) == ((0, 0), False)
    waiting.release(Absent())
    assert (_exit_code(waiting), (world.volume / "ran").read_text()) == (0, "ran\n")


def test_without_its_release_the_command_never_runs(world: NodeWorld, waiting: ContainerProcess) -> None:
    """The death of a supervisor closes the pipe."""
    os.close(waiting._options_pipe)
    assert (_exit_code(waiting), (world.volume / "ran").exists()) == (1, False)
    assert b"bwrap: execvp /bin/bash: No such file" in (world.volume / "w" / "stderr").read_bytes()


def test_a_cgroup_that_cannot_be_entered_ends_it(world: NodeWorld, waiting: ContainerProcess) -> None:
    with pytest.raises(FileNotFoundError):
        waiting.release(cgroups.V2("runomics-test-not-there", "x"))
    assert (_exit_code(waiting), (world.volume / "ran").exists()) == (-signal.SIGKILL, False)


def test_a_sweep_finds_it_by_its_mark(world: NodeWorld, waiting: ContainerProcess) -> None:
    mark = f"{MARK}={world.place.name}.1.1"
    assert processes.kill_those_with_environment(mark)
    assert _exit_code(waiting) == -signal.SIGKILL
    assert not processes.kill_those_with_environment(mark)
    os.close(waiting._options_pipe)


def test_options_larger_than_a_pipe_reach_it_whole(world: NodeWorld) -> None:
    large = {f"LARGE{number}": "x" * (LARGE // 3) for number in range(3)}
    for container in _waiting(world, env=large):
        container.release(Absent())
        assert _exit_code(container) == 0
    assert (world.volume / "w" / "stdout").read_text().split() == [str(LARGE // 3)] * 2


def test_the_mark_is_not_in_the_tasks_environment(world: NodeWorld) -> None:
    assert MARK.encode() not in world.run("", argv=["/usr/bin/env"]).stdout
