"""One attempt from claim to result, run for real by the packed archive."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from node_world import NodeWorld, cgroup_paths, wait_until

from host_processes import processes_with


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("true", ("OK", 0)),
        ("exit 3", ("EXIT", 3)),
        ("kill -SEGV $$", ("EXIT", 139)),
        ("kill -KILL $$", ("EXIT", 137)),
    ],
)
def test_the_exit_code_is_the_commands(world: NodeWorld, script: str, verdict: tuple[str, int]) -> None:
    assert world.run(script).verdict == verdict


def test_a_command_that_is_not_there_is_the_tasks_fault(world: NodeWorld) -> None:
    ended = world.run("", argv=["/bin/not-there"])
    assert ended.verdict == ("EXIT", 127)
    assert "/bin/not-there" in ended.result["message"]


def test_a_missing_working_directory_is_a_runtime_failure_in_bubblewraps_words(world: NodeWorld) -> None:
    ended = world.run("true", cwd="/mnt/workflow/gone")
    assert (ended.verdict, ended.result["message"]) == (
        ("RUNTIME", None),
        "bwrap: Can't chdir to /mnt/workflow/gone: No such file or directory",
    )


def test_a_broken_spec_ends_the_attempt_with_its_reason(world: NodeWorld) -> None:
    directory = world.prepare("true")
    (directory / "spec.json").write_text('{"format": 99}')
    world.supervise(directory).wait()
    result = world.ended(directory).result
    assert (result["reason"], "format 99" in result["message"]) == ("RUNTIME", True)


def test_the_environment_is_the_specs_over_three_defaults_and_nothing_of_the_host(world: NodeWorld) -> None:
    ended = world.run("", argv=["/usr/bin/env"], env={"HOME": "/mnt/workflow", "A": "é\n=", "LD_PRELOAD": ""})
    assert sorted(ended.stdout.decode().split("\n")) == sorted(
        [
            "A=é", "=", "HOME=/mnt/workflow", "LD_PRELOAD=", "PWD=/mnt/workflow/w", "TMPDIR=/tmp", "",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    )  # fmt: skip


def test_standard_input_may_be_a_link_among_the_inputs(world: NodeWorld) -> None:
    (world.inputs / "reads").write_text("acgt")
    (world.volume / "w" / "link").symlink_to("/mnt/workflow/inputs/reads")
    world.give(world.inputs)
    assert world.run("cat", stdin="/mnt/workflow/w/link").stdout == b"acgt"


def test_output_of_100_mb_arrives_whole(world: NodeWorld) -> None:
    ended = world.run("head -c 100000000 /dev/zero")
    assert (ended.verdict, len(ended.stdout)) == (("OK", 0), 100_000_000)


def test_both_outputs_may_be_one_file_in_order(world: NodeWorld) -> None:
    assert world.run("echo a; echo b >&2; echo c", stderr="w/stdout").stdout == b"a\nb\nc\n"


def test_tmp_and_home_lie_on_the_volume_and_are_gone_afterwards(world: NodeWorld) -> None:
    ended = world.run(
        "touch /tmp/x ~/y && stat -c %d /tmp /root /mnt/workflow && stat -c %a /tmp && df --output=target /tmp | tail -1"
    )
    devices = ended.stdout.decode().split()
    assert (ended.verdict, len(set(devices[:3])), devices[3]) == (("OK", 0), 1, "1777")
    assert list((world.volume / ".scratch").iterdir()) == []


def test_shared_memory_is_as_large_as_the_tasks_memory(world: NodeWorld) -> None:
    assert world.run("df --output=size -B1 /dev/shm | tail -1").stdout.strip() == str(256 << 20).encode()


def test_the_records_tell_when_it_ran_and_what_it_used(world: NodeWorld) -> None:
    before_ms = int(time.time() * 1000)
    directory = world.prepare("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    world.supervise(directory).wait()
    result = world.ended(directory).result
    running = json.loads((directory / "running.json").read_text())
    assert before_ms <= result["started_ms"] <= result["stopped_ms"] <= time.time() * 1000
    assert running == {"format": 1, "started_ms": result["started_ms"]}
    assert 0.1 < result["cpu_seconds"] < 10
    assert 1 << 19 < result["peak_memory_bytes"] < 100 << 20
    assert sum(cpu for _, cpu, _, _ in result["usage"]) == pytest.approx(result["cpu_seconds"], abs=0.001)
    assert [minute % 60_000 for minute, _, _, _ in result["usage"]] == [0] * len(result["usage"])
    assert result["limits_are_soft"] is world.plain


def test_a_time_limit_ends_a_task_that_ignores_term_after_the_grace(world: NodeWorld) -> None:
    ended = world.run("trap '' TERM; while :; do sleep 0.1; done", timeout_seconds=0.5, grace_seconds=0.5)
    took_ms = ended.result["stopped_ms"] - ended.result["started_ms"]
    assert (ended.verdict, ended.result["message"]) == (("TIMEOUT", 137), "ended at its time limit of 0.5 s")
    assert 1000 <= took_ms < 3000


def test_a_task_gets_term_and_may_tidy_up(world: NodeWorld) -> None:
    ended = world.run("trap 'echo tidied; exit 7' TERM; while :; do sleep 0.05; done", timeout_seconds=0.5)
    assert (ended.verdict, ended.stdout) == (("TIMEOUT", 7), b"tidied\n")


def test_cancelling_ends_the_task_within_a_second(world: NodeWorld) -> None:
    directory = world.prepare(f"{world.say('began')}; sleep 60")
    supervisor = world.supervise(directory)
    world.wait_for("began")
    asked = time.monotonic()
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(10) == 0
    assert world.ended(directory).verdict == ("CANCELLED", 143)
    assert time.monotonic() - asked < 1


def test_ending_at_once_leaves_no_time_to_tidy_up(world: NodeWorld) -> None:
    directory = world.prepare(f"trap 'echo tidied' TERM; {world.say('began')}; while :; do sleep 0.05; done")
    supervisor = world.supervise(directory)
    world.wait_for("began")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(10) == 0
    ended = world.ended(directory)
    assert (ended.verdict, ended.stdout) == (("CANCELLED", 137), b"")


def test_a_cancel_that_comes_before_the_start_is_not_lost(world: NodeWorld) -> None:
    directory = world.prepare(world.say("began"))

    def blocked_and_pending() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    assert world.supervise(directory, blocked_and_pending).wait(10) == 0
    result = world.ended(directory).result
    assert (result["reason"], result["started_ms"]) == ("CANCELLED", None)
    assert not (world.volume / "began").exists()


def test_what_a_task_leaves_in_the_background_ends_with_it(world: NodeWorld) -> None:
    marker = f"9{os.getpid()}.{time.monotonic_ns()}"
    assert world.run(f"(setsid sleep {marker} &) ; true").verdict == ("OK", 0)
    assert processes_with(marker) == []


def test_a_second_supervisor_leaves_the_attempt_to_the_first(world: NodeWorld) -> None:
    directory = world.prepare(
        f"echo run >> /mnt/workflow/runs; {world.say('began')}; while [ ! -e /mnt/workflow/end ]; do sleep 0.02; done"
    )
    first = world.supervise(directory)
    world.wait_for("began")
    assert world.supervise(directory).wait(10) == 0
    assert not (directory / "result.json").exists()
    (world.volume / "end").touch()
    assert first.wait(10) == 0
    assert world.supervise(directory).wait(10) == 0
    assert (world.ended(directory).verdict, (world.volume / "runs").read_text()) == (("OK", 0), "run\n")


def test_after_a_killed_supervisor_the_next_one_sweeps_and_says_lost(world: NodeWorld) -> None:
    marker = f"8{os.getpid()}.{time.monotonic_ns()}"
    directory = world.prepare(f"echo x > /tmp/x; {world.say('began')}; sleep {marker} & wait")
    first = world.supervise(directory)
    world.wait_for("began")
    pid = int((directory / "pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    first.wait(10)
    assert world.supervise(directory).wait(10) == 0
    result = world.ended(directory).result
    assert (result["reason"], result["exit_code"], result["started_ms"] > 0) == ("LOST", None, True)
    wait_until(lambda: processes_with(marker) == [], "the task's processes to be gone")
    assert list((world.volume / ".scratch").iterdir()) == []
    assert cgroup_paths(f"{world.place.name}.1.1") == []
    assert sorted(path.name for path in directory.iterdir()) == [
        "pid",
        "result.json",
        "running.json",
        "runtime.log",
        "spec.json",
    ]


def test_an_attempt_claimed_for_nobody_never_runs(world: NodeWorld) -> None:
    directory = world.prepare(world.say("began"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (directory / "pid").write_text(f"0 0 {boot}\n")
    world.give(directory)
    assert world.supervise(directory).wait(10) == 0
    assert world.ended(directory).verdict == ("CANCELLED", None)
    assert not (world.volume / "began").exists()
