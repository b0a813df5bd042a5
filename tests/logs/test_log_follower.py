"""Following what tasks print: every line once, in order, in time, whatever is printed and whoever is killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.logs.follower import LINE_BYTES, stamped, whole_part
from runomics.logs.streams import FileLogs
from runomics.sandbox.volume_path import open_beneath

ACCOUNT = "123456789012"
TASK = "run/1/task/7"
MIB = 1024**2


def for_reading(volume: Path, name: str) -> int:
    return open_beneath(volume, name, os.O_RDONLY | os.O_NONBLOCK)


def made(root: Path, max_bytes: int = 256 * MIB) -> FileLogs:
    return FileLogs(
        root / "logs",
        open_beneath=for_reading,
        max_bytes_per_task=max_bytes,
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[FileLogs]:
    (tmp_path / "volume" / "call").mkdir(parents=True)
    following = made(tmp_path)
    yield following
    following.close()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


def follow(logs: FileLogs, volume: Path) -> None:
    logs.follow_task(ACCOUNT, TASK, volume, "call/stdout", "call/stderr")


def texts(logs: FileLogs) -> list[str]:
    lines: list[str] = []
    offset = 0
    while True:
        more, offset = logs.read(ACCOUNT, TASK, offset, 8 * MIB)
        if not more:
            return lines
        lines += [text for _, text in more]


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


def test_what_a_task_prints_is_in_its_stream_within_a_second(logs: FileLogs, volume: Path) -> None:
    follow(logs, volume)
    (volume / "call/stdout").write_bytes(b"one\ntwo\n")
    until(lambda: texts(logs) == ["one", "two"], 1.5)
    with (volume / "call/stderr").open("ab") as stderr:
        stderr.write(b"three\n")
    until(lambda: texts(logs) == ["one", "two", "three"], 1.5)


def test_the_times_are_those_of_writing_and_never_go_back(logs: FileLogs, volume: Path) -> None:
    (volume / "call/stdout").write_bytes(b"early\n")
    os.utime(volume / "call/stdout", ns=(0, 1_600_000_000_000 * 1_000_000))
    (volume / "call/stderr").write_bytes(b"forged\n")
    os.utime(volume / "call/stderr", ns=(0, 9_600_000_000_000 * 1_000_000))
    follow(logs, volume)
    logs.end_task(ACCOUNT, TASK)
    lines = logs.read(ACCOUNT, TASK, 0, MIB)[0]
    assert lines[0] == (1_600_000_000_000, "early")
    assert lines[1][1] == "forged"
    assert abs(lines[1][0] - time.time() * 1000) < 10_000


def test_the_end_takes_in_what_is_left_and_a_last_line_without_end(logs: FileLogs, volume: Path) -> None:
    follow(logs, volume)
    (volume / "call/stdout").write_bytes(b"line\nno end")
    assert logs.end_task(ACCOUNT, TASK) is True
    assert texts(logs) == ["line", "no end"]


@pytest.mark.source("guide")
def test_a_task_that_prints_nothing_has_no_line(logs: FileLogs, volume: Path) -> None:
    follow(logs, volume)
    (volume / "call/stdout").touch()
    assert logs.end_task(ACCOUNT, TASK) is False
    assert logs.end_task(ACCOUNT, "run/1/task/8") is False
    assert logs.read(ACCOUNT, TASK, 0, 100) == ([], 0)


def test_following_and_ending_twice_changes_nothing(logs: FileLogs, volume: Path) -> None:
    (volume / "call/stdout").write_bytes(b"a\nb\n")
    for _ in range(3):
        follow(logs, volume)
        follow(logs, volume)
        assert logs.end_task(ACCOUNT, TASK) is True
        assert logs.end_task(ACCOUNT, TASK) is True
    assert texts(logs) == ["a", "b"]


def test_one_file_for_both_is_read_once(logs: FileLogs, volume: Path) -> None:
    (volume / "call/both").write_bytes(b"a\n")
    logs.follow_task(ACCOUNT, TASK, volume, "call/both", "call/both")
    logs.end_task(ACCOUNT, TASK)
    assert texts(logs) == ["a"]


def test_no_file_of_the_volume_is_open_after_the_end(logs: FileLogs, volume: Path) -> None:
    def held() -> list[str]:
        return [path for path in map(_target, os.listdir("/proc/self/fd")) if path.startswith(str(volume))]

    def _target(descriptor: str) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return ""

    (volume / "call/stdout").write_bytes(b"a\n")
    follow(logs, volume)
    until(lambda: texts(logs) == ["a"])
    assert held() != []
    logs.end_task(ACCOUNT, TASK)
    assert held() == []


def test_hundreds_of_streams_are_followed_without_holding_their_files(
    tmp_path: Path, logs: FileLogs, volume: Path
) -> None:
    for number in range(400):
        (volume / f"out{number}").write_bytes(b"%d\n" % number)
        logs.follow_task(ACCOUNT, f"run/1/task/{number}", volume, f"out{number}", f"err{number}")
    until(lambda: all(logs.read(ACCOUNT, f"run/1/task/{number}", 0, 100)[0] for number in range(400)))
    until(lambda: len(os.listdir("/proc/self/fd")) < 350)
    assert all(logs.end_task(ACCOUNT, f"run/1/task/{number}") for number in range(400))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "real"])
def test_a_link_in_place_of_an_output_file_is_not_followed(
    logs: FileLogs, volume: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret\n")
    (volume / "call/real").write_bytes(b"secret too\n")
    (volume / "call/stdout").symlink_to(target)
    (volume / "call/stderr").write_bytes(b"fine\n")
    follow(logs, volume)
    logs.end_task(ACCOUNT, TASK)
    assert texts(logs) == ["fine"]


def test_a_pipe_in_place_of_an_output_file_blocks_nobody(logs: FileLogs, volume: Path) -> None:
    os.mkfifo(volume / "call/stdout")
    (volume / "call/stderr").write_bytes(b"fine\n")
    follow(logs, volume)
    assert logs.end_task(ACCOUNT, TASK) is True
    assert texts(logs) == ["fine"]


def test_an_engine_log_is_followed_like_a_task(logs: FileLogs, tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_bytes(b"starting\n")
    logs.follow_engine(ACCOUNT, "run/1/engine", tmp_path / "engine.log")
    with (tmp_path / "engine.log").open("ab") as file:
        file.write(b"done\n")
    assert logs.end_engine(ACCOUNT, "run/1/engine") is True
    assert [text for _, text in logs.read(ACCOUNT, "run/1/engine", 0, 1000)[0]] == ["starting", "done"]


def test_lines_from_elsewhere_find_their_place_in_a_followed_stream(
    logs: FileLogs, volume: Path, tmp_path: Path
) -> None:
    (volume / "call/stdout").write_bytes(b"printed 1\n")
    follow(logs, volume)
    until(lambda: texts(logs) == ["printed 1"])
    logs.append(ACCOUNT, TASK, [(1, "told 1")])
    with (volume / "call/stdout").open("ab") as file:
        file.write(b"printed 2\n")
    logs.end_task(ACCOUNT, TASK)
    logs.append(ACCOUNT, TASK, [(1, "told 2")])
    expected = ["printed 1", "told 1", "printed 2", "told 2"]
    assert texts(logs) == expected
    again = made(tmp_path)
    follow(again, volume)
    again.end_task(ACCOUNT, TASK)
    again.close()
    assert texts(logs) == expected


def test_a_server_that_only_ends_a_stream_still_takes_in_the_rest(logs: FileLogs, volume: Path, tmp_path: Path) -> None:
    (volume / "call/stdout").write_bytes(b"before\n")
    follow(logs, volume)
    until(lambda: texts(logs) == ["before"])
    logs.close()
    with (volume / "call/stdout").open("ab") as file:
        file.write(b"while nobody looked\n")
    later = made(tmp_path)
    assert later.end_task(ACCOUNT, TASK) is True
    assert texts(later) == ["before", "while nobody looked"]


def test_a_server_that_only_ends_a_stream_takes_in_what_came_after_silence(
    logs: FileLogs, volume: Path, tmp_path: Path
) -> None:
    follow(logs, volume)
    until(lambda: (tmp_path / "logs" / ACCOUNT / "run/1/task-7.cursor").exists())
    logs.close()
    (volume / "call/stdout").write_bytes(b"while nobody looked\n")
    later = made(tmp_path)
    assert later.end_task(ACCOUNT, TASK) is True
    assert texts(later) == ["while nobody looked"]


def test_a_task_that_ends_before_the_first_look_and_says_nothing_leaves_no_file(
    logs: FileLogs, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runomics.logs.follower._SOONEST_SECONDS", 60.0)
    (volume / "call/stdout").touch()
    follow(logs, volume)
    assert logs.end_task(ACCOUNT, TASK) is False
    assert not (tmp_path / "logs").exists()


# ---- text --------------------------------------------------------------------------------------------------------


def test_a_progress_bar_is_one_line_as_last_seen(logs: FileLogs, volume: Path) -> None:
    (volume / "call/stdout").write_bytes(b"start\r\n 10%\r 20%\r100%\nend\r\n")
    follow(logs, volume)
    logs.end_task(ACCOUNT, TASK)
    assert texts(logs) == ["start", "100%", "end"]


def test_a_progress_bar_without_line_end_shows_while_it_moves(logs: FileLogs, volume: Path) -> None:
    follow(logs, volume)
    with (volume / "call/stdout").open("ab", buffering=0) as file:
        for percent in range(60):
            file.write(b"\r%d%%" % percent)
            threading.Event().wait(0.03)
        seen = texts(logs)
        assert 1 <= len(seen) <= 6
        assert all(text.endswith("%") for text in seen)
    logs.end_task(ACCOUNT, TASK)
    assert texts(logs)[-1] == "59%"


def test_what_is_no_text_is_replaced_and_nuls_are_escaped() -> None:
    assert stamped(b"caf\xe9 \0 \xff\nok\n", 5) == "5\tcaf\ufffd \\0 \ufffd\n5\tok\n".encode()


def test_a_line_without_end_is_cut_at_the_largest_event_and_within_no_character() -> None:
    data = b"x" + "é".encode() * LINE_BYTES
    count = whole_part(data[:LINE_BYTES], finish=False, progress=False)
    assert count == LINE_BYTES - 1
    data[:count].decode()


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_a_part_is_whole_lines_or_waits(data: bytes, finish: bool, progress: bool) -> None:
    count = whole_part(data, finish=finish, progress=progress)
    assert 0 <= count <= len(data)
    if b"\n" in data:
        assert data[:count].endswith(b"\n")
        assert b"\n" not in data[count:]
    elif finish:
        assert count == len(data)


@given(st.binary(max_size=300))
def test_stamped_output_has_a_time_before_every_line(data: bytes) -> None:
    lines = stamped(data, 17).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == data.removesuffix(b"\n").count(b"\n") + 1
    assert all(line.startswith(b"17\t") for line in lines)
    for line in lines:
        line.decode()


# ---- much of it --------------------------------------------------------------------------------------------------


def test_a_stream_is_cut_off_at_its_limit_with_one_line_that_says_so(tmp_path: Path, volume: Path) -> None:
    (volume / "call").mkdir(parents=True)
    (volume / "call/stdout").write_bytes(b"0123456789\n" * 1000)
    logs = made(tmp_path, max_bytes=500)
    follow(logs, volume)
    logs.end_task(ACCOUNT, TASK)
    once = texts(logs)
    assert once == ["0123456789"] * 20 + ["[The log is longer than 500 bytes: the rest is not kept.]"]
    with (volume / "call/stdout").open("ab") as file:
        file.write(b"more\n")
    follow(logs, volume)
    logs.end_task(ACCOUNT, TASK)
    logs.close()
    assert texts(logs) == once


def test_a_hundred_megabytes_are_taken_in_whole_and_keep_no_other_stream_waiting(
    logs: FileLogs, volume: Path, tmp_path: Path
) -> None:
    line = b"x" * 99 + b"\n"
    (volume / "call/stdout").write_bytes(line * MIB)
    (volume / "small").write_bytes(b"")
    logs.follow_task(ACCOUNT, "run/1/task/8", volume, "small", "small-err")
    follow(logs, volume)
    worst = 0.0
    ending = threading.Thread(target=logs.end_task, args=(ACCOUNT, TASK))
    ending.start()
    shown = 0
    while ending.is_alive():
        with (volume / "small").open("ab") as file:
            file.write(b"tick\n")
        begun = time.monotonic()
        shown += 1
        until(lambda: len(logs.read(ACCOUNT, "run/1/task/8", 0, MIB)[0]) >= shown)  # noqa: B023
        worst = max(worst, time.monotonic() - begun)
    ending.join()
    assert worst < 2.0
    digest = hashlib.sha256()
    count = 0
    with (tmp_path / "logs" / ACCOUNT / "run/1/task-7.log").open("rb") as stream:
        for stored in stream:
            count += 1
            digest.update(stored.partition(b"\t")[2])
    assert count == MIB
    assert digest.hexdigest() == hashlib.sha256(line * MIB).hexdigest()


# ---- crashes -----------------------------------------------------------------------------------------------------

SERVER = """
import os, sys, time
from pathlib import Path
from runomics.logs.streams import FileLogs
from runomics.sandbox.volume_path import open_beneath

