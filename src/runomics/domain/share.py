"""The life of a share of a workflow: its states, the events that move it, and the one table of allowed moves. Pure; server side.

An offer is PENDING until the subscriber accepts it. ACTIVATING and DELETING are what was asked for; the scheduler does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ShareStatus(StrEnum):
    """Source: model, shape ShareStatus."""

    PENDING = "PENDING"
    ACTIVATING = "ACTIVATING"
    ACTIVE = "ACTIVE"
    DELETING = "DELETING"
    DELETED = "DELETED"
    FAILED = "FAILED"


class ShareEvent(StrEnum):
    """What happens to a share. PENDING is its offer and not listed."""

    ACCEPTED = "accepted"
    ACTIVATED = "activated"
    FAILED = "failed"
    DELETE_REQUESTED = "delete_requested"
    DELETED = "deleted"


class IllegalShareTransition(Exception):
    """An event that the table does not allow in this status. Nothing was changed."""

    def __init__(self, status: ShareStatus, event: ShareEvent) -> None:
        super().__init__(f"{event} is not allowed in {status}")
        self.status = status
        self.event = event


_S, _E = ShareStatus, ShareEvent

MOVES: Mapping[tuple[ShareStatus, ShareEvent], ShareStatus] = {
    (_S.PENDING, _E.ACCEPTED): _S.ACTIVATING,
    (_S.ACTIVATING, _E.ACTIVATED): _S.ACTIVE,
    (_S.ACTIVATING, _E.FAILED): _S.FAILED,
    (_S.PENDING, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.ACTIVATING, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.ACTIVE, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.FAILED, _E.DELETE_REQUESTED): _S.DELETING,
    (_S.DELETING, _E.DELETED): _S.DELETED,
}
"""Source: guide, sharing-workflows and eventbridge (the states); assumed: a FAILED share may be deleted."""

LET_GO = frozenset({ShareStatus.DELETING, ShareStatus.DELETED, ShareStatus.FAILED})
"""The others are *live*: they forbid a second share with the same subscriber and the removal of the workflow.

Source: guide, delete-private-workflow (live shares forbid it); assumed: a share being deleted does not.
"""


def accepts(status: ShareStatus, event: ShareEvent) -> bool:
    """Whether `event` may happen to a share in `status`."""
    return (status, event) in MOVES


def advance(status: ShareStatus, event: ShareEvent) -> ShareStatus:
    """The status after `event`.

    Raises:
        IllegalShareTransition: the table has no such move.
    """
    to = MOVES.get((status, event))
    if to is None:
        raise IllegalShareTransition(status, event)
    return to
