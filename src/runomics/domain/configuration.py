"""The life of a configuration: its states, the events that move it, and the one table of allowed moves. Pure; server side."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ConfigurationStatus(StrEnum):
    """Source: model, shape ConfigurationStatus. A configuration cannot be changed, and its removal is done when it is answered."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    DELETING = "DELETING"
    DELETED = "DELETED"
    FAILED = "FAILED"


class ConfigurationEvent(StrEnum):
    """What happens to a configuration. CREATING is its creation and not listed."""

    ACTIVATED = "activated"
    NETWORK_MISSING = "network_missing"
    RUN_STARTED = "run_started"
    DELETE_REQUESTED = "delete_requested"


class IllegalConfigurationTransition(Exception):
    """An event that the table does not allow in this status. Nothing was changed."""

    def __init__(self, status: ConfigurationStatus, event: ConfigurationEvent) -> None:
        super().__init__(f"{event} is not allowed in {status}")
        self.status = status
        self.event = event


_S, _E = ConfigurationStatus, ConfigurationEvent

MOVES: Mapping[tuple[ConfigurationStatus, ConfigurationEvent], ConfigurationStatus] = {
    (_S.CREATING, _E.ACTIVATED): _S.ACTIVE,
    (_S.CREATING, _E.NETWORK_MISSING): _S.FAILED,
    (_S.ACTIVE, _E.RUN_STARTED): _S.ACTIVE,
    (_S.ACTIVE, _E.DELETE_REQUESTED): _S.DELETED,
    (_S.FAILED, _E.DELETE_REQUESTED): _S.DELETED,
}
"""Source: guide, workflows-vpc-networking (ACTIVE before it can be used); assumed: it is not deleted while CREATING."""


def accepts(status: ConfigurationStatus, event: ConfigurationEvent) -> bool:
    """Whether `event` may happen to a configuration in `status`."""
    return (status, event) in MOVES


def advance(status: ConfigurationStatus, event: ConfigurationEvent) -> ConfigurationStatus:
    """The status after `event`.

    Raises:
        IllegalConfigurationTransition: the table has no such move.
    """
    to = MOVES.get((status, event))
    if to is None:
        raise IllegalConfigurationTransition(status, event)
    return to