root = Path(sys.argv[1])
logs = FileLogs(root / "logs", open_beneath=lambda v, n: open_beneath(v, n, os.O_RDONLY | os.O_NONBLOCK),
                max_bytes_per_task=1 << 28, now_ms=lambda: time.time_ns() // 1_000_000)
logs.follow_task("123456789012", "run/1/task/7", root / "volume", "call/stdout", "call/stderr")
print("following", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killing_the_server_again_and_again_loses_and_doubles_no_line(tmp_path: Path, volume: Path, seed: int) -> None:
    chance = random.Random(seed)
    (volume / "call").mkdir(parents=True)
    files = {name: (volume / "call" / name).open("ab", buffering=0) for name in ("stdout", "stderr")}
    written: dict[str, list[str]] = {"stdout": [], "stderr": []}
    stop = threading.Event()

    def task() -> None:
        number = 0
        while not stop.wait(0.0005):
            name = chance.choice(("stdout", "stderr"))
            lines = [
                f"{name} {number + extra} {'y' * chance.randrange(2000)}" for extra in range(chance.randrange(1, 40))
            ]
            number += len(lines)
            data = "".join(f"{line}\n" for line in lines).encode()
            cut = chance.randrange(len(data))
            files[name].write(data[:cut])
            files[name].write(data[cut:])
            written[name] += lines

    writer = threading.Thread(target=task)
    writer.start()
    for _ in range(8):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"following\n"
        threading.Event().wait(chance.random() * 0.4)
        server.send_signal(signal.SIGKILL)
        server.communicate()
    stop.set()
    writer.join()
    for file in files.values():
        file.close()
    logs = made(tmp_path)
    logs.end_task(ACCOUNT, TASK)
    logs.close()
    seen = texts(logs)
    assert len(seen) == len(written["stdout"]) + len(written["stderr"]) > 1000
    for name, lines in written.items():
        assert [text for text in seen if text.startswith(name)] == lines
    assert len(seen) == len(set(seen))
