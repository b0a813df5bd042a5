"""What is drawn of a run: one row per call on a terminal, one line per change elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from runomics.cli.watch import LiveTable, PlainLines, Snapshot, Task, bytes_text, drawing, screen_for, seconds_text

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def task(task_id: str, name: str, status: str, seconds: float | None = None) -> Task:
    stop = None if seconds is None else START + timedelta(seconds=seconds)
    return Task(task_id, name, status, None if status == "PENDING" else START, stop)


def snapshot(status: str, *tasks: Task, progress: dict[str, Any] | None = None) -> Snapshot:
    return Snapshot({"id": "1000000", "status": status}, tasks, progress or {})


def drawn(look: Snapshot, height: int = 20) -> list[str]:
    console = Console(file=StringIO(), width=100)
    with console.capture() as capture:
        console.print(drawing(look, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_tasks_of_a_scatter_share_a_row() -> None:
    look = snapshot(
        "COMPLETED",
        task("1", "index", "COMPLETED", 2),
        task("2", "align-0-0", "COMPLETED", 61),
        task("3", "align-0-1", "FAILED", 62),
        task("4", "align-1-0", "CANCELLED", 3),
        progress={
            "imported_bytes": 2048,
            "import_total_bytes": 4096,
            "storage_used_bytes": 10,
            "storage_peak_bytes": 1536,
        },
    )
    assert [line.split() for line in drawn(look)] == [
        ["run", "1000000", "COMPLETED"],
        ["task", "done", "running", "waiting", "failed", "time"],
        ["index", "1/1", "2.0", "s"],
        ["align", "1/3", "2", "1:02"],
        ["imported", "2.0", "KiB", "of", "4.0", "KiB", "peak", "1.5", "KiB"],
    ]


def test_calls_keep_their_order_and_storage_in_use_is_shown_while_the_run_is_open() -> None:
    look = snapshot(
        "RUNNING",
        task("1", "first", "COMPLETED", 2),
        task("2", "second", "PENDING"),
        progress={"storage_used_bytes": 10},
    )
    assert [line.split()[0] for line in drawn(look)[2:]] == ["first", "second", "storage"]


def test_when_not_all_fit_calls_at_work_come_first_and_the_others_are_counted() -> None:
    done = (task(str(number), f"done{number}", "COMPLETED", 1) for number in range(30))
    look = snapshot("RUNNING", *done, task("99", "working", "PENDING"))
    lines = drawn(look, height=10)
    assert [line.split()[0] for line in lines] == [
        "run",
        "task",
        "working",
        *(f"done{number}" for number in range(5)),
        "and",
    ]
    assert lines[-1] == "and 25 more"


def test_away_from_a_terminal_each_change_is_one_line() -> None:
    output = StringIO()
    screen = screen_for(Console(file=output, width=40))
    assert isinstance(screen, PlainLines)
    for look in (
        snapshot("PENDING"),
        snapshot("PENDING"),
        snapshot("RUNNING", task("1", "index [0]", "RUNNING")),
        snapshot(
            "RUNNING",
            task("1", "index [0]", "RUNNING"),
            task("2", "a-name-that-is-longer-than-the-forty-columns", "PENDING"),
        ),
        snapshot(
            "COMPLETED",
            task("1", "index [0]", "COMPLETED"),
            task("2", "a-name-that-is-longer-than-the-forty-columns", "COMPLETED"),
        ),
    ):
        screen.show(look)
    screen.close()
    assert output.getvalue().splitlines() == [
        "run 1000000 PENDING",
        "run 1000000 RUNNING",
        "  task 1 index [0] RUNNING",
        "  task 2 a-name-that-is-longer-than-the-forty-columns PENDING",
        "  task 1 index [0] COMPLETED",
        "  task 2 a-name-that-is-longer-than-the-forty-columns COMPLETED",
        "run 1000000 COMPLETED",
    ]


def test_on_a_terminal_the_last_picture_stays() -> None:
    output = StringIO()
    screen = screen_for(Console(file=output, width=80, height=20, force_terminal=True))
    assert isinstance(screen, LiveTable)
    screen.show(snapshot("RUNNING", task("1", "index", "RUNNING")))
    screen.show(snapshot("COMPLETED", task("1", "index", "COMPLETED", 1)))
    screen.close()
    shown = output.getvalue()
    assert shown.index("RUNNING") < shown.index("COMPLETED")
    assert "RUNNING" not in shown[shown.index("COMPLETED") :]
    assert shown.endswith("\x1b[?25h"), "the cursor is shown again"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_bytes_are_read_in_binary_units(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.04, "0.0 s"), (59.9, "59.9 s"), (62, "1:02"), (3725, "1:02:05")]
)
def test_durations_are_read_as_a_clock_would_show_them(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text
