"""What the parts of one CWL run share: its gateway, places, and why it cannot go on. Runs in the run process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from cwltool.context import RuntimeContext

from runomics.engines import stager
from runomics.engines.gateway_client import Gateway
from runomics.engines.language import Stop
from runomics.engines.outcome import Failure

DEFINITION = "/mnt/workflow/definition"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the workflow something is: the names of steps from the top, each with its scatter indices and loop iterations."""

    names: tuple[str, ...] = ()

    def below(self, name: str, indices: Sequence[int] = ()) -> Place:
        """The place of a step."""
        return Place((*self.names, "-".join([name, *map(str, indices)])))

    @property
    def key(self) -> str:
        """Unique in the run; also the path of the task's directory."""
        return "/".join(self.names)

    @property
    def name(self) -> str:
        """What the task is called."""
        return self.names[-1]


class Ended(Exception):
    """The run is over before its workflow is: it failed, is being ended, or the server is gone."""


@dataclass(slots=True)
class Conduct:
    """One run. `workdirs` are this incarnation's working directory and those of earlier ones, newest first."""

    gateway: Gateway
    stop: Stop
    stage: stager.Stager
    workdirs: Sequence[str]
    failure: Failure | None = None
    lost: BaseException | None = None
    told: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def workdir(self) -> str:
        """This incarnation's."""
        return self.workdirs[0]

    def terminating(self) -> bool:
        """Whether nothing new should be begun."""
        return self.stop.requested or self.lost is not None

    def fail(self, failure: Failure) -> None:
        """The run cannot succeed any more; the first reason is what is told."""
        with self.lock:
            self.failure = self.failure or failure

    def check(self) -> None:
        """Raises: Ended, when there is no point in going on."""
        if self.failure is not None or self.terminating():
            raise Ended


class Context(RuntimeContext):
    """cwltool's settings for running, and ours beside them. Copied by cwltool as it goes down a workflow."""

    conduct: Conduct
    place: Place = Place()


_EXPRESSION = "Failed to evaluate expression:"


class ErrorListener(logging.Handler):
    """Keeps what cwltool only logs: the errors of each thread, for whoever must say why a job failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._of_thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one error; cwltool only warns of an expression that ends a workflow."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR or message.startswith(_EXPRESSION):
            self.said().append(message.removeprefix(_EXPRESSION).strip())

    def said(self) -> list[str]:
        """The errors of the calling thread since `forget`."""
        found: list[str] | None = getattr(self._of_thread, "errors", None)
        if found is None:
            found = self._of_thread.errors = []
        return found

    def forget(self) -> None:
        """Begin anew for the calling thread."""
        self._of_thread.errors = []


ERRORS = ErrorListener()
