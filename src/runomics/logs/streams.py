"""The log streams of all accounts, as files below DATA/logs/<account>. Runs in the server.

A stream has one line of text per event; who appends gives the time, who is followed gets it from the file. Streams stay until
their account's operator removes them: deleting a run deletes no log.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runomics.logs import stream_file
from runomics.logs.follower import Follower, Opener

_LOCKS = 64
_ENGINE_LOG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileLogs:
    """ports.LogStore on files.

    `open_beneath(volume, relative path)` opens a file that a task wrote, for reading: beneath the volume, through no link,
    never blocking. A followed stream is cut off at `max_bytes_per_task`.
    """

    def __init__(
        self,
        root: Path,
        *,
        open_beneath: Callable[[Path, str], int],
        max_bytes_per_task: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._root = root
        self._open_beneath = open_beneath
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._follower = Follower(open_sources=self._openers, max_bytes=max_bytes_per_task, now_ms=now_ms)

    # ---- lines ---------------------------------------------------------------------------------------------------

    def append(self, account: str, stream: str, lines: Sequence[tuple[int, str]]) -> None:
        """Add lines (time in epoch ms, text); line ends and NULs in a text become escapes. Creates the stream.

        Raises:
            ValueError: no name of a stream. OSError: no space; nothing was added.
        """
        path, data = self._path(account, stream), stream_file.encode_lines(lines)
        if not data or self._follower.append(path, data):
            return
        with self._locks[hash(path) % _LOCKS]:
            cursor = stream_file.load_cursor(path)
            if cursor is not None:
                stream_file.restore(path, cursor)
            stream_file.append(path, data, cursor)

    def read(self, account: str, stream: str, offset: int, limit_bytes: int) -> tuple[list[tuple[int, str]], int]:
        """Whole lines from byte `offset` on, about `limit_bytes` but at least one, and the offset after them.

        An empty list at the end, and for a stream that is not there.
        """
        data, end = stream_file.read(self._path(account, stream), offset, limit_bytes)
        return stream_file.decode_lines(data), end

    def tail(self, account: str, stream: str, count: int) -> list[tuple[int, str]]:
        """The last `count` lines."""
        return stream_file.decode_lines(stream_file.tail(self._path(account, stream), count))

    # ---- following -----------------------------------------------------------------------------------------------

    def follow_task(self, account: str, stream: str, volume: Path, stdout: str, stderr: str) -> None:
        """Feed the stream from a task's output files (relative to the volume) until `end_task`, the two as they come."""
        files = [stdout] if stdout == stderr else [stdout, stderr]
        self._follower.follow(self._path(account, stream), {"volume": str(volume), "files": files})

    def end_task(self, account: str, stream: str) -> bool:
        """Take in the rest of the output, on this thread, and stop following; whether the stream has any line.

        100 MB take about a third of a second. No file of the volume is open for it afterwards.
        """
        return self._follower.end(self._path(account, stream))

    def follow_engine(self, account: str, stream: str, log: Path) -> None:
        """Feed the stream from an engine's log, a file of ours outside the volume, until `end_engine`."""
        self._follower.follow(self._path(account, stream), {"log": str(log)})

    def end_engine(self, account: str, stream: str) -> bool:
        """As `end_task`."""
        return self._follower.end(self._path(account, stream))

    def close(self) -> None:
        """Stop following; the next server goes on where this one was."""
        self._follower.close()

    def _path(self, account: str, stream: str) -> Path:
        return stream_file.stream_path(self._root, account, stream)

    def _openers(self, sources: Mapping[str, Any]) -> list[Opener]:
        if "log" in sources:
            return [partial(os.open, sources["log"], _ENGINE_LOG)]
        return [partial(self._open_beneath, Path(sources["volume"]), name) for name in sources["files"]]
