"""One log stream as a file of lines `epoch_ms TAB text`, and the cursor beside it when it is fed from other files. Runs in the server.

The log is written first, then the cursor: 81 bytes in place, in one call. So after a kill at any moment the cursor tells the
truth of an earlier moment: how long the log was then, and how much of each source was in it. What the log has beyond that is
cut off when the stream is opened again, and read from the sources again: nothing is lost, nothing doubled.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_STATE_BYTES = 81
_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def stream_path(root: Path, account: str, stream: str) -> Path:
    """Where a stream lies: `run/<id>` and what is below it in a folder of the run, any other by its name (formats.md).

    Raises:
        ValueError: a name that is no path of plain words.
    """
    parts = stream.split("/")
    if not all(_SEGMENT.fullmatch(part) for part in (account, *parts)):
        raise ValueError(f"{stream!r} of {account!r} is no name of a log stream")
    folder = root / account
    if parts[0] == "run" and len(parts) == 2:
        return folder / "run" / parts[1] / "run.log"
    if parts[0] == "run" and len(parts) == 4 and parts[2] == "task":
        return folder / "run" / parts[1] / f"task-{parts[3]}.log"
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.log")


def encode_lines(lines: Sequence[tuple[int, str]]) -> bytes:
    """Lines as they lie in the file. Line ends and NULs within a text are written as escapes."""
    return "".join(f"{at_ms}\t{_escaped(text)}\n" for at_ms, text in lines).encode("utf-8", "backslashreplace")


def _escaped(text: str) -> str:
    if "\n" in text or "\r" in text or "\0" in text:
        return text.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
    return text


def decode_lines(data: bytes) -> list[tuple[int, str]]:
    """The lines of whole-line data. A line that is none of ours (cut by a power cut) counts as one of time 0."""
    lines = []
    for line in data.split(b"\n")[:-1]:
        at, tab, text = line.partition(b"\t")
        if tab and at.isdigit():
            lines.append((int(at), text.decode("utf-8", "replace")))
        else:
            lines.append((0, line.decode("utf-8", "replace")))
    return lines


@dataclass(slots=True)
class Cursor:
    """How far a fed stream is. `sources` says what feeds it, so that it can be resumed by its name alone."""

    length: int = 0
    last_ms: int = 0
    is_full: bool = False
    is_ended: bool = False
    offsets: list[int] = field(default_factory=lambda: [0, 0])
    sources: Mapping[str, Any] = field(default_factory=dict)
    is_kept: bool = False
    """Whether it has a file. It gets one with the first bytes it tells of, or when it is followed for more than a moment."""

    def state(self) -> bytes:
        """The part that moves, always as long."""
        flags = self.is_full + 2 * self.is_ended
        first, second = self.offsets
        return f"{self.length:020d} {self.last_ms:015d} {flags:1d} {first:020d} {second:020d}\n".encode()


def load_cursor(log: Path) -> Cursor | None:
    """The cursor beside a log, None when there is none or it is unreadable."""
    try:
        with open(_cursor_path(log), "rb", buffering=0) as file:
            data = file.read()
        length, last_ms, flags, first, second = (int(word) for word in data[:_STATE_BYTES].split())
        sources = json.loads(data[_STATE_BYTES:])
    except (OSError, ValueError):
        return None
    return Cursor(length, last_ms, bool(flags & 1), bool(flags & 2), [first, second], sources, is_kept=True)


def make_cursor(log: Path, sources: Mapping[str, Any]) -> Cursor:
    """A cursor for a stream that is about to be fed, without a file as yet. What the log has already stays."""
    return Cursor(length=_whole_length(log), sources=sources)


def keep_cursor(log: Path, cursor: Cursor) -> None:
    """Give it a file, if it has none: whoever comes after a killed server then knows what feeds the stream."""
    if cursor.is_kept:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    _cursor_path(log).write_bytes(cursor.state() + json.dumps(cursor.sources).encode())
    cursor.is_kept = True


def restore(log: Path, cursor: Cursor) -> None:
    """Cut the log back to what the cursor knows of. A log that is shorter (a power cut) is begun again."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        size = 0
    if size < cursor.length:
        cursor.length, cursor.last_ms, cursor.is_full, cursor.offsets = 0, 0, False, [0, 0]
        save_cursor(log, cursor)
    if size > cursor.length:
        os.truncate(log, cursor.length)


def save_cursor(log: Path, cursor: Cursor) -> None:
    """Write the part that moves, if it has a file."""
    if not cursor.is_kept:
        return
    descriptor = os.open(_cursor_path(log), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, cursor.state(), 0)
    finally:
        os.close(descriptor)


def append(log: Path, data: bytes, cursor: Cursor | None) -> None:
    """Add whole lines; with a cursor, which the caller has moved in all but length, both move together.

    Raises:
        OSError: no space. The log is as it was.
    """
    try:
        descriptor = os.open(log, _WRITE, 0o600)
    except FileNotFoundError:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, _WRITE, 0o600)
    try:
        start = cursor.length if cursor is not None else _whole_length_of(descriptor)
        try:
            _write_all(descriptor, data, start)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)
    if cursor is not None:
        cursor.length = start + len(data)
        save_cursor(log, cursor)


def read(log: Path, offset: int, limit_bytes: int) -> tuple[bytes, int]:
    """Whole lines from `offset` on, about `limit_bytes` but one line at least, and the offset after them.

    An offset within a line moves to the next; one beyond the end, which a crash can leave a reader with, to the end.
    """
    try:
        descriptor = os.open(log, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return b"", offset
    try:
        offset = min(offset, os.fstat(descriptor).st_size)
        if offset > 0 and os.pread(descriptor, 1, offset - 1) != b"\n":
            skipped = _until_line_end(descriptor, b"", offset)
            offset += len(skipped)
        data = os.pread(descriptor, max(limit_bytes, 1), offset)
        end = data.rfind(b"\n") + 1
        data = data[:end] if end else _until_line_end(descriptor, data, offset)
        return data, offset + len(data)
    finally:
        os.close(descriptor)


def tail(log: Path, count: int) -> bytes:
    """The last `count` whole lines."""
    try:
        descriptor = os.open(log, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        end = start = _whole_length_of(descriptor)
        data = b""
        while start > 0 and data.count(b"\n") <= count:
            begin = max(0, start - 65_536)
            data = os.pread(descriptor, start - begin, begin) + data
            start = begin
        lines = data[: end - start].split(b"\n")[:-1]
        return b"".join(line + b"\n" for line in lines[max(0, len(lines) - count) :])
    finally:
        os.close(descriptor)


def size(log: Path) -> int:
    """Bytes in the log; 0 when there is none."""
    try:
        return log.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _cursor_path(log: Path) -> Path:
    return log.with_suffix(".cursor")


def _until_line_end(descriptor: int, data: bytes, offset: int) -> bytes:
    """`data`, read from `offset` and without a line end, up to the next one; nothing when there is none yet."""
    while True:
        more = os.pread(descriptor, 65_536, offset + len(data))
        if not more:
            return b""
        end = more.find(b"\n") + 1
        if end:
            return data + more[:end]
        data += more


def _whole_length(log: Path) -> int:
    try:
        descriptor = os.open(log, _READ)
    except FileNotFoundError:
        return 0
    try:
        return _whole_length_of(descriptor)
    finally:
        os.close(descriptor)


def _whole_length_of(descriptor: int) -> int:
    """The length up to the last line end: a kill within a write may have left a piece of a line, which nobody was told of."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - 65_536)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
