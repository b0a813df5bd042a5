"""The life of a run: its states, the events that move it, and the one table of allowed moves. Pure; used by every process.

A run's joint state is (status, phase, outcome). `status` is what clients see; `phase` says what a RUNNING run is doing;
`outcome` is the end that a STOPPING (or exporting) run is carrying. Whatever the table does not list is illegal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class RunStatus(StrEnum):
    """Source: model, shape RunStatus."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    DELETED = "DELETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class RunPhase(StrEnum):
    """What a RUNNING run is doing. Never shown by the API."""

    IMPORTING = "importing"
    EXECUTING = "executing"
    EXPORTING = "exporting"


ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.DELETED})
"""The states no run leaves but by deletion. "Open" always means: not in this set."""

OUTCOMES = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RunState:
    """The joint state that `advance` moves. `incarnation` counts engine starts, from 1; 0 before the first."""

    status: RunStatus = RunStatus.PENDING
    phase: RunPhase | None = None
    outcome: RunStatus | None = None
    incarnation: int = 0


# ---- events, in the past tense -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is room for the run."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Volume, definition and plan exist."""


@dataclass(frozen=True, slots=True)
class InputsImported:
    """Every input named by the parameters is staged."""


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The engine ended without a result and may be started again."""


@dataclass(frozen=True, slots=True)
class EngineSucceeded:
    """The engine left its outputs in result.json."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A time limit ended the run; outputs of finished tasks are still exported."""


@dataclass(frozen=True, slots=True)
class OutputsExported:
    """Everything that is to be delivered has been."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The run cannot go on. `reason` is a failureReason of the API, `message` its text."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client asked for the run's end."""


@dataclass(frozen=True, slots=True)
class StorageReleased:
    """Engine and tasks are gone, the volume is destroyed."""


@dataclass(frozen=True, slots=True)
class ReleaseAbandoned:
    """The volume could not be destroyed now; a later sweep does it."""


@dataclass(frozen=True, slots=True)
class DeleteRequested:
    """A client asked for the run's metadata to go."""


RunEvent = (
    Admitted
    | Prepared
    | InputsImported
    | EngineLost
    | EngineSucceeded
    | TimedOut
    | OutputsExported
    | Failed
    | CancelRequested
    | StorageReleased
    | ReleaseAbandoned
    | DeleteRequested
)


class IllegalTransition(Exception):
    """An event that the table does not allow in this state. Nothing was changed."""

    def __init__(self, state: RunState, event: type[RunEvent]) -> None:
        super().__init__(f"{event.__name__} is not allowed in {state.status}/{state.phase}/{state.outcome}")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the table: from (status, phase) by an event to (status, phase, outcome).

    `outcome` None keeps the outcome carried so far; `to` None means: the outcome carried becomes the status.
    """

    status: RunStatus
    phase: RunPhase | None
    event: type[RunEvent]
    to: RunStatus | None
    to_phase: RunPhase | None = None
    outcome: RunStatus | None = None
    starts_engine: bool = False


_S, _P = RunStatus, RunPhase
_LIVE: tuple[tuple[RunStatus, RunPhase | None], ...] = (
    (_S.STARTING, None),
    (_S.RUNNING, _P.IMPORTING),
    (_S.RUNNING, _P.EXECUTING),
    (_S.RUNNING, _P.EXPORTING),
)

MOVES: tuple[Move, ...] = (
    Move(_S.PENDING, None, Admitted, _S.STARTING),
    Move(_S.PENDING, None, CancelRequested, _S.CANCELLED),
    Move(_S.PENDING, None, Failed, _S.FAILED),
    Move(_S.STARTING, None, Prepared, _S.RUNNING, _P.IMPORTING),
    Move(_S.RUNNING, _P.IMPORTING, InputsImported, _S.RUNNING, _P.EXECUTING, starts_engine=True),
    Move(_S.RUNNING, _P.EXECUTING, EngineLost, _S.RUNNING, _P.EXECUTING, starts_engine=True),
    Move(_S.RUNNING, _P.EXECUTING, EngineSucceeded, _S.RUNNING, _P.EXPORTING),
    Move(_S.RUNNING, _P.EXECUTING, TimedOut, _S.RUNNING, _P.EXPORTING, outcome=_S.FAILED),
    Move(_S.RUNNING, _P.EXPORTING, OutputsExported, _S.STOPPING, outcome=_S.COMPLETED),
    *(Move(status, phase, CancelRequested, _S.STOPPING, outcome=_S.CANCELLED) for status, phase in _LIVE),
    *(Move(status, phase, Failed, _S.STOPPING, outcome=_S.FAILED) for status, phase in _LIVE),
    Move(_S.STOPPING, None, CancelRequested, _S.STOPPING, outcome=_S.CANCELLED),
    Move(_S.STOPPING, None, StorageReleased, None),
    Move(_S.STOPPING, None, ReleaseAbandoned, None),
    Move(_S.COMPLETED, None, DeleteRequested, _S.DELETED),
    Move(_S.FAILED, None, DeleteRequested, _S.DELETED),
    Move(_S.CANCELLED, None, DeleteRequested, _S.DELETED),
)

_TABLE: dict[tuple[RunStatus, RunPhase | None, type[RunEvent]], Move] = {
    (move.status, move.phase, move.event): move for move in MOVES
}


def accepts(state: RunState, event: type[RunEvent]) -> bool:
    """Whether `event` may happen to a run in `state`."""
    return (state.status, state.phase, event) in _TABLE


def advance(state: RunState, event: RunEvent) -> RunState:
    """The state after `event`.

    An outcome carried through exporting (a time-out) outlives OutputsExported; a cancel replaces any other outcome.

    Raises:
        IllegalTransition: the table has no such move.
    """
    move = _TABLE.get((state.status, state.phase, type(event)))
    if move is None:
        raise IllegalTransition(state, type(event))
    if move.to is None:
        if state.outcome is None:
            raise IllegalTransition(state, type(event))
        return replace(state, status=state.outcome, phase=None)
    outcome = move.outcome or state.outcome
    if isinstance(event, OutputsExported):
        outcome = state.outcome or move.outcome
    if move.to in OUTCOMES:
        outcome = move.to
    incarnation = state.incarnation + 1 if move.starts_engine else state.incarnation
    return RunState(status=move.to, phase=move.to_phase, outcome=outcome, incarnation=incarnation)
