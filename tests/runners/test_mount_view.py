"""Tasks start from a namespace without the volumes of other runs, and nobody is kept from unmounting any."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner_world import RunnerWorld

from runomics.domain.task import Reason
from runomics.run_storage import prepare_shared_mount

pytestmark = [pytest.mark.needs("root", "bwrap")]


def _mount_volume(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "volume", path], check=True)


@pytest.fixture
def volumes() -> Iterator[RunnerWorld]:
    """A world whose run has a volume that is a mount, beside one of another run; the launcher is older than one of them."""
    world = RunnerWorld()
    runs = world.data / "runs"
    prepare_shared_mount(runs)
    _mount_volume(runs / "early" / "volume")
    world.runner.close()
    world.runner = world.new_runner()
    _mount_volume(world.volume)
    _mount_volume(runs / "late" / "volume")
    (world.volume / "w").mkdir()
    yield world
    for name in (world.volume, runs / "early" / "volume", runs / "late" / "volume"):
        subprocess.run(["umount", name], check=False)
    subprocess.run(["umount", runs], check=True)
    world.close()


def _mount_points(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines}


def test_a_task_has_its_own_volume_and_starts_without_those_of_others(volumes: RunnerWorld) -> None:
    directory = volumes.prepare("", argv=["/bin/bash", "-c", "mkfifo p; echo > began; read < p"])
    listener = volumes.start(directory)
    volumes.wait_for("w/began")
    supervisor = volumes.supervisor(directory)
    (bwrap,) = map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split())
    own, runs = str(volumes.volume), volumes.data / "runs"
    assert {point for point in _mount_points(bwrap) if point.startswith(f"{runs}/")} == {own}
    assert {point for point in _mount_points(bwrap) if point.startswith("/sys")} == set()
    with open(volumes.volume / "w" / "p", "w") as pipe:
        pipe.write("\n")
    assert listener.end().reason == Reason.OK


def test_a_supervisor_goes_back_to_the_hosts_namespace(volumes: RunnerWorld) -> None:
    directory = volumes.prepare("", argv=["/bin/bash", "-c", "mkfifo p; echo > began; read < p"])
    listener = volumes.start(directory)
    volumes.wait_for("w/began")
    supervisor = volumes.supervisor(directory)
    assert os.readlink(f"/proc/{supervisor}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    launcher = volumes.runner.launcher_pid
    assert os.readlink(f"/proc/{launcher}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    with open(volumes.volume / "w" / "p", "w") as pipe:
        pipe.write("\n")
    assert listener.end().reason == Reason.OK


def test_a_volume_goes_when_its_tasks_have_ended_while_others_run_on(volumes: RunnerWorld) -> None:
    """Its file system ends with the unmount: a copy of the mount anywhere would keep it."""
    late = volumes.data / "runs" / "late" / "volume"
    other = volumes.prepare("", argv=["/bin/bash", "-c", "mkfifo p; echo > began; read < p"])
    others_listener = volumes.start(other)
    volumes.wait_for("w/began")
    number = os.stat(late).st_dev
    subprocess.run(["umount", late], check=True)
    seen = {line.split()[2] for pid in _all_processes() for line in _mountinfo(pid)}
    assert f"{os.major(number)}:{os.minor(number)}" not in seen
    with open(volumes.volume / "w" / "p", "w") as pipe:
        pipe.write("\n")
    assert others_listener.end().reason == Reason.OK


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _mountinfo(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
