"""How a task's bad end is put into words, the same in every language. Plain functions; run in the run process."""

from __future__ import annotations

import os

from runomics.engines.gateway_client import TaskEnd

STDERR_BYTES = 1024
"""How much of a task's stderr a failure quotes."""

MOST_MESSAGE_CHARACTERS = 4000


def shortened(text: str) -> str:
    """At most as long as a failure's message may be."""
    return text if len(text) <= MOST_MESSAGE_CHARACTERS else text[: MOST_MESSAGE_CHARACTERS - 1] + "…"


def badly(name: str, end: TaskEnd) -> str:
    """A task that did not end by itself."""
    told = f": {end.message}" if end.message else ""
    match end.reason:
        case "TIMEOUT":
            return f"task {name} ran into its time limit{told}"
        case "IMAGE":
            return f"the container of task {name} could not be started{told}"
        case "REFUSED":
            return f"task {name} was refused{told}"
    return f"task {name} could not be run ({end.reason}){told}"


def last_lines(path: str) -> str:
    """The end of a task's stderr, whole lines, at most STDERR_BYTES. The task may have made anything of the path."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        try:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - STDERR_BYTES))
            tail = file.read(STDERR_BYTES)
        except OSError:
            return ""
    if size > STDERR_BYTES and b"\n" in tail[:-1]:
        tail = tail.partition(b"\n")[2]
    return tail.decode(errors="replace").strip()
