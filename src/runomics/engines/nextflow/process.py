"""The JVM as a child of the run process: started or received, ordered, listened to, ended. Runs in the run process.

Three pipes: its input takes orders and answers, its output is the engine's log, a third one brings reports as lines of JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_LOG_BYTES = 256 << 20
"""Of what the pipeline prints: the engine's log lies on the server's disk, not in the run's storage."""

TERM_SECONDS = 1.0
_TAIL_BYTES = 64 << 10
_CUT = b"\n[the log is longer than the server keeps; the rest is left out]\n"
_MOST_LINE_BYTES = 16 << 20


@dataclass(slots=True)
class Ended:
    """How a JVM ended. `verdict` is its last report, None when it left none; `tail` the end of what it printed."""

    code: int
    verdict: Mapping[str, Any] | None
    tail: str
    stopped: bool


@dataclass(slots=True)
class Jvm:
    """One JVM. `wait` serves it on this thread until it is gone."""

    process: subprocess.Popen[bytes]
    reports: int
    written: int = 0
    tail: bytearray = field(default_factory=bytearray)
    verdict: Mapping[str, Any] | None = None
    pending: bytes = b""
    take_over: Callable[[str], None] = lambda directory: None

    def order(self, document: Mapping[str, Any]) -> None:
        """Say what to do; once."""
        self._say(json.dumps(document).encode() + b"\n")

    def wait(self, stopping: Callable[[], bool], *, at_most_seconds: float | None = None) -> Ended:
        """Until its end; TERM, then KILL, once `stopping()` or after `at_most_seconds`. A signal wakes the wait."""
        deadline = None if at_most_seconds is None else time.monotonic() + at_most_seconds
        output = self.process.stdout.fileno() if self.process.stdout else -1
        woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        poller = select.poll()
        for descriptor in (output, self.reports, woken):
            poller.register(descriptor, select.POLLIN)
        opened, kill_at = {output, self.reports}, None
        try:
            while opened:
                until = deadline if kill_at is None else kill_at
                left = None if until is None else max(0.0, until - time.monotonic())
                ready = {descriptor for descriptor, _ in poller.poll(None if left is None else left * 1000)}
                if woken in ready:
                    os.read(woken, 512)
                late = deadline is not None and time.monotonic() >= deadline
                if kill_at is None and (late or stopping()):
                    kill_at = time.monotonic() + TERM_SECONDS
                    self.process.terminate()
                if kill_at is not None and time.monotonic() >= kill_at:
                    self.process.kill()
                    break
                for descriptor, take in ((output, self._log), (self.reports, self._report)):
                    if descriptor in ready and not take(os.read(descriptor, 65536)):
                        poller.unregister(descriptor)
                        opened.discard(descriptor)
                if self.reports not in opened and self.verdict is not None:
                    break  # children of the pipeline may hold its output open for ever
        finally:
            signal.set_wakeup_fd(before)
            os.close(woken)
            os.close(waker)
        code = self.process.wait()
        return Ended(code, self.verdict, bytes(self.tail).decode(errors="replace"), stopped=kill_at is not None)

    def _say(self, line: bytes) -> None:
        if self.process.stdin is None:
            return
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def _log(self, data: bytes) -> bool:
        self.tail += data
        del self.tail[:-_TAIL_BYTES]
        room = MOST_LOG_BYTES - self.written
        if room > 0:
            _write_all(1, data[:room] + (_CUT if len(data) >= room else b""))
        self.written += len(data)
        return bool(data)

    def _report(self, data: bytes) -> bool:
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            self._hear(line)
        if len(self.pending) > _MOST_LINE_BYTES:
            self.pending = b""
        return bool(data)

    def _hear(self, line: bytes) -> None:
        """The pipeline shares the JVM and may write here too: what cannot be understood is nothing."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        if said.get("op") == "take_over":
            try:
                self.take_over(str(said.get("directory")))
            finally:
                self._say(b"\n")
        elif said.get("op") == "end":
            self.verdict = said


def start(command: Sequence[str], environment: Mapping[str, str], *, cwd: str) -> Jvm:
    """Start a JVM in this process's sandbox; `{reports}` in `command` becomes the number of its pipe of reports.

    Raises:
        OSError: it cannot be started.
    """
    reports, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(
            [*(str(theirs) if part == "{reports}" else part for part in command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            pass_fds=(theirs,),
            restore_signals=True,
        )
    except BaseException:
        os.close(reports)
        raise
    finally:
        os.close(theirs)
    return Jvm(process, reports)


def take_over(directory: str) -> None:
    """Make everything a task left below `directory` our own user's, and readable.

    Tasks are root in their sandbox; Nextflow must read, link and move what they made, and has no rights but its user's. Links are
    never followed, so nothing outside is touched. Needs CHOWN, FOWNER and DAC_OVERRIDE.
    """
    uid, gid = os.getuid(), os.getgid()
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if _taken(entry, uid, gid):
                        pending.append(entry.path)
        except OSError:
            continue


def _taken(entry: os.DirEntry[str], uid: int, gid: int) -> bool:
    """Take one entry; whether there is more below it."""
    status = entry.stat(follow_symlinks=False)
    if status.st_uid != uid:
        os.chown(entry.path, uid, gid, follow_symlinks=False)
    is_directory = stat.S_ISDIR(status.st_mode)
    wanted = 0o700 if is_directory else 0o400
    if status.st_mode & wanted != wanted and (is_directory or stat.S_ISREG(status.st_mode)):
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | wanted)
        finally:
            os.close(descriptor)
    return is_directory


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
