"""The thread that copies what tasks and engines print into their log streams, line by line, with the time. Runs in the server.

It looks at each file every 0.1 s while something comes and ever more rarely, down to once a second, while nothing does: one
fstat a look. With nothing to follow it sleeps. A stream takes at most 4 MiB a turn, so one that prints much keeps no other
waiting. A line gets the time its file was last written to, but never before the line above it nor after now.

A carriage return rewinds the line, as on a terminal: of a progress bar only what was last to be seen of each line is kept, and
while it moves a line a second.
"""

from __future__ import annotations

import heapq
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from runomics.logs import stream_file

log = structlog.get_logger()

LINE_BYTES = 262_144 - 26
"""A longer line is cut into pieces. Source: guide of CloudWatch Logs, the largest event."""

_TURN_BYTES = 4 * 1024**2
_SOONEST_SECONDS = 0.1
_LATEST_SECONDS = 1.0
_PROGRESS_SECONDS = 1.0
_KEPT_OPEN = 256

Opener = Callable[[], int]
"""Opens a source for reading, without blocking and without following links. Raises OSError when it is not there."""

OpenSources = Callable[[Mapping[str, Any]], Sequence[Opener]]
"""What a cursor says of its sources → how to open each."""


class _Source:
    """One file that feeds a stream."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._descriptor: int | None = None
        self.progress_at = 0.0

    def status(self) -> os.stat_result | None:
        """Of the open file, opened if need be; None while there is none."""
        if self._descriptor is None:
            try:
                self._descriptor = self._opener()
            except OSError:
                return None
        status = os.fstat(self._descriptor)
        if stat.S_ISREG(status.st_mode):
            return status
        self.close()
        return None

    def read(self, count: int, offset: int) -> bytes:
        """After `status` gave one."""
        return b"" if self._descriptor is None else os.pread(self._descriptor, count, offset)

    def close(self) -> None:
        """Let go of the file: a volume cannot be unmounted while one of its files is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Followed:
    """A stream and the files that feed it. `lock` is held for every touch of the log."""

    def __init__(self, path: Path, cursor: stream_file.Cursor, openers: Sequence[Opener], max_bytes: int) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.is_over = False
        self.wait_seconds = _SOONEST_SECONDS
        self._cursor = cursor
        self._sources = [_Source(opener) for opener in openers]
        self._max_bytes = max_bytes

    def append(self, data: bytes) -> None:
        """Lines that come from elsewhere."""
        self.keep()
        stream_file.append(self.path, data, self._cursor)

    def keep(self) -> None:
        """Let a later server know what feeds the stream. What ends at once and says nothing leaves no file behind."""
        stream_file.keep_cursor(self.path, self._cursor)

    def take(self, now_ms: int, *, finish: bool) -> int:
        """Take in some of what is new, older files first; how many bytes. `finish`: also a last line that has no end."""
        if self._cursor.is_full:
            return 0
        ready = []
        for index, source in enumerate(self._sources):
            status = source.status()
            if status is None:
                continue
            if status.st_size < self._cursor.offsets[index]:
                self._cursor.offsets[index] = 0  # the file was begun again
            if status.st_size > self._cursor.offsets[index]:
                ready.append((status.st_mtime_ns, index))
        taken = 0
        for mtime_ns, index in sorted(ready):
            at_ms = min(max(mtime_ns // 1_000_000, self._cursor.last_ms), now_ms)
            taken += self._take_from(index, at_ms, finish=finish)
        return taken

    def _take_from(self, index: int, at_ms: int, *, finish: bool) -> int:
        source, taken = self._sources[index], 0
        while taken < _TURN_BYTES and not self._cursor.is_full:
            data = source.read(LINE_BYTES, self._cursor.offsets[index])
            shows_progress = time.monotonic() - source.progress_at >= _PROGRESS_SECONDS
            count = whole_part(data, finish=finish, progress=shows_progress)
            if count == 0:
                break
            if b"\n" not in data[:count]:
                source.progress_at = time.monotonic()
            self._add(stamped(data[:count], at_ms), at_ms, index, count)
            taken += count
        return taken

    def _add(self, lines: bytes, at_ms: int, index: int, count: int) -> None:
        cursor = self._cursor
        room = self._max_bytes - cursor.length
        if len(lines) > room:
            kept = lines[: lines.rfind(b"\n", 0, max(room, 0)) + 1]
            notice = f"[The log is longer than {self._max_bytes} bytes: the rest is not kept.]"
            lines = kept + stream_file.encode_lines([(at_ms, notice)])
            cursor.is_full = True
        self.keep()  # as it was before these lines
        before = (cursor.last_ms, cursor.offsets[index])
        cursor.last_ms = at_ms
        cursor.offsets[index] += count
        try:
            stream_file.append(self.path, lines, cursor)
        except OSError:
            cursor.last_ms, cursor.offsets[index] = before
            cursor.is_full = False
            raise

    def finish(self, now_ms: Callable[[], int]) -> bool:
        """Take in everything that is left; whether the stream has any line."""
        while self.take(now_ms(), finish=False):
            pass
        self.take(now_ms(), finish=True)
        self.is_over = True
        self.close_files()
        self._cursor.is_ended = True
        stream_file.save_cursor(self.path, self._cursor)
        return self._cursor.length > 0

    def close_files(self) -> None:
        """Let go of the sources until the next turn."""
        for source in self._sources:
            source.close()


class Follower:
    """Follows any number of streams with one thread, started with the first of them."""

    def __init__(self, *, open_sources: OpenSources, max_bytes: int, now_ms: Callable[[], int]) -> None:
        self._open_sources = open_sources
        self._max_bytes = max_bytes
        self._now_ms = now_ms
        self._change = threading.Condition()
        self._followed: dict[Path, _Followed] = {}
        self._due: list[tuple[float, int, _Followed]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def follow(self, path: Path, sources: Mapping[str, Any]) -> None:
        """Feed the stream from `sources` until `end`; from where it was when a cursor is there. Does nothing when it is followed."""
        with self._change:
            if path in self._followed or self._stopped:
                return
            cursor = stream_file.load_cursor(path)
            if cursor is None:
                cursor = stream_file.make_cursor(path, sources)
            followed = self._resume(path, cursor)
            self._followed[path] = followed
            heapq.heappush(self._due, (time.monotonic() + followed.wait_seconds, next(self._order), followed))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="log-follower", daemon=True)
                self._thread.start()
            self._change.notify()

    def _resume(self, path: Path, cursor: stream_file.Cursor) -> _Followed:
        stream_file.restore(path, cursor)
        if cursor.is_ended:
            cursor.is_ended = False
            stream_file.save_cursor(path, cursor)
        return _Followed(path, cursor, self._open_sources(cursor.sources), self._max_bytes)

    def end(self, path: Path) -> bool:
        """Take in the rest on this thread and stop following; whether the stream has any line.

        A stream that a server before this one followed to no end is taken up and ended.

        Raises:
            OSError: no space for the rest. It is not followed any more, and no source of it is open.
        """
        with self._change:
            followed = self._followed.get(path)
        if followed is None:
            cursor = stream_file.load_cursor(path)
            if cursor is None or cursor.is_ended:
                return stream_file.size(path) > 0
            followed = self._resume(path, cursor)
        with followed.lock:
            if followed.is_over:
                return stream_file.size(path) > 0
            try:
                return followed.finish(self._now_ms)
            finally:
                followed.is_over = True
                followed.close_files()
                self._forget(path)

    def _forget(self, path: Path) -> None:
        with self._change:
            self._followed.pop(path, None)

    def append(self, path: Path, data: bytes) -> bool:
        """Add lines to a stream that is followed; whether it is."""
        with self._change:
            followed = self._followed.get(path)
        if followed is None:
            return False
        with followed.lock:
            if followed.is_over:
                return False
            followed.append(data)
            return True

    def close(self) -> None:
        """Stop the thread and let go of all files. What is followed is taken up again by the next server."""
        with self._change:
            self._stopped = True
            followed = list(self._followed.values())
            self._followed.clear()
            self._change.notify()
        if self._thread is not None:
            self._thread.join()
        for one in followed:
            with one.lock:
                one.is_over = True
                one.close_files()

    def _work(self) -> None:
        while True:
            with self._change:
                if self._stopped:
                    return
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._change.wait(wait)
                    continue
                followed = heapq.heappop(self._due)[2]
                keeps_open = len(self._followed) <= _KEPT_OPEN
            self._turn(followed, keeps_open=keeps_open)
            if not followed.is_over:
                with self._change:
                    due = time.monotonic() + followed.wait_seconds
                    heapq.heappush(self._due, (due, next(self._order), followed))

    def _turn(self, followed: _Followed, *, keeps_open: bool) -> None:
        with followed.lock:
            if followed.is_over:
                return
            try:
                followed.keep()
                taken = followed.take(self._now_ms(), finish=False)
            except OSError as error:
                log.warning("logs.cannot_follow", path=str(followed.path), error=str(error))
                taken = 0
            if taken >= _TURN_BYTES:
                followed.wait_seconds = 0.0
            elif taken:
                followed.wait_seconds = _SOONEST_SECONDS
            else:
                followed.wait_seconds = min(max(followed.wait_seconds, _SOONEST_SECONDS) * 1.5, _LATEST_SECONDS)
            if not keeps_open:
                followed.close_files()


# ---- text --------------------------------------------------------------------------------------------------------


def whole_part(data: bytes, *, finish: bool, progress: bool) -> int:
    """How many of the bytes at hand make up whole lines.

    Without a line end: all of them when they are as long as a line may be, or when nothing follows (`finish`); up to the
    last carriage return when it is time to show `progress`; else none.
    """
    end = data.rfind(b"\n") + 1
    if end:
        return end
    if len(data) >= LINE_BYTES:
        return len(data) - _open_character(data)
    if finish:
        return len(data)
    return data.rfind(b"\r", 0, -1) + 1 if progress else 0


def _open_character(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not complete."""
    for back in range(1, 4):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if needed > back else 0
        if byte < 0x80:
            return 0
    return 0


def stamped(data: bytes, at_ms: int) -> bytes:
    """Raw output as lines of a log: the time before each, rewound lines as last seen, what is no text replaced."""
    body = data.removesuffix(b"\n")
    prefix = f"{at_ms}\t".encode()
    if b"\r" not in body and b"\0" not in body:
        with suppress(UnicodeDecodeError):
            body.decode()
            return prefix + body.replace(b"\n", b"\n" + prefix) + b"\n"
    lines = body.decode("utf-8", "replace").replace("\0", "\\0").split("\n")
    return b"".join(prefix + _last_seen(line).encode() + b"\n" for line in lines)


def _last_seen(line: str) -> str:
    """What a terminal would show at the end, but for what shorter text leaves of longer."""
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")
