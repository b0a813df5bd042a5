"""A run as it goes: a live table on a terminal, plain lines elsewhere. Runs in the user's process and asks the server again and again."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import EndpointConnectionError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runomics.cli.connection import Connection, RequestFailed
from runomics.domain.run import ENDED
from runomics.domain.task import ENDED as ENDED_TASKS

if TYPE_CHECKING:
    from types_boto3_omics import OmicsClient

POLL_SECONDS = 0.25
COST_FACTOR = 4
"""Between two looks pass at least this many times the time a look takes: a run of 10,000 tasks is asked about less often."""

ABSENCE_SECONDS = 30.0
"""A server that is started again meanwhile is waited for this long; its runs have gone on."""

SHARD = re.compile(r"(?:-\d+)+$")
"""What a scatter adds to a call's name."""

COLORS = {
    "COMPLETED": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "STOPPING": "yellow",
    "RUNNING": "cyan",
    "STARTING": "blue",
    "PENDING": "dim",
}


@dataclass(frozen=True, slots=True)
class Task:
    """A row of ListRunTasks; times in UTC."""

    task_id: str
    name: str
    status: str
    started: datetime | None
    stopped: datetime | None

    @property
    def call(self) -> str:
        """The name without its scatter indices."""
        return SHARD.sub("", self.name)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at a run: GetRun, every task, and the server's progress document (sizes in bytes)."""

    run: Mapping[str, Any]
    tasks: Sequence[Task]
    progress: Mapping[str, Any]

    @property
    def is_ended(self) -> bool:
        return self.run["status"] in ENDED


