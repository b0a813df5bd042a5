"""The thread that watches supervisors: it asks the task launcher for them, adopts those that live, and tells who listens. In the server.

It waits on the launcher's socket, the supervisors' pidfds and the arrival of their files, and owns all it knows; other threads
only post commands. What it knows it can read again from the attempts' directories at any time.
"""

from __future__ import annotations

import collections
import contextlib
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from runomics.domain.task import Reason
from runomics.ports import ProcessRef, TaskEnd
from runomics.runners import attempt_files
from runomics.runners.file_arrivals import FileArrivals
from runomics.runners.launcher_link import LauncherLink

log = structlog.get_logger()

OnRunning = Callable[[Path, int], None]
OnEnd = Callable[[Path, TaskEnd], None]

MAX_LAUNCHES = 4
RETRY_SECONDS = 0.5


@dataclass(slots=True)
class _Attempt:
    """What the thread knows of one attempt. `pidfd` is of the process that is believed to be its supervisor."""

    directory: Path
    listeners: list[tuple[OnRunning, OnEnd]] = field(default_factory=list)
    pidfd: int | None = None
    launches: int = 0
    asked: bool = False
    watch: int | None = None
    started_ms: int | None = None
    cancelled: bool = False


class Supervision:
    """Everything about live attempts. `start`, `cancel` and `report_forbidden` come from any thread and return at once."""

    def __init__(self, launcher_command: list[str], launcher_log: Path) -> None:
        """Start the thread and the launcher; `launcher_command` gets a socket's number as its last argument."""
        self._attempts: dict[Path, _Attempt] = {}
        self._commands: collections.deque[Callable[[], None]] = collections.deque()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._arrivals = FileArrivals()
        self._link = LauncherLink(
            launcher_command, launcher_log, on_answer=self._answered, on_socket=self._socket_changed
        )
        self._link_socket: socket.socket | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="local-runner", daemon=True)
        self._thread.start()

    def start(self, directory: Path, on_running: OnRunning, on_end: OnEnd) -> None:
        """Start, adopt, or report what is there (ports.TaskRunner)."""
        self._post(partial(self._start, directory, (on_running, on_end)))

    def cancel(self, directory: Path) -> None:
        """TERM to the attempt's supervisor, now or as soon as there is one."""
        self._post(partial(self._cancel, directory))

    def report_forbidden(self, directory: Path) -> None:
        """Tell who listens that the attempt will never start."""
        self._post(partial(self._report_forbidden, directory))

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the watching thread, in a callback."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Stop watching and let the launcher end; supervisors go on."""
        self._post(self._close)
        self._thread.join()

    @property
    def launcher_pid(self) -> int | None:
        """The task launcher's process id, None while there is none."""
        return self._link.pid

    def _post(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    def _loop(self) -> None:
        link = self._link
        self._selector.register(self._wake, selectors.EVENT_READ, self._run_commands)
        self._selector.register(self._arrivals.descriptor, selectors.EVENT_READ, self._files_arrived)
        while not self._closed:
            link.start_if_due()
            for key, mask in self._selector.select(self._seconds_to_wait(link)):
                if key.fileobj is self._link_socket:
                    if mask & selectors.EVENT_READ:
                        link.receive()
                    if mask & selectors.EVENT_WRITE:
                        link.send()
                else:
                    _guarded(key.data)
            self._run_due()

    def _seconds_to_wait(self, link: LauncherLink) -> float | None:
        waits = [max(0.0, when - time.monotonic()) for when, _ in self._later]
        to_start = link.seconds_to_start()
        if to_start is not None:
            waits.append(to_start)
        return min(waits, default=None)

    def _run_due(self) -> None:
        now = time.monotonic()
        due = [command for when, command in self._later if when <= now]
        if due:
            self._later = [entry for entry in self._later if entry[0] > now]
            for command in due:
                _guarded(command)

    def _run_commands(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._commands:
            _guarded(self._commands.popleft())

    def _close(self) -> None:
        self._closed = True
        self._link.close()
        for attempt in self._attempts.values():
            self._drop_process(attempt)
        self._selector.close()
        self._arrivals.close()

    def _socket_changed(self, changed: socket.socket | None, wants_to_send: bool) -> None:
        if changed is None:
            if self._link_socket is not None:
                self._selector.unregister(self._link_socket)
            self._link_socket = None
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_to_send else 0)
        if self._link_socket is None:
            self._selector.register(changed, events)
        elif self._selector.get_key(changed).events != events:
            self._selector.modify(changed, events)
        self._link_socket = changed

    def _start(self, directory: Path, listener: tuple[OnRunning, OnEnd]) -> None:
        attempt = self._attempts.get(directory)
        if attempt is None:
            attempt = self._attempts[directory] = _Attempt(directory, [listener])
            attempt.watch = self._arrivals.watch(str(directory))
            self._look(attempt)
            return
        attempt.listeners.append(listener)
        if attempt.started_ms is not None:
            self._call(listener[0], directory, attempt.started_ms)

    def _look(self, attempt: _Attempt) -> None:
        """Find out from its files where the attempt is, and do what that asks for."""
        end = attempt_files.read_end(attempt.directory)
        if end is not None:
            self._finish(attempt, end)
            return
        claim = attempt_files.read_claim(attempt.directory)
        process = None if claim is None else attempt_files.open_process(claim)
        if process is not None:
            self._watch_process(attempt, process)
            self._look_running(attempt)
            # It may have ended between the two looks, with nobody watching yet.
            end = attempt_files.read_end(attempt.directory)
            if end is not None:
                self._finish(attempt, end)
        elif not attempt.asked:
            self._ask(attempt)

    def _ask(self, attempt: _Attempt) -> None:
        """Ask for a supervisor: the first one runs the attempt, a later one sweeps after it and says LOST."""
        if attempt.launches == MAX_LAUNCHES:
            message = f"{MAX_LAUNCHES} supervisors ended without a result; see runtime.log in {attempt.directory} and bin/task-launcher.log"
            self._finish(attempt, TaskEnd(Reason.LOST, None, message))
            return
        attempt.launches += 1
        attempt.asked = True
        self._link.request(str(attempt.directory))

    def _answered(self, directory: str, answer: Mapping[str, Any]) -> None:
        attempt = self._attempts.get(Path(directory))
        if attempt is None:
            return
        attempt.asked = False
        if "error" in answer:
            log.warning("runners.supervisor_not_launched", directory=directory, error=answer["error"])
            attempt.launches -= 1
            self._later.append((time.monotonic() + RETRY_SECONDS, partial(self._look_again, attempt)))
            return
        reference = ProcessRef(answer["pid"], answer["start_time"], attempt_files.boot_id())
        process = attempt_files.open_process(reference)
        if process is None:
            self._look(attempt)
            return
        self._watch_process(attempt, process)

    def _look_again(self, attempt: _Attempt) -> None:
        if self._attempts.get(attempt.directory) is attempt:
            self._look(attempt)

    def _watch_process(self, attempt: _Attempt, process: int) -> None:
        self._drop_process(attempt)
        attempt.pidfd = process
        self._selector.register(process, selectors.EVENT_READ, partial(self._process_ended, attempt, process))
        if attempt.cancelled:
            send_signal(process, signal.SIGTERM)

    def _drop_process(self, attempt: _Attempt) -> None:
        if attempt.pidfd is not None:
            self._selector.unregister(attempt.pidfd)
            os.close(attempt.pidfd)
            attempt.pidfd = None

    def _process_ended(self, attempt: _Attempt, process: int) -> None:
        if self._attempts.get(attempt.directory) is attempt and attempt.pidfd == process:
            self._drop_process(attempt)
            self._look(attempt)

    def _files_arrived(self) -> None:
        for directory, name in self._arrivals.arrived():
            attempt = self._attempts.get(Path(directory))
            if attempt is None:
                continue
            if name in ("running.json", ""):
                self._look_running(attempt)
            if name in ("result.json", ""):
                end = attempt_files.read_end(attempt.directory)
                if end is not None:
                    self._finish(attempt, end)

    def _look_running(self, attempt: _Attempt) -> None:
        if attempt.started_ms is None:
            attempt.started_ms = attempt_files.read_started_ms(attempt.directory)
            if attempt.started_ms is not None:
                for on_running, _ in attempt.listeners:
                    self._call(on_running, attempt.directory, attempt.started_ms)

    def _finish(self, attempt: _Attempt, end: TaskEnd) -> None:
        self._drop_process(attempt)
        if attempt.watch is not None:
            self._arrivals.forget(attempt.watch)
        del self._attempts[attempt.directory]
        for on_running, on_end in attempt.listeners:
            if attempt.started_ms is None and end.started_ms is not None:
                self._call(on_running, attempt.directory, end.started_ms)
            self._call(on_end, attempt.directory, end)

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("runners.callback_failed", directory=str(arguments[0]))

    def _cancel(self, directory: Path) -> None:
        attempt = self._attempts.get(directory)
        if attempt is not None:
            attempt.cancelled = True
            if attempt.pidfd is not None:
                send_signal(attempt.pidfd, signal.SIGTERM)
            return
        claim = attempt_files.read_claim(directory)
        process = None if claim is None else attempt_files.open_process(claim)
        if process is not None:
            send_signal(process, signal.SIGTERM)
            os.close(process)

    def _report_forbidden(self, directory: Path) -> None:
        attempt = self._attempts.get(directory)
        if attempt is not None:
            self._finish(attempt, TaskEnd(Reason.CANCELLED, None, "ended before it started"))


def _guarded(command: Callable[[], None]) -> None:
    """One attempt's trouble must not stop the others: log it and go on."""
    try:
        command()
    except Exception:
        log.exception("runners.command_failed")


def send_signal(process: int, number: int) -> None:
    """Signal a process by its pidfd; one that is gone does not matter."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)
