"""The audit log, DATA/audit.log: one JSON object a line for every call, who asked what of which resource with what outcome.

Server process. A request costs one append to a queue; a thread of its own makes lines of what has gathered and writes them, at most
`GATHER_SECONDS` later: that much is lost when the server is killed. What nobody could write is counted, never waited for.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog

log = structlog.get_logger()

GATHER_SECONDS = 0.2
WAITING_LIMIT = 200_000
"""Calls that may wait for the disk; later ones are counted and left out."""


class Call(NamedTuple):
    """One call. `at_ns` is UTC epoch nanoseconds. Principal and account are None for a signature that nobody's key made.

    `subject` is what `describe` makes the resource of, on the log's own thread. `outcome` is Success or the error's name.
    """

    at_ns: int
    principal: str | None
    account: str | None
    access_key_id: str | None
    operation: str | None
    subject: Any
    outcome: str
    request_id: str


class AuditLog:
    """One per server. Files are `path`, `path`.1 (the one before), … up to `files` in all, each of about `max_bytes`, mode 0600."""

    def __init__(self, path: Path, *, max_bytes: int, files: int, describe: Callable[[Call], str | None]) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._describe = describe
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._left_out = 0
        self._is_failing = False
        self._thread = threading.Thread(target=self._write_on, name="audit", daemon=True)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Take note of a call. Never blocks."""
        if self._calls.qsize() < WAITING_LIMIT:
            self._calls.put(call)
        else:
            self._left_out += 1

    def close(self) -> None:
        """Write what has gathered, and end."""
        self._stopping.set()
        self._calls.put(None)
        self._thread.join()

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        while True:
            gathered = [self._calls.get()]
            self._stopping.wait(GATHER_SECONDS)
            while not self._calls.empty():
                gathered.append(self._calls.get())
            calls = [call for call in gathered if call is not None]
            self._write(b"".join(map(self._line, calls)) + self._gap())
            if len(calls) < len(gathered):
                return

    def _line(self, call: Call) -> bytes:
        return _json(
            {
                "event": "audit",
                "timestamp": _timestamp(call.at_ns),
                "principal": call.principal,
                "account": call.account,
                "access_key_id": call.access_key_id,
                "operation": call.operation,
                "resource": self._describe(call),
                "outcome": call.outcome,
                "request_id": call.request_id,
            }
        )

    def _gap(self) -> bytes:
        """A line for calls that were left out."""
        left_out, self._left_out = self._left_out, 0
        if not left_out:
            return b""
        return _json({"event": "audit.gap", "timestamp": _timestamp(time.time_ns()), "calls": left_out})

    def _write(self, lines: bytes) -> None:
        if not lines:
            return
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                view = memoryview(lines)
                while view:
                    view = view[os.write(descriptor, view) :]
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size >= self._max_bytes:
                self._rotate()
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.error("audit.cannot_be_written", path=str(self._path), error=str(error))
            self._is_failing = True
            self._left_out += lines.count(b"\n")

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number}"))
        if self._files == 1:
            self._path.unlink()


def _timestamp(at_ns: int) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    second, rest = divmod(at_ns, 1_000_000_000)
    return f"{_second(second)}.{rest // 1_000_000:03}Z"


@lru_cache(maxsize=16)
def _second(epoch_seconds: int) -> str:
    """A busy second has thousands of lines."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Half a character pair, from a path or a query: it has no UTF-8.
        plain = {
            name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for name, value in line.items()
        }
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)
