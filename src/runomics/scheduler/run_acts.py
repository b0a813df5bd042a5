"""What this server has begun for each live run and what came of it. Kept in the server's memory, on the scheduler's threads.

It is lost with the process, and found again by doing the acts again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runomics.domain.failures import Failure
from runomics.domain.run import Failed, RunEvent
from runomics.scheduler.transfer import Exported, Imported

CANCEL_GRACE_MS = 5_000
"""How long an engine or a task may take to leave before it is killed."""
RETRY_MS = 250
"""When to look again at what reports to nobody."""

Happened = tuple[RunEvent | None, Mapping[str, Any]]
"""What came of an act: an event and the columns that go with it; no event while it is not over."""

NOTHING_YET: Happened = (None, {})


def failed(failure: Failure) -> Happened:
    """The act failed, and with it the run."""
    return Failed(failure.reason, failure.message), {}


@dataclass(slots=True)
class Acts:
    """The acts of one run. `parameters`: the document that parametersUri names, or why it cannot be used."""

    parameters: tuple[str | None, str | None] | None = None
    reading_parameters: bool = False
    imported: Imported | None = None
    importing: bool = False
    exported: Exported | None = None
    exporting: bool = False
    engine_started: int = 0
    engine_ended: int = 0
    failing: Failed | None = None
    stopping_since_ms: int | None = None
    leaving_since_ms: int | None = None
    log_exported: bool = False
    log_exporting: bool = False


@dataclass(frozen=True, slots=True)
class ActsOfRuns:
    """The acts of every live run, by run id. Safe to ask from any thread."""

    _acts: dict[int, Acts] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, run_id: int) -> Acts:
        """Those of one run; none were begun when it was not known."""
        with self._lock:
            return self._acts.setdefault(run_id, Acts())

    def forget(self, run_id: int) -> None:
        """Nothing is begun for that run any more."""
        with self._lock:
            self._acts.pop(run_id, None)
