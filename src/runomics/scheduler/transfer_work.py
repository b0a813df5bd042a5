"""What an import and an export have in common: one piece of work of one run, its failure, progress and end. Runs in the server."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from runomics.ports import ObjectChanged, ObjectForbidden, ObjectMissing, ObjectsUnreachable
from runomics.scheduler.input_cache import GivenUp
from runomics.scheduler.transfer_lanes import Lanes

log = structlog.get_logger()

Failure = tuple[str, str]
"""failureReason and statusMessage."""

Check = Callable[[], Failure | None]
"""Asked once, on a transfer thread, before anything moves; a failure ends the work."""

Result = TypeVar("Result")
Answer = TypeVar("Answer")

PATIENCE_SECONDS = 120.0
"""How long a store that cannot be reached is waited for, from each request on."""

LONGEST_PAUSE_SECONDS = 5.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(slots=True)
class Meter:
    """Bytes of a run that have moved, and that are to move as far as is known. Counted under the work's lock."""

    imported_bytes: int = 0
    import_total_bytes: int = 0
    exported_bytes: int = 0
    export_total_bytes: int = 0

    def start_over(self, what: str) -> None:
        """Count the import, or the export, from nothing again."""
        if what == "import":
            self.imported_bytes = self.import_total_bytes = 0
        else:
            self.exported_bytes = self.export_total_bytes = 0


class Work(Generic[Result]):
    """The state of one import or export. Its callbacks are called once, unless it is given up before."""

    def __init__(
        self, lanes: Lanes, run_directory: Path, meter: Meter, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.lanes = lanes
        self.run_directory = run_directory
        self.meter = meter
        self.lock = threading.RLock()
        self._callbacks: list[Callable[[Result], None]] = []
        self._failures: dict[int, Failure] = {}
        self._given_up = False
        self._over = threading.Event()
        self._patience_seconds = patience_seconds
        self._result: Result | None = None

    def when_done(self, callback: Callable[[Result], None]) -> None:
        """Call back with the result, at once if it is there."""
        with self.lock:
            if self._result is None:
                self._callbacks.append(callback)
                return
        callback(self._result)

    def end(self, result: Result) -> None:
        """The work is over."""
        with self.lock:
            if self._given_up or self._result is not None:
                return
            self._result = result
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(result)

    def give_up(self) -> None:
        """Nobody wants the result any more: no callback, and nothing more is begun."""
        with self.lock:
            self._given_up = True
            self._over.set()

    def fail(self, place: int, failure: Failure) -> None:
        """Record a failure of the `place`-th thing to do. The first place is what is told."""
        with self.lock:
            self._failures.setdefault(place, failure)
            self._over.set()

    def failure(self) -> Failure | None:
        """The failure to tell, if any."""
        with self.lock:
            return self._failures[min(self._failures)] if self._failures else None

    def is_over(self) -> bool:
        """Whether there is no point in going on: it failed, or nobody wants it."""
        with self.lock:
            return self._given_up or bool(self._failures)

    def keep_on(self) -> None:
        """Raises: GivenUp, when `is_over`. Called between pieces of a transfer."""
        if self.is_over():
            raise GivenUp

    def pause(self, seconds: float) -> bool:
        """Wait so long; at once False when there is no point in going on."""
        return not self._over.wait(seconds)

    def patiently(self, act: Callable[[], Answer]) -> Answer:
        """What `act` answers, tried again while the object store cannot be reached.

        Raises:
            ObjectsUnreachable: for too long, or there is no point in going on. What `act` raises.
        """
        return patiently(act, self.absence(), self.pause)

    def absence(self) -> Absence:
        """What to think of a store that begins to be out of reach."""
        return Absence(time.monotonic() + self._patience_seconds)


@dataclass(frozen=True, slots=True)
class Absence:
    """A store that could not be reached: until when it is waited for (monotonic seconds), and how long before the next try."""

    until: float
    pause_seconds: float = 0.25

    def longer(self) -> Absence | None:
        """After another try in vain; None when that was the last."""
        if time.monotonic() >= self.until:
            return None
        return replace(self, pause_seconds=min(self.pause_seconds * 2, LONGEST_PAUSE_SECONDS))


def patiently(act: Callable[[], Answer], absence: Absence, pause: Callable[[float], bool]) -> Answer:
    """As `Work.patiently`; `pause(seconds)` waits and says whether to go on."""
    left: Absence | None = absence
    while True:
        try:
            return act()
        except ObjectsUnreachable as error:
            log.warning("transfer.store_unreachable", error=str(error))
            if left is None or not pause(left.pause_seconds):
                raise
        left = left.longer()


def import_failure(uri: str, error: BaseException) -> Failure:
    """What an error while an input is looked up or fetched means for the run."""
    if isinstance(error, ObjectMissing):
        return "INPUT_URI_NOT_FOUND", f"Input {uri} does not exist: {error}."
    if isinstance(error, ObjectForbidden):
        return "IMPORT_FAILED", f"Input {uri} cannot be read: {error}."
    if isinstance(error, ObjectChanged):
        return "MODIFIED_INPUT_RESOURCE", f"Input {uri} was changed after the run had started: {error}."
    if isinstance(error, ValueError):
        return "INVALID_URI_INPUT", f"Input URI is malformed: {error}."
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            "SERVICE_ERROR",
            f"The server has no space for input {uri}: {error}. Make room, then start the run again.",
        )
    return "SERVICE_ERROR", f"Input {uri} could not be fetched: {error or type(error).__name__}. Start the run again."


def export_failure(source: str, uri: str, error: BaseException) -> Failure:
    """What an error while an output is stored means for the run."""
    if isinstance(error, ObjectMissing | ObjectForbidden | ValueError):
        return "EXPORT_FAILED", f"Output {source} cannot be stored as {uri}: {error}."
    if isinstance(error, OSError) and error.errno in _FULL:
        return (
            "SERVICE_ERROR",
            f"There is no space to store output {source} as {uri}: {error}. Make room, then start the run again.",
        )
    return (
        "SERVICE_ERROR",
        f"Output {source} could not be stored as {uri}: {error or type(error).__name__}. Start the run again.",
    )
