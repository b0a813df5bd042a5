"""A /tmp of the task's own: of its size, for nobody else, gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_world import NodeWorld, wait_until

pytestmark = pytest.mark.needs("root", "bwrap", "cgroup", "loop")
MIB = 1 << 20


def own(world: NodeWorld, mebibytes: int) -> dict[str, object]:
    return {"image": str(world.place / "scratch" / "1.1.img"), "bytes": mebibytes * MIB}


def loops_of(world: NodeWorld) -> list[str]:
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    return [text for text in (path.read_text() for path in backing) if str(world.place) in text]


@pytest.mark.source("guide")
def test_tmp_is_full_at_its_size_and_the_rest_goes_on(root_world: NodeWorld) -> None:
    ended = root_world.run(
        "head -c 30000000 /dev/zero > /tmp/x; echo $?; echo fits > w.txt && ls -A /tmp",
        local_tmp=own(root_world, 24),
    )
    assert (ended.verdict, ended.stdout) == (("OK", 0), b"1\nx\n")
    assert b"No space left on device" in ended.stderr
    assert 20 * MIB < ended.result["scratch_used_bytes"] <= 24 * MIB


def test_it_takes_nothing_of_the_runs_storage_and_leaves_nothing(root_world: NodeWorld) -> None:
    ended = root_world.run(
        "head -c 5000000 /dev/zero > /tmp/x; df --output=size -B1 /tmp | tail -1", local_tmp=own(root_world, 64)
    )
    assert 50 * MIB < int(ended.stdout) < 64 * MIB
    assert [path.name for path in (root_world.place / "scratch").iterdir()] == []
    assert list((root_world.volume / ".scratch").iterdir()) == []
    wait_until(lambda: loops_of(root_world) == [], "the loop device is let go")
    assert str(root_world.place) not in Path("/proc/self/mountinfo").read_text()


def test_no_device_and_no_setuid_program_works_in_it(root_world: NodeWorld) -> None:
    ended = root_world.run("stat -c %a /tmp; grep ' /tmp ' /proc/self/mountinfo", local_tmp=own(root_world, 24))
    mode, line = ended.stdout.decode().splitlines()
    assert mode == "1777"
    assert "nosuid" in line
    assert "nodev" in line


def test_what_a_killed_supervisor_leaves_is_swept(root_world: NodeWorld) -> None:
    directory = root_world.prepare("echo > /tmp/x; sleep 60", local_tmp=own(root_world, 24))
    process = root_world.supervise(directory)
    wait_until((directory / "running.json").exists, "it runs")
    process.kill()
    process.wait()
    assert root_world.supervise(directory).wait(30) == 0
    assert root_world.ended(directory).result["reason"] == "LOST"
    assert list((root_world.place / "scratch").iterdir()) == []
    wait_until(lambda: loops_of(root_world) == [], "the loop device is let go")


def test_a_task_without_one_notes_none(root_world: NodeWorld) -> None:
    assert root_world.run("true").result["scratch_used_bytes"] is None
