"""Streams as files: names, lines, reading on from an offset, and what a crash leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.logs.stream_file import decode_lines, encode_lines
from runomics.logs.streams import FileLogs

ACCOUNT = "123456789012"


def opened(volume: Path, name: str) -> int:
    raise FileNotFoundError(volume / name)


@pytest.fixture
def logs(tmp_path: Path) -> FileLogs:
    return FileLogs(tmp_path, open_beneath=opened, max_bytes_per_task=1000, now_ms=lambda: 5)


@pytest.mark.parametrize(
    ("stream", "file"),
    [
        ("run/1000001", "run/1000001/run.log"),
        ("run/1000001/engine", "run/1000001/engine.log"),
        ("run/1000001/task/1000007", "run/1000001/task-1000007.log"),
        ("manifest/run/1000001/4f8b3c2a-uuid", "manifest/run/1000001/4f8b3c2a-uuid.log"),
    ],
)
def test_every_stream_has_its_file(logs: FileLogs, tmp_path: Path, stream: str, file: str) -> None:
    logs.append(ACCOUNT, stream, [(1764000000000, "hello")])
    assert (tmp_path / ACCOUNT / file).read_bytes() == b"1764000000000\thello\n"


@pytest.mark.parametrize(
    "stream", ["", "run/../../etc", "run//x", "/run/1", "run/.", "run/a b", "run/1\n", "run/" + "1" * 200]
)
def test_a_name_that_is_no_stream_is_refused(logs: FileLogs, tmp_path: Path, stream: str) -> None:
    with pytest.raises(ValueError, match="no name of a log stream"):
        logs.append(ACCOUNT, stream, [(1, "x")])
    with pytest.raises(ValueError, match="no name of a log stream"):
        logs.read("../" + ACCOUNT, "run/1", 0, 10)
    assert list(tmp_path.iterdir()) == []


def test_accounts_do_not_see_each_other(logs: FileLogs) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "mine")])
    assert logs.read("210987654321", "run/1", 0, 100) == ([], 0)


def test_a_text_stays_one_line_whatever_is_in_it(logs: FileLogs) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "a\nb"), (2, "c\r\nd\0e\rf"), (3, ""), (4, "tab\tand é"), (5, "\udcff")])
    assert logs.read(ACCOUNT, "run/1", 0, 1000)[0] == [
        (1, "a\\nb"),
        (2, "c\\nd\\0e\\rf"),
        (3, ""),
        (4, "tab\tand é"),
        (5, "\\udcff"),
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**13), st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
        )
    )
)
def test_what_has_no_line_end_comes_back_as_it_was(lines: list[tuple[int, str]]) -> None:
    assert decode_lines(encode_lines(lines)) == lines


def test_reading_goes_on_where_it_stopped_and_gives_whole_lines(logs: FileLogs) -> None:
    lines = [(number, "x" * number) for number in range(1, 50)]
    logs.append(ACCOUNT, "run/1", lines)
    for limit in (1, 7, 64, 10_000):
        seen: list[tuple[int, str]] = []
        offset = 0
        while True:
            more, after = logs.read(ACCOUNT, "run/1", offset, limit)
            if not more:
                break
            seen += more
            offset = after
        assert seen == lines
        assert logs.read(ACCOUNT, "run/1", offset, limit) == ([], offset)
        logs.append(ACCOUNT, "run/1", [(99, "new")])
        assert logs.read(ACCOUNT, "run/1", offset, limit)[0] == [(99, "new")]
        lines.append((99, "new"))


def test_an_offset_that_is_no_line_start_moves_on_to_one(logs: FileLogs) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "first"), (2, "second")])
    assert logs.read(ACCOUNT, "run/1", 3, 100) == ([(2, "second")], 17)
    assert logs.read(ACCOUNT, "run/1", 8, 100) == ([(2, "second")], 17)
    assert logs.read(ACCOUNT, "run/1", 16, 100) == ([], 17)
    assert logs.read(ACCOUNT, "run/1", 4000, 100) == ([], 17)


def test_a_line_longer_than_asked_for_still_comes_whole(logs: FileLogs) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "y" * 300_000), (2, "z")])
    assert logs.read(ACCOUNT, "run/1", 0, 10) == ([(1, "y" * 300_000)], 300_003)


def test_a_line_being_written_is_not_there_yet(logs: FileLogs, tmp_path: Path) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "whole")])
    with (tmp_path / ACCOUNT / "run/1/run.log").open("ab") as file:
        file.write(b"2\tha")
    assert logs.read(ACCOUNT, "run/1", 0, 100) == ([(1, "whole")], 8)
    assert logs.read(ACCOUNT, "run/1", 8, 100) == ([], 8)
    assert logs.tail(ACCOUNT, "run/1", 5) == [(1, "whole")]


def test_a_piece_of_a_line_that_a_crash_left_is_overwritten(logs: FileLogs, tmp_path: Path) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "whole")])
    with (tmp_path / ACCOUNT / "run/1/run.log").open("ab") as file:
        file.write(b"2\tha")
    logs.append(ACCOUNT, "run/1", [(3, "after the crash")])
    assert logs.read(ACCOUNT, "run/1", 0, 100)[0] == [(1, "whole"), (3, "after the crash")]


@pytest.mark.parametrize("count", [0, 1, 3, 999, 5000, 6000])
def test_the_tail_is_the_last_lines(logs: FileLogs, count: int) -> None:
    lines = [(number, "x" * (number % 97)) for number in range(5000)]
    logs.append(ACCOUNT, "run/1", lines)
    assert logs.tail(ACCOUNT, "run/1", count) == lines[len(lines) - min(count, 5000) :]
    assert logs.tail(ACCOUNT, "run/2", count) == []


def test_appends_of_many_threads_are_all_there_and_unbroken(logs: FileLogs) -> None:
    def write(name: int) -> None:
        for number in range(50):
            logs.append(ACCOUNT, "run/1", [(number, f"{name}-{number}-{'x' * 500}")])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = logs.read(ACCOUNT, "run/1", 0, 10_000_000)[0]
    assert sorted(lines) == sorted(
        (number, f"{name}-{number}-{'x' * 500}") for name in range(8) for number in range(50)
    )


def test_a_full_disk_loses_the_line_and_leaves_no_piece_of_it(logs: FileLogs, tmp_path: Path) -> None:
    logs.append(ACCOUNT, "run/1", [(1, "before")])
    script = (
        "import resource, signal, sys; from pathlib import Path; from runomics.logs.streams import FileLogs\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "logs = FileLogs(Path(sys.argv[1]), open_beneath=None, max_bytes_per_task=1, now_ms=lambda: 1)\n"
        f"try: logs.append('{ACCOUNT}', 'run/1', [(2, 'y' * 500)])\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "27\n"
    assert os.path.getsize(tmp_path / ACCOUNT / "run/1/run.log") == 9
    assert logs.read(ACCOUNT, "run/1", 0, 100)[0] == [(1, "before")]
