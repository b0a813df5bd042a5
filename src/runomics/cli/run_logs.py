"""The logs of a run as the server hands them out under `/-/logs/`. Runs in the user's process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runomics.cli.connection import Connection

if TYPE_CHECKING:
    from types_boto3_omics import OmicsClient

POLL_SECONDS = 0.25


class NoSuchTask(Exception):
    """The run has no task of that id or name, or several of that name. The message lists what there is."""


def task_stream(client: OmicsClient, run_id: str, task: str) -> str:
    """The stream of a task given by its id, or by its name when only one has it.

    Raises:
        NoSuchTask: none, or more than one.
    """
    pages = client.get_paginator("list_run_tasks").paginate(id=run_id)
    tasks = [(item["taskId"], item.get("name", "")) for page in pages for item in page["items"]]
    found = [task_id for task_id, name in tasks if task in (task_id, name)]
    if len(found) == 1:
        return f"task/{found[0]}"
    if found:
        raise NoSuchTask(f"several tasks of run {run_id} are called {task}; say which by id: {', '.join(found)}")
    names = ", ".join(f"{name} ({task_id})" for task_id, name in tasks[:20]) or "none yet"
    raise NoSuchTask(f"run {run_id} has no task {task}; it has: {names}")


def lines(connection: Connection, run_id: str, stream: str, *, follow: bool = False) -> Iterator[tuple[int, str]]:
    """(epoch ms, text) of each line there is; with `follow` also of those to come, until the stream has ended."""
    pause = threading.Event()
    offset = 0
    while True:
        page = connection.read(f"/-/logs/{run_id}", stream=stream, offset=offset)
        yield from ((time_ms, text) for time_ms, text in page["lines"])
        advanced = page["offset"] > offset
        offset = page["offset"]
        if advanced:
            continue
        if page["ended"] or not follow:
            return
        pause.wait(POLL_SECONDS)


def tail(connection: Connection, run_id: str, stream: str, count: int) -> list[str]:
    """The last `count` lines there are."""
    return [text for _, text in deque(lines(connection, run_id, stream), maxlen=count)]


def time_text(time_ms: int) -> str:
    """`2026-01-02T03:04:05.678Z`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