class Screen(Protocol):
    """Where looks are shown."""

    def show(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None: ...


def look(connection: Connection, client: OmicsClient, run_id: str) -> Snapshot:
    """Ask the server about a run once. The run is asked about first: an ended one has all its tasks."""
    run = client.get_run(id=run_id)
    pages = client.get_paginator("list_run_tasks").paginate(id=run_id, PaginationConfig={"PageSize": 100})
    tasks = [
        Task(item["taskId"], item.get("name", ""), item["status"], item.get("startTime"), item.get("stopTime"))
        for page in pages
        for item in page["items"]
    ]
    return Snapshot(run, tasks, connection.read(f"/-/progress/{run_id}"))


def follow(connection: Connection, client: OmicsClient, run_id: str, screen: Screen) -> Snapshot:
    """Show the run until it has ended; the last look. KeyboardInterrupt passes through with the screen closed."""
    pause = threading.Event()
    last_answer = time.monotonic()
    try:
        while True:
            begun = time.monotonic()
            try:
                snapshot = look(connection, client, run_id)
            except (EndpointConnectionError, RequestFailed) as error:
                if getattr(error, "status", None) is not None or begun - last_answer > ABSENCE_SECONDS:
                    raise
                pause.wait(POLL_SECONDS)
                continue
            last_answer = time.monotonic()
            screen.show(snapshot)
            if snapshot.is_ended:
                return snapshot
            pause.wait(max(POLL_SECONDS, COST_FACTOR * (time.monotonic() - begun)))
    finally:
        screen.close()


def screen_for(console: Console) -> Screen:
    """A live table on a terminal, plain lines elsewhere."""
    return LiveTable(console) if console.is_terminal else PlainLines(console)


class LiveTable:
    """One row per call, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def show(self, snapshot: Snapshot) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(drawing(snapshot, self._console.height - 3), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class PlainLines:
    """One line per change of the run or of a task."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def show(self, snapshot: Snapshot) -> None:
        run = snapshot.run
        if not snapshot.is_ended:
            self._say("run", f"run {run['id']}", run["status"])
        for task in snapshot.tasks:
            self._say(task.task_id, f"  task {task.task_id} {task.name}", task.status)
        if snapshot.is_ended:
            self._say("run", f"run {run['id']}", run["status"])

    def close(self) -> None:
        """Nothing is open."""

    def _say(self, key: str, subject: str, status: str) -> None:
        if self._seen.get(key) == status:
            return
        self._seen[key] = status
        self._console.print(f"{subject} {status}", markup=False, highlight=False, soft_wrap=True)


def drawing(snapshot: Snapshot, height: int) -> RenderableType:
    """The live picture, at most about `height` lines."""
    run = snapshot.run
    head = Text.assemble(
        (f"run {run['id']}", "bold"),
        "  ",
        (run["status"], COLORS.get(run["status"], "")),
        f"  {seconds_text(_duration_seconds(run.get('startTime'), run.get('stopTime')))}",
        f"  {run['statusMessage']}" if run.get("statusMessage") and not snapshot.is_ended else "",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task", no_wrap=True, min_width=18)
    for title in ("done", "running", "waiting", "failed", "time"):
        table.add_column(title, justify="right")
    room = max(3, height - 4)
    calls = _calls(snapshot.tasks, room)
    for call, tasks in calls[:room]:
        table.add_row(*_row(call, tasks))
    hidden = len(calls) - room
    more = [Text(f"and {hidden} more", style="dim")] if hidden > 0 else []
    amounts = _amounts(snapshot)
    last = [Text(amounts, style="dim")] if amounts else []
    return Group(head, *([table] if calls else []), *more, *last)


def bytes_text(count: int) -> str:
    """`1536` → `1.5 KiB`."""
    value, unit = float(count), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def seconds_text(seconds: float | None) -> str:
    """`3725.0` → `1:02:05`; `4.26` → `4.3 s`; None → ``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _calls(tasks: Sequence[Task], room: int) -> list[tuple[str, list[Task]]]:
    """Tasks by call, in the order they came; only when there are more than fit do those at work come first."""
    calls: dict[str, list[Task]] = {}
    for task in tasks:
        calls.setdefault(task.call, []).append(task)
    if len(calls) <= room:
        return list(calls.items())
    return sorted(calls.items(), key=lambda item: all(task.status in ENDED_TASKS for task in item[1]))


def _row(call: str, tasks: Sequence[Task]) -> list[Text]:
    counts = Counter(task.status for task in tasks)
    running = counts["RUNNING"] + counts["STOPPING"]
    waiting = counts["PENDING"] + counts["STARTING"]
    failed = counts["FAILED"] + counts["CANCELLED"]
    begun = [task.started for task in tasks if task.started is not None]
    stops = [task.stopped for task in tasks]
    end = None if None in stops else max(stop for stop in stops if stop is not None)
    status = "FAILED" if failed else "RUNNING" if running else "PENDING" if waiting else "COMPLETED"
    return [
        Text(call, style=COLORS[status]),
        Text(f"{counts['COMPLETED']}/{len(tasks)}"),
        Text(str(running or "")),
        Text(str(waiting or "")),
        Text(str(failed or ""), style="bold red"),
        Text(seconds_text(_duration_seconds(min(begun, default=None), end))),
    ]


def _amounts(snapshot: Snapshot) -> str:
    progress, parts = snapshot.progress, []
    for word, done, total in (
        ("imported", progress.get("imported_bytes"), progress.get("import_total_bytes")),
        ("exported", progress.get("exported_bytes"), progress.get("export_total_bytes")),
    ):
        if done:
            parts.append(f"{word} {bytes_text(done)}" + (f" of {bytes_text(total)}" if total and total > done else ""))
    used, peak = progress.get("storage_used_bytes"), progress.get("storage_peak_bytes")
    if used is not None and not snapshot.is_ended:
        parts.append(f"storage {bytes_text(used)}")
    if peak is not None:
        parts.append(f"peak {bytes_text(peak)}")
    return "  ".join(parts)


def _duration_seconds(start: datetime | None, stop: datetime | None) -> float | None:
    if start is None:
        return None
    return max(0.0, ((stop or datetime.now(UTC)) - start).total_seconds())
