"""The life of a task: its states, the events that move it, and the one table of allowed moves. Pure; used by every process."""

from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """Source: model, shape TaskStatus."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class TaskEvent(StrEnum):
    """What happens to a task. QUEUED is its creation and not listed."""

    ADMITTED = "admitted"
    STARTED = "started"
    STOP_REQUESTED = "stop_requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """How a task attempt ended, in the words of the gateway and of result.json."""

    OK = "OK"
    EXIT = "EXIT"
    OOM = "OOM"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    IMAGE = "IMAGE"
    REFUSED = "REFUSED"
    RUNTIME = "RUNTIME"
    LOST = "LOST"


RETRIED_BY_SERVICE = frozenset({Reason.LOST, Reason.RUNTIME})
"""Ends that are no fault of the task: the service tries again, unseen by the engine."""


class IllegalTaskTransition(Exception):
    """An event that the table does not allow in this status. Nothing was changed."""

    def __init__(self, status: TaskStatus, event: TaskEvent) -> None:
        super().__init__(f"{event} is not allowed in {status}")
        self.status = status
        self.event = event


_S, _E = TaskStatus, TaskEvent
_OPEN = (_S.PENDING, _S.STARTING, _S.RUNNING, _S.STOPPING)

MOVES: dict[tuple[TaskStatus, TaskEvent], TaskStatus] = {
    (_S.PENDING, _E.ADMITTED): _S.STARTING,
    (_S.STARTING, _E.STARTED): _S.RUNNING,
    (_S.STARTING, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.RUNNING, _E.STOP_REQUESTED): _S.STOPPING,
    (_S.STARTING, _E.SUCCEEDED): _S.COMPLETED,
    (_S.RUNNING, _E.SUCCEEDED): _S.COMPLETED,
    (_S.STOPPING, _E.SUCCEEDED): _S.COMPLETED,
    **{(status, _E.FAILED): _S.FAILED for status in _OPEN},
    **{(status, _E.CANCELLED): _S.CANCELLED for status in _OPEN},
}


def accepts(status: TaskStatus, event: TaskEvent) -> bool:
    """Whether `event` may happen to a task in `status`."""
    return (status, event) in MOVES


def advance(status: TaskStatus, event: TaskEvent) -> TaskStatus:
    """The status after `event`.

    Raises:
        IllegalTaskTransition: the table has no such move.
    """
    to = MOVES.get((status, event))
    if to is None:
        raise IllegalTaskTransition(status, event)
    return to


def end_event(reason: Reason) -> TaskEvent:
    """The event that ends a task whose attempt ended for `reason`."""
    if reason is Reason.OK:
        return TaskEvent.SUCCEEDED
    if reason is Reason.CANCELLED:
        return TaskEvent.CANCELLED
    return TaskEvent.FAILED
