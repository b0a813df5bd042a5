"""The life of a workflow: its states, the events that move it, and the one table of allowed moves. Pure; server side."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class WorkflowStatus(StrEnum):
    """Source: model, shape WorkflowStatus. UPDATING and INACTIVE are never entered: an update is done when it is answered."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    DELETED = "DELETED"
    FAILED = "FAILED"
    INACTIVE = "INACTIVE"


class WorkflowEvent(StrEnum):
    """What happens to a workflow. CREATING is its creation and not listed."""

    REGISTERED = "registered"
    REFUSED = "refused"
    UPDATED = "updated"
    DELETE_REQUESTED = "delete_requested"
    RUN_STARTED = "run_started"


class IllegalWorkflowTransition(Exception):
    """An event that the table does not allow in this status. Nothing was changed."""

    def __init__(self, status: WorkflowStatus, event: WorkflowEvent) -> None:
        super().__init__(f"{event} is not allowed in {status}")
        self.status = status
        self.event = event


_S, _E = WorkflowStatus, WorkflowEvent

MOVES: Mapping[tuple[WorkflowStatus, WorkflowEvent], WorkflowStatus] = {
    (_S.CREATING, _E.REGISTERED): _S.ACTIVE,
    (_S.CREATING, _E.REFUSED): _S.FAILED,
    (_S.ACTIVE, _E.UPDATED): _S.ACTIVE,
    (_S.FAILED, _E.UPDATED): _S.FAILED,
    (_S.ACTIVE, _E.RUN_STARTED): _S.ACTIVE,
    (_S.ACTIVE, _E.DELETE_REQUESTED): _S.DELETED,
    (_S.FAILED, _E.DELETE_REQUESTED): _S.DELETED,
}
"""Source: guide, delete-private-workflow (what may be deleted); assumed: nothing else is changed while CREATING."""


def accepts(status: WorkflowStatus, event: WorkflowEvent) -> bool:
    """Whether `event` may happen to a workflow in `status`."""
    return (status, event) in MOVES


def advance(status: WorkflowStatus, event: WorkflowEvent) -> WorkflowStatus:
    """The status after `event`.

    Raises:
        IllegalWorkflowTransition: the table has no such move.
    """
    to = MOVES.get((status, event))
    if to is None:
        raise IllegalWorkflowTransition(status, event)
    return to
