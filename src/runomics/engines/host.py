"""The server's handle on run processes: starts and adopts them, watches for their end, reads what they left. Owns one thread.

Nothing here is remembered that the run's directory does not say: after a restart `start` finds the process that claimed
the incarnation, and its result.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import stat
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from runomics.engines import claim, footprint, installed
from runomics.engines.launcher_process import LauncherProcess
from runomics.ports import EngineResult, Inspection, InspectionGivenUp, ProcessRef

log = structlog.get_logger()

INSPECTION_LOOK_SECONDS = 0.5

_MOST_RESULT_BYTES = 256 << 20
_INSPECTION_MEMORY_BYTES = 2 << 30
_MOST_PARSED_BYTES = 64 << 20
_PARSED_NAME = re.compile(r"parsed-[a-z]+-[0-9.]+-[0-9a-f]{16}")
_RESULT_FORMATS = (1,)
_LAUNCHER_PATIENCE_SECONDS = 120.0


@dataclass(slots=True)
class _Watch:
    """One incarnation of one run: who is told of its end, and what is known of its process."""

    directory: Path
    incarnation: int
    on_end: Callable[[Path], None]
    request_id: str | None = None
    process: ProcessRef | None = None
    descriptor: int | None = None
    signal_to_send: signal.Signals | None = None


class ForkedEngineHost:
    """`ports.EngineHost` by forking from one warm launcher process.

    Args:
        data: the data directory; uses `sandbox/` (mount point), `inspections/` and `engine-launcher.log` in it.
        inspection_uid: the user that inspections run as when the server is root, one that no run has.
    """

    def __init__(self, *, data: Path, inspection_uid: int) -> None:
        self._base = data / "sandbox"
        self._inspections = data / "inspections"
        self._rootless = os.geteuid() != 0
        self._inspection_uid = os.geteuid() if self._rootless else inspection_uid
        self._inspection_gid = os.getegid() if self._rootless else inspection_uid
        self._selector = selectors.DefaultSelector()
        self._launcher = LauncherProcess(self._selector, data / "engine-launcher.log")
        self._watches: dict[Path, _Watch] = {}
        self._next_look = 0.0
        self._work: deque[Callable[[], None]] = deque()
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._inspecting: dict[str, threading.Event] = {}
        self._gave_up = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._giving_up = threading.Event()
        self._closing = False
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="engine-host", daemon=True)

    def open(self) -> None:
        """Start the launcher and the thread; returns at once. Requests wait until the launcher is warm."""
        self._base.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.rmtree(self._inspections, ignore_errors=True)
        self._inspections.mkdir(mode=0o700)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self._do(self._launcher.start)
        self._thread.start()

    def close(self) -> None:
        """Stop watching and let the launcher end. Run processes go on; the next server adopts them."""
        if not self._thread.is_alive():
            return

        def end() -> None:
            self._closing = True

        self._do(end)
        self._thread.join()

    def give_up_inspections(self) -> None:
        """Let nobody wait for an inspection any more: those under way are ended, none is begun. The next server begins them again."""
        with self._lock:
            self._giving_up.set()
            waiting = tuple(self._inspecting.values())
        os.eventfd_write(self._gave_up, 1)
        for answered in waiting:
            answered.set()

    @property
    def launcher_pid(self) -> int | None:
        """The launcher's process, for `doctor` and tests."""
        return self._launcher.pid

    # ---- ports.EngineHost --------------------------------------------------------------------------------------

    def engines(self) -> Mapping[str, str]:
        """See ports.EngineHost."""
        return installed.engines()

    def start(self, run_directory: Path, on_end: Callable[[Path], None]) -> None:
        """See ports.EngineHost. Raises: OSError, ValueError when plan.json cannot be read."""
        incarnation = _planned_incarnation(run_directory)
        self._do(lambda: self._watch(run_directory, incarnation, on_end))

    def is_alive(self, run_directory: Path) -> bool:
        """See ports.EngineHost."""
        process = claim.owner(run_directory, _planned_incarnation(run_directory))
        return process is not None and claim.is_alive(process)

    def result(self, run_directory: Path, incarnation: int) -> EngineResult | None:
        """See ports.EngineHost."""
        document = _read_left(run_directory / "engine" / "result.json")
        if document is None or document.get("incarnation") != incarnation:
            return None
        try:
            return _engine_result(document)
        except (TypeError, ValueError) as error:
            log.error("engines.result_unreadable", directory=str(run_directory), error=str(error))
            failure = {"kind": "engine", "message": f"the engine left a result that cannot be read: {error}"}
            return EngineResult(incarnation=incarnation, succeeded=False, failure=failure)

    def stop(self, run_directory: Path, *, kill: bool) -> None:
        """See ports.EngineHost. A run that is still waiting for the launcher is not started any more."""
        number = signal.SIGKILL if kill else signal.SIGTERM
        self._do(lambda: self._stop(run_directory, number))

    def inspect(self, engine: str, tree: Path, main: str, timeout_seconds: float) -> Inspection:
        """See ports.EngineHost. The time spent waiting for the launcher to be warm does not count."""
        missing = installed.engines().get(engine, f"{engine} is no engine of this server")
        if missing:
            return Inspection(
                engine=engine, main=main, failure=f"engine {engine} is not installed on this server: {missing}"
            )
        directory = self._inspections / uuid.uuid4().hex
        directory.mkdir(mode=0o711)
        try:
            return self._inspect(directory, engine, tree, main, timeout_seconds)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    # ---- on any thread -----------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], None]) -> None:
        """Have `work` done on the host's thread, soon and in order."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine host is closed")
            self._work.append(work)
            with contextlib.suppress(BlockingIOError):
                os.write(self._waker, b"\0")

    def _inspect(self, directory: Path, engine: str, tree: Path, main: str, timeout_seconds: float) -> Inspection:
        request = {
            "format": 1,
            "engine": engine,
            "main": main,
            "definition": str(tree),
            "base": str(self._base),
            "engine_directory": str(directory / "engine"),
            "log": str(directory / "log"),
            "uid": self._inspection_uid,
            "gid": self._inspection_gid,
            "rootless": self._rootless,
            "cpu_seconds": int(timeout_seconds) + 1,
            "address_space_bytes": _INSPECTION_MEMORY_BYTES,
        }
        path = directory / "inspect.json"
        path.write_text(json.dumps(request))
        answer = self._answer({"id": directory.name, "kind": "inspect", "request": str(path)})
        if answer is None:
            return Inspection(
                engine=engine, main=main, failure="the definition could not be read: the engine launcher does not start"
            )
        left_in_time = _wait_for_end(answer, timeout_seconds, directory, self._gave_up)
        if self._giving_up.is_set():
            raise InspectionGivenUp("the server is stopping")
        found = _read_left(directory / "engine" / "interface.json")
        if found is not None:
            _keep_parsed(directory / "engine", tree.parent)
            return _inspection(found)
        return Inspection(
            engine=engine, main=main, failure=_why_nothing(answer, left_in_time, timeout_seconds, directory)
        )

    def _answer(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the launcher says to a request for an inspection; None when it does not start.

        Raises:
            InspectionGivenUp: the server is stopping.
        """
        request_id, answered = str(message["id"]), threading.Event()
        answers: list[Mapping[str, Any]] = []

        def on_answer(answer: Mapping[str, Any]) -> None:
            if self._giving_up.is_set():
                _kill(answer)
            answers.append(answer)
            answered.set()

        with self._lock:
            if self._giving_up.is_set():
                raise InspectionGivenUp("the server is stopping")
            self._inspecting[request_id] = answered
        try:
            self._do(lambda: self._launcher.ask(message, on_answer))
            answered.wait(_LAUNCHER_PATIENCE_SECONDS)
        finally:
            with self._lock:
                del self._inspecting[request_id]
        if not answers and self._giving_up.is_set():
            self._do(partial(self._withdraw, request_id))
            raise InspectionGivenUp("the server is stopping")
        return answers[0] if answers else None

    # ---- on the host's thread ----------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._seconds_to_wait()):
                self._guarded(key.data)
            self._guarded(self._look)
            while self._work:
                self._guarded(self._work.popleft())
            if not self._closing:
                self._guarded(self._launcher.tick)
        with self._lock:
            self._closed = True
        self._launcher.close()
        for watch in self._watches.values():
            if watch.descriptor is not None:
                os.close(watch.descriptor)
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)
        os.close(self._gave_up)

    def _seconds_to_wait(self) -> float | None:
        waits = [self._launcher.seconds_to_wait()]
        if self._watches:
            waits.append(max(0.0, self._next_look - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _look(self) -> None:
        """End the engines that fill the server's disk; their runs then fail as those of lost engines do."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + footprint.LOOK_SECONDS
        for watch in tuple(self._watches.values()):
            directory = watch.directory
            if watch.process is not None and footprint.is_too_large(directory / "engine", directory / "engine.log"):
                log.error("engines.ended_for_its_files", directory=str(directory), most_bytes=footprint.MOST_BYTES)
                claim.send_signal(watch.process, signal.SIGKILL)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("engines.host_error")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass

    def _withdraw(self, request_id: str) -> None:
        self._launcher.forget(request_id)

    def _watch(self, directory: Path, incarnation: int, on_end: Callable[[Path], None]) -> None:
        known = self._watches.get(directory)
        if known is not None and known.incarnation == incarnation:
            known.on_end = on_end
            return
        if known is not None:
            self._unwatch(known)
        watch = _Watch(directory, incarnation, on_end)
        self._watches[directory] = watch
        if claim.owner(directory, incarnation) is not None:
            self._follow_owner(watch)
            return
        watch.request_id = uuid.uuid4().hex
        message = {"id": watch.request_id, "kind": "run", "plan": str(directory / "plan.json")}
        self._launcher.ask(message, lambda answer: self._on_started(watch, answer))

    def _on_started(self, watch: _Watch, answer: Mapping[str, Any]) -> None:
        watch.request_id = None
        if "pid" not in answer:
            log.error("engines.start_failed", directory=str(watch.directory), error=answer.get("error"))
            self._end(watch)
            return
        process = ProcessRef(int(answer["pid"]), int(answer["start_time"]), claim.boot_id())
        if not self._follow(watch, process):
            self._follow_owner(watch)

    def _follow_owner(self, watch: _Watch) -> None:
        """Watch whoever claimed the incarnation; when that process is gone, so is the engine."""
        process = claim.owner(watch.directory, watch.incarnation)
        if process is None or not self._follow(watch, process):
            self._end(watch)

    def _follow(self, watch: _Watch, process: ProcessRef) -> bool:
        descriptor = claim.open_living(process)
        if descriptor is None:
            return False
        watch.process, watch.descriptor = process, descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._on_exit(watch))
        if watch.signal_to_send is not None:
            claim.send_signal(process, watch.signal_to_send)
        return True

    def _on_exit(self, watch: _Watch) -> None:
        ended = watch.process
        self._close_descriptor(watch)
        process = claim.owner(watch.directory, watch.incarnation)
        if process is not None and process != ended:
            # What ended was a second copy that found the incarnation claimed.
            self._follow_owner(watch)
            return
        self._end(watch)

    def _end(self, watch: _Watch) -> None:
        if self._watches.get(watch.directory) is not watch:
            return
        del self._watches[watch.directory]
        watch.on_end(watch.directory)

    def _unwatch(self, watch: _Watch) -> None:
        self._close_descriptor(watch)
        if watch.request_id is not None:
            self._launcher.forget(watch.request_id)
        del self._watches[watch.directory]

    def _close_descriptor(self, watch: _Watch) -> None:
        if watch.descriptor is not None:
            self._selector.unregister(watch.descriptor)
            os.close(watch.descriptor)
            watch.descriptor = None

    def _stop(self, directory: Path, number: signal.Signals) -> None:
        watch = self._watches.get(directory)
        if watch is not None and watch.request_id is not None:
            if self._launcher.forget(watch.request_id):
                watch.request_id = None
                self._end(watch)
            else:
                watch.signal_to_send = number
            return
        process = watch.process if watch is not None else claim.owner(directory, _planned_incarnation(directory))
        if process is not None:
            claim.send_signal(process, number)


def _planned_incarnation(run_directory: Path) -> int:
    return int(json.loads((run_directory / "plan.json").read_bytes())["incarnation"])


def _read_left(path: Path) -> dict[str, Any] | None:
    """A JSON object that sandboxed code left."""
    content = _bytes_left(path, _MOST_RESULT_BYTES)
    if content is None:
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") not in _RESULT_FORMATS:
        return None
    return document


def _bytes_left(path: Path, most_bytes: int) -> bytes | None:
    """A file that sandboxed code left: it owns the directory, so what lies there may be anything."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)


def _keep_parsed(left: Path, definition: Path) -> None:
    """Put the parsed form that an inspection left beside the definition's tree, for its runs; nothing here looks into it."""
    for path in [path for path in left.iterdir() if _PARSED_NAME.fullmatch(path.name)][:1]:
        content = _bytes_left(path, _MOST_PARSED_BYTES)
        if content is not None:
            temporary = definition / f".{path.name}.{uuid.uuid4().hex}"
            temporary.write_bytes(content)
            os.replace(temporary, definition / path.name)


def _engine_result(document: Mapping[str, Any]) -> EngineResult:
    status = document.get("status")
    outputs, failure = document.get("outputs"), document.get("failure")
    exports = document.get("exports") or []
    if status not in ("SUCCEEDED", "FAILED", "CANCELLED"):
        raise ValueError(f"status {status!r}")
    for name, value in (("outputs", outputs), ("failure", failure)):
        if value is not None and not isinstance(value, dict):
            raise TypeError(f"{name} is no object")
    if not isinstance(exports, list) or not all(isinstance(one, dict) for one in exports):
        raise TypeError("exports is no list of objects")
    return EngineResult(
        incarnation=int(document["incarnation"]),
        succeeded=status == "SUCCEEDED",
        cancelled=status == "CANCELLED",
        outputs=outputs,
        exports=exports,
        failure=failure,
        engine_version=document.get("engine_version"),
    )


def _inspection(found: Mapping[str, Any]) -> Inspection:
    return Inspection(
        engine=str(found["engine"]),
        main=str(found["main"]),
        inputs=list(found.get("inputs") or []),
        outputs=list(found.get("outputs") or []),
        message=str(found.get("message") or ""),
        failure=found.get("failure"),
    )


def _kill(answer: Mapping[str, Any]) -> None:
    """End an inspection that nobody waits for."""
    if "pid" in answer:
        claim.send_signal(ProcessRef(int(answer["pid"]), int(answer["start_time"]), claim.boot_id()), signal.SIGKILL)


def _wait_for_end(answer: Mapping[str, Any], timeout_seconds: float, directory: Path, gave_up: int) -> bool:
    """Whether the inspection process ended by itself in time; it is killed when it did not, and when it fills the disk.

    Also when `gave_up` can be read: nobody wants to know any more.
    """
    if "pid" not in answer:
        return True
    descriptor = claim.open_living(ProcessRef(int(answer["pid"]), int(answer["start_time"]), claim.boot_id()))
    if descriptor is None:
        return True
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            selector.register(gave_up, selectors.EVENT_READ)
            deadline = time.monotonic() + timeout_seconds
            while (left := deadline - time.monotonic()) > 0:
                ready = {key.fd for key, _ in selector.select(min(left, INSPECTION_LOOK_SECONDS))}
                if descriptor in ready:
                    return True
                if ready or footprint.is_too_large(directory / "engine", directory / "log"):
                    break
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            selector.unregister(gave_up)
            selector.select(timeout_seconds)
            return False
    finally:
        os.close(descriptor)


def _why_nothing(answer: Mapping[str, Any], left_in_time: bool, timeout_seconds: float, directory: Path) -> str:
    if not left_in_time:
        return f"the definition could not be read within {timeout_seconds:g} seconds"
    told = str(answer.get("error", ""))
    if not told and (directory / "log").exists():
        told = (directory / "log").read_text("utf-8", errors="replace").strip().rpartition("\n")[2][:500]
    log.error("engines.inspection_failed", error=told)
    return f"the definition could not be read: {told or 'the process that read it was ended'}"
