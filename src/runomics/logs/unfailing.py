"""The log streams as whoever moves runs sees them: a disk that is full costs lines, never a run. Runs in the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from runomics.ports import LogStore

log = structlog.get_logger()

Answer = TypeVar("Answer")


class UnfailingLogs:
    """A ports.LogStore over another one: what that one cannot write is left out, with a warning in the server's log."""

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs

    def append(self, account: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """See `LogStore.append`."""
        _tried(stream, partial(self._logs.append, account, stream, lines))

    def follow_task(self, account: str, stream: str, volume: Path, stdout: str, stderr: str) -> None:
        """See `LogStore.follow_task`."""
        _tried(stream, partial(self._logs.follow_task, account, stream, volume, stdout, stderr))

    def end_task(self, account: str, stream: str) -> bool:
        """See `LogStore.end_task`. True where that is not known: a reader of the stream then finds what there is."""
        ended = _tried(stream, partial(self._logs.end_task, account, stream))
        return True if ended is None else ended

    def follow_engine(self, account: str, stream: str, log: Path) -> None:
        """See `LogStore.follow_engine`."""
        _tried(stream, partial(self._logs.follow_engine, account, stream, log))

    def end_engine(self, account: str, stream: str) -> bool:
        """See `LogStore.end_engine`. True where that is not known."""
        ended = _tried(stream, partial(self._logs.end_engine, account, stream))
        return True if ended is None else ended

    def read(self, account: str, stream: str, offset: int, limit_bytes: int) -> tuple[list[tuple[int, str]], int]:
        """See `LogStore.read`."""
        return self._logs.read(account, stream, offset, limit_bytes)


def _tried(stream: str, act: Callable[[], Answer]) -> Answer | None:
    """What `act` answers, None when the disk did not let it."""
    try:
        return act()
    except OSError as error:
        log.warning("logs.lines_lost", stream=stream, error=str(error))
        return None
