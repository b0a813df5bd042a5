"""Memory, CPU and process limits of a real attempt, enforced by cgroups or, for a plain user, by sampling."""

from __future__ import annotations

import json
import os

import pytest
from node_world import NodeWorld, cgroup_paths

LIMIT = 64 << 20
EAT = "head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null"


def test_a_task_over_its_memory_ends_oom_with_its_peak_at_the_limit(root_world: NodeWorld) -> None:
    result = root_world.run(f"exec python3 -c 'bytearray({LIMIT * 2})'", memory_bytes=LIMIT).result
    assert (result["reason"], result["exit_code"], result["peak_memory_bytes"], result["oom_kills"]) == (
        "OOM",
        137,
        LIMIT,
        1,
    )
    assert result["limits_are_soft"] is False


def test_oom_is_known_when_only_a_child_was_killed_and_the_task_failed_for_it(root_world: NodeWorld) -> None:
    result = root_world.run(f"{EAT} || exit 5", memory_bytes=LIMIT).result
    assert (result["reason"], result["exit_code"], result["oom_kills"]) == ("OOM", 5, 1)


def test_a_task_that_gets_over_the_kill_of_a_child_is_ok_and_the_kill_is_counted(root_world: NodeWorld) -> None:
    result = root_world.run(f"{EAT}; true", memory_bytes=LIMIT).result
    assert (result["reason"], result["oom_kills"]) == ("OK", 1)


def test_files_in_shared_memory_count_as_the_tasks_memory(root_world: NodeWorld) -> None:
    result = root_world.run("head -c 300000000 /dev/zero > /dev/shm/x", memory_bytes=LIMIT).result
    assert (result["reason"] in ("OOM", "EXIT"), result["peak_memory_bytes"] <= LIMIT) == (True, True)


def test_the_cpu_quota_holds(root_world: NodeWorld) -> None:
    result = root_world.run("while :; do :; done", cpus=0.3, timeout_seconds=1.5, grace_seconds=0).result
    wall_seconds = (result["stopped_ms"] - result["started_ms"]) / 1000
    assert result["reason"] == "TIMEOUT"
    assert result["cpu_seconds"] <= 0.3 * wall_seconds + 0.1


def test_the_number_of_processes_is_limited(root_world: NodeWorld) -> None:
    ended = root_world.run(
        "for i in $(seq 40); do sleep 5 & done; echo all", pids=20, timeout_seconds=10, grace_seconds=0
    )
    assert b"Resource temporarily unavailable" in ended.stderr
    assert ended.result["reason"] != "RUNTIME"


def test_the_cgroups_are_gone_afterwards(root_world: NodeWorld) -> None:
    root_world.run("true")
    assert cgroup_paths(f"{root_world.place.name}.1.1") == []


def test_an_unknown_driver_is_refused_by_name(root_world: NodeWorld) -> None:
    result = root_world.run("true", cgroup="v3").result
    assert (result["reason"], "'v3'" in result["message"]) == ("RUNTIME", True)


def test_without_cgroups_a_task_over_its_memory_is_seen_and_ended(plain_world: NodeWorld) -> None:
    script = f"exec python3 -c 'import signal; x = bytearray({LIMIT * 2}); signal.pause()'"
    result = plain_world.run(script, memory_bytes=LIMIT).result
    assert (result["reason"], result["exit_code"], result["limits_are_soft"]) == ("OOM", 137, True)
    assert result["peak_memory_bytes"] > LIMIT


def test_memory_that_processes_share_is_counted_once(plain_world: NodeWorld) -> None:
    code = (
        "import os, time\\n"
        f"x = bytearray({LIMIT // 2})\\n"
        "children = [os.fork() or (time.sleep(1.2), os._exit(0)) for _ in range(5)]\\n"
        "[os.wait() for _ in children]\\n"
    )
    assert plain_world.run(f"exec python3 -c $'{code}'", memory_bytes=LIMIT).verdict == ("OK", 0)


@pytest.mark.needs("root", "cgroup", "bwrap")
def test_an_inherited_cgroup_is_read_and_not_touched(root_world: NodeWorld) -> None:
    own = f"/sys/fs/cgroup/memory/runomics-test-inherited-{os.getpid()}"
    os.mkdir(own)
    try:
        with open(f"{own}/memory.limit_in_bytes", "w") as file:
            file.write(str(LIMIT))

        def enter() -> None:
            with open(f"{own}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))

        directory = root_world.prepare(f"{EAT} || exit 4", cgroup="inherited")
        assert root_world.supervise(directory, enter).wait(30) == 0
        result = json.loads((directory / "result.json").read_text())
        assert (result["reason"], result["exit_code"], result["oom_kills"]) == ("OOM", 4, 1)
        assert result["peak_memory_bytes"] == pytest.approx(LIMIT, rel=0.01)
    finally:
        os.rmdir(own)
