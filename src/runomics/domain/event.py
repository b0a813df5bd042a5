"""A change of status that somebody may want to be told of, and which ones a webhook wants. Pure; used by store, events and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with


class Topic(StrEnum):
    """What a webhook may choose, in the words of `runomics events add --kinds`."""

    RUN = "run"
    TASK = "task"
    BATCH = "batch"
    WORKFLOW = "workflow"
    SHARE = "share"


TOPICS: Mapping[str, Topic] = {
    "run": Topic.RUN,
    "task": Topic.TASK,
    "run-batch": Topic.BATCH,
    "workflow": Topic.WORKFLOW,
    "workflow-version": Topic.WORKFLOW,
    "share": Topic.SHARE,
}
"""The kind of a row of the outbox → the topic it belongs to. What is not here is nobody told of."""


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """One resource came into one status, as it stands in the queue of one webhook.

    `id` orders the queue. `seq` is the revision the status came with, so (account, kind, resource_id, seq) names the event for
    good. `tries` is how often this webhook refused it. `detail` is what is known of the resource besides.
    """

    id: int
    account: str
    kind: str
    resource_id: str
    status: str
    seq: int
    at_ms: int
    detail: Mapping[str, Any]
    tries: int = 0

    @property
    def resource(self) -> tuple[str, str]:
        """What the order of events holds for."""
        return (self.kind, self.resource_id)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of events, set by an operator. `account` None: of all accounts. `secret`: `whsec_` and the base64 of the key.

    `failure` and `failing_since_ms` tell of the last attempt; None when it went well.
    """

    id: int
    url: str
    account: str | None
    topics: frozenset[Topic]
    secret: str = field(repr=False)
    created_ms: int
    failure: str | None = None
    failing_since_ms: int | None = None

    def wants(self, *, account: str, kind: str, at_ms: int) -> bool:
        """Whether it is to be told of an event. Of what was before the webhook it is not."""
        return (
            TOPICS.get(kind) in self.topics
            and (self.account is None or self.account == account)
            and at_ms >= self.created_ms
        )
